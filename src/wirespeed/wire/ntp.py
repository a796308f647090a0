"""NTP, RFC 5905 section 7.3: the header that requests and answers share.

::

     0               1               2               3
    +---+-----+-----+---------------+---------------+---------------+
    |LI | VN  |mode |    stratum    |     poll      |   precision   |
    +---+-----+-----+---------------+---------------+---------------+
    |  root delay, seconds with 16 bits behind the point            |
    |  root dispersion, the same                                    |
    |  reference id                                                 |
    |  reference timestamp: when the clock was set last             |  8 bytes each: seconds since 1900, modulo 2^32,
    |  origin timestamp: the request's transmit timestamp           |  with 32 bits behind the point
    |  receive timestamp: when the request came                     |
    |  transmit timestamp: when this left                           |
    +---------------------------------------------------------------+
    48: extension fields (RFC 7822), then a key identifier and a digest; or neither
"""

from wirespeed.jit import be32, be64, bits, u8
from wirespeed.wire.header import Header

NTP_PORT: int = 123

NTP_CLIENT: int = 3
"""Modes, RFC 5905 figure 10."""
NTP_SERVER: int = 4
NTP_CONTROL: int = 6
NTP_PRIVATE: int = 7

LEAP_NONE: int = 0
LEAP_INSERT: int = 1
LEAP_DELETE: int = 2
LEAP_UNKNOWN: int = 3
"""The clock is not synchronised."""

NTP_UNIX_S: int = 2_208_988_800
"""Seconds from 1900 to 1970: 70 years with 17 leap days."""

KISS_RATE: int = 0x52415445
"""Reference id of a kiss-o'-death packet, stratum 0: "RATE", the client asks too often (section 7.4)."""


class Ntp(Header):
    """NTP header, RFC 5905 figure 8."""

    leap = bits(0, 2)
    version = bits(2, 3)
    mode = bits(5, 3)
    stratum = u8(1, "1: has a clock of its own; 2 to 15: steps from that; 0: not synchronised, or a kiss-o'-death")
    poll = u8(2, "log2 of seconds between requests, signed")
    precision = u8(3, "log2 of seconds, signed")
    root_delay = be32(4)
    root_dispersion = be32(8)
    reference_id = be32(12)
    reference = be64(16)
    origin = be64(24)
    receive = be64(32)
    transmit = be64(40)
    SIZE = 48


__all__ = [
    "KISS_RATE", "LEAP_DELETE", "LEAP_INSERT", "LEAP_NONE", "LEAP_UNKNOWN", "NTP_CLIENT", "NTP_CONTROL", "NTP_PORT",
    "NTP_PRIVATE", "NTP_SERVER", "NTP_UNIX_S", "Ntp",
]  # fmt: skip
