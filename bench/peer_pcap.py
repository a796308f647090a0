"""How long do libpcap and dpkt take to count the DNS queries of a gigabyte?"""

import argparse
import os
from pathlib import Path
from statistics import median

from rich.console import Console

from wirespeed.bench.capture import GIGABYTE, build_capture
from wirespeed.bench.pcap_peers import dpkt_count, read_ahead, tcpdump_count, tcpdump_version, tcpdump_write

arguments = argparse.ArgumentParser(description=__doc__)
arguments.add_argument("--captures", type=Path, help="a folder of captures to repeat (default: ../shared)")
arguments.add_argument("--size", type=int, default=GIGABYTE, help="bytes of the capture that is built")
arguments.add_argument("--rounds", type=int, default=5, help="turns of each peer")
given = arguments.parse_args()

console = Console()
core = max(os.sched_getaffinity(0))
with console.status("building the capture") as status:
    capture = build_capture(
        given.size, given.captures, progress=lambda done, of: status.update(f"building: {done * 100 // of} %")
    )
    read_ahead(capture)
    status.update("asking the peers")
    answers = [(tcpdump_count(capture, core), tcpdump_write(capture, core)) for _ in range(given.rounds)]
    dpkt = dpkt_count(capture, core)
console.print(capture.source)
for name, seconds in (
    (f"{tcpdump_version()}, --count (the stated peer)", median(counted.seconds for counted, _ in answers)),
    (f"{tcpdump_version()}, -w /dev/null", median(written.seconds for _, written in answers)),
    (f"dpkt, scaled from {dpkt.scaled_from or dpkt.packets:,} packets", dpkt.seconds),
):
    console.print(f"{seconds:8.3f} s {capture.packets / seconds / 1e6:8.3f} Mpps  {name}")
