"""Which flow a packet belongs to, as a 32-bit hash: what a network card's RSS does, in software.

Toeplitz over addresses and ports (Microsoft, "RSS hashing types"): UDP and TCP by four-tuple, other IP by
addresses. Every fragment hashes by addresses alone, the first one too, so that a packet cut in pieces stays
in order; so does IPv6 with extension headers, of which the fragment header is one. What is not IP has no hash.
"""

from wirespeed.jit import inline
from wirespeed.wire.ipv6 import Ipv6

FIELDS: dict[str, int] = {"ipv4": 1, "ipv6": 2, "tcp": 4, "udp": 8}
"""What a hash may take in, as bits: addresses, and the ports of packets of that protocol."""
NO_HASH: int = -1
"""Of a packet that has none of the fields."""

_IPV4, _IPV6, _TCP, _UDP = FIELDS["ipv4"], FIELDS["ipv6"], FIELDS["tcp"], FIELDS["udp"]
_IPV6_BYTES: int = Ipv6.SIZE


@inline
def flow_hash(pkt, toeplitz, fields):  # type: ignore[no-untyped-def]
    """The RSS hash of a packet parsed to transport level, over ``fields``, by the tables of a ToeplitzView."""
    value = NO_HASH
    sport = 0
    dport = 0
    ports = 0
    if pkt.udp:
        if fields & _UDP != 0:
            sport = pkt.udp.sport
            dport = pkt.udp.dport
            ports = 1
    elif pkt.tcp:
        if fields & _TCP != 0:
            sport = pkt.tcp.sport
            dport = pkt.tcp.dport
            ports = 1
    if pkt.ipv4:
        if pkt.ipv4.is_fragment:
            sport = 0
            dport = 0
            ports = 0
        if ports != 0 or fields & _IPV4 != 0:
            value = toeplitz.hash_v4(pkt.ipv4.src, pkt.ipv4.dst, sport, dport)
    elif pkt.ipv6:
        if pkt.l4 != pkt.ipv6.address + _IPV6_BYTES:  # extension headers, such as a fragment's: by addresses
            sport = 0
            dport = 0
            ports = 0
        if ports != 0 or fields & _IPV6 != 0:
            value = toeplitz.hash_v6(pkt.ipv6.src, pkt.ipv6.dst, sport, dport)
    return value
