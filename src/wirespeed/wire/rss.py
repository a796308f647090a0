"""Which flow a packet belongs to, as a 32-bit hash: what a network card's RSS does, in software.

Toeplitz over addresses and ports (Microsoft, "RSS hashing types"): UDP and TCP by four-tuple, other IP by
addresses. Every fragment hashes by addresses alone, the first one too, so that a packet cut in pieces stays
in order; so does IPv6 with extension headers, of which the fragment header is one. What is not IP hashes to 0.
"""

from wirespeed.jit import inline
from wirespeed.wire.ipv6 import Ipv6

_IPV6_BYTES: int = Ipv6.SIZE


@inline
def flow_hash(pkt, toeplitz):  # type: ignore[no-untyped-def]
    """The RSS hash of a packet parsed to transport level, by the tables of a ToeplitzView."""
    value = 0
    sport = 0
    dport = 0
    if pkt.udp:
        sport = pkt.udp.sport
        dport = pkt.udp.dport
    elif pkt.tcp:
        sport = pkt.tcp.sport
        dport = pkt.tcp.dport
    if pkt.ipv4:
        if pkt.ipv4.is_fragment:
            sport = 0
            dport = 0
        value = toeplitz.hash_v4(pkt.ipv4.src, pkt.ipv4.dst, sport, dport)
    elif pkt.ipv6:
        if pkt.l4 != pkt.ipv6.address + _IPV6_BYTES:  # extension headers, such as a fragment's: by addresses
            sport = 0
            dport = 0
        value = toeplitz.hash_v6(pkt.ipv6.src, pkt.ipv6.dst, sport, dport)
    return value
