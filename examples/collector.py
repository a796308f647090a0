"""Who talks most, from NetFlow, IPFIX and sFlow: python examples/collector.py tap:ws0 10.7.0.1/24"""

import sys

import wirespeed as ws
from wirespeed.apps.collector.collector import Collector
from wirespeed.apps.collector.report import Reporter
from wirespeed.apps.collector.service import Keeper, collect_flows

service = ws.Service(sys.argv[1], address=sys.argv[2:])
collector = Collector()
collect_flows(service, collector, [2055, 4739, 6343])
keeper = Keeper(Reporter(collector, top=5), window_s=10)

service.start()
try:
    while True:
        service.poll()
        window = keeper.step()
        if window:
            print(f"{window.distinct_sources:,.0f} sources in {window.seconds:.0f} s")
            for talker in window.conversations:
                source, sport, destination, dport, protocol = talker.key
                print(f"{talker.octets:15,} bytes  {source}:{sport} to {destination}:{dport}, protocol {protocol}")
except KeyboardInterrupt:
    print(service.stop())
