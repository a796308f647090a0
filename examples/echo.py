"""An echo service on any port: python examples/echo.py tap:ws0 10.7.0.1/24 fd07::1/64"""

import sys

import wirespeed as ws

service = ws.Service(sys.argv[1], address=sys.argv[2:])


@service.udp(port=7)
def echo(request, reply):
    """RFC 862."""
    reply.write(request.payload)


print(service.run())
