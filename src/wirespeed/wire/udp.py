"""UDP, RFC 768.

::

     0               16              32              48             63
    +---------------+---------------+---------------+---------------+
    |  source port  |  destination  |    length     |   checksum    |
    +---------------+---------------+---------------+---------------+
"""

from wirespeed.jit import be16
from wirespeed.wire.header import Found, Header


class Udp(Header):
    """UDP header, RFC 768. A checksum of 0 means none (IPv4 only; RFC 8200 section 8.1)."""

    sport = be16(0, "source port")
    dport = be16(2, "destination port")
    length = be16(4, "bytes of header and data")
    checksum = be16(6)
    SIZE = 8
    FOUND = Found("udp")
