"""A service with all that a host does, for tests to run: ``long_service.py PORT ADDRESS... [via GATEWAY...]``.

The tests share it so that its graph is compiled once.
"""

import logging
import sys

import wirespeed as ws
from wirespeed.stack.acd import AcdTimes
from wirespeed.stack.addressing import Wanted

spec, *rest = sys.argv[1:]
addresses, gateways = (rest[: rest.index("via")], rest[rest.index("via") + 1 :]) if "via" in rest else (rest, [])
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
service = ws.Service(spec, address=["dhcp", *addresses], gateway=gateways, groups=["239.1.1.1", "ff02::fb"])
quick = AcdTimes(probe_wait_s=0.1, probe_min_s=0.1, probe_max_s=0.2, announce_wait_s=0.2)
service.wanted = Wanted(dhcp=True, auto="auto" in addresses, times=quick)


@service.udp(port=7)
def echo(request, reply):
    """Answers in place, or at the desk."""
    reply.write(request.payload)


@service.udp(port=8, long=True)
def longer(request, reply):
    """Answers as many bytes as the request's first two say."""
    wanted = request.payload.be16(0)
    for i in range(wanted):
        reply.u8(i & 255)


@service.udp(port=9, compiled=False)
def plainly(request, reply):
    """Answers from the control thread."""
    reply.write(request.payload)


print(service.run())
