"""An echo service on any port: python examples/echo.py tap:ws0 10.7.0.1/24 fd07::1/64 --workers 2"""

import argparse

import wirespeed as ws

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("port", help="any port specification")
parser.add_argument("address", nargs="+", help="own addresses with their prefixes")
given, _ = parser.parse_known_args()  # --workers and --seconds are service.run()'s
service = ws.Service(given.port, address=given.address)


@service.udp(port=7)
def echo(request, reply):
    """RFC 862."""
    reply.write(request.payload)


print(service.run())
