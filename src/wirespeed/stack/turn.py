"""A request's headers made those of its reply, where they lie.

::

    request      Ethernet | IP | UDP | payload
    reply        Ethernet | IP | UDP | reply        addresses and ports exchanged, length and checksums anew

Addresses are of memory; IP addresses are as they stand in a header unless said otherwise.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import (
    bswap16,
    bswap32,
    bswap64,
    cold,
    fill,
    inline,
    load16,
    load32,
    load64,
    move,
    shift_right,
    store16,
    store32,
    store64,
)
from wirespeed.wire.checksum import finish, fold, nonzero, sum_bytes, sum_inside
from wirespeed.wire.ipv4 import PROTOCOL_UDP

TTL: int = 64
"""Of what we send (RFC 1700)."""

_DONT_FRAGMENT = 0x0040  # flags and offset as they stand in memory; identification 0 goes with it (RFC 6864)


@inline
def turn4(ip: int, udp: int, source: int, length: int, same: bool) -> None:
    """Make the IPv4 datagram at ``ip`` the reply to itself.

    Options become No Operation (RFC 791): they said how the request was to travel.

    Args:
        source: who sends the reply, as a number; 0: whom the request was sent to.
        length: bytes of payload, which lie in the cell.
        same: the payload is the request's, and its checksum was found right.
    """
    same = same & (source == 0) & (load16(udp + 6) != 0)
    # First: it reads over headers, and must not wait for what is written below.
    data = sum_inside(udp + 8, length) if not same else 0
    if udp - ip != 20:
        fill(ip + 20, 1, udp - ip - 20)
    sender = load32(ip + 12)
    own = load32(ip + 16) if source == 0 else bswap32(source)
    total = udp - ip + 8 + length
    store16(ip, (udp - ip) >> 2 | 0x40)
    store16(ip + 2, bswap16(total))
    store32(ip + 4, _DONT_FRAGMENT << 16)
    store32(ip + 8, TTL | PROTOCOL_UDP << 8)
    store32(ip + 12, own)
    store32(ip + 16, sender)
    words = own + sender
    header = ((udp - ip) >> 2 | 0x40) + bswap16(total) + _DONT_FRAGMENT + (TTL | PROTOCOL_UDP << 8)
    if udp - ip != 20:
        header += sum_bytes(ip + 20, udp - ip - 20)
    store16(ip + 10, ~fold(header + words))
    _turn_udp(udp, data + words + bswap16(PROTOCOL_UDP), length, same)


@inline
def _turn_udp(udp: int, total: int, length: int, same: bool) -> None:
    """Exchange the ports; ``total`` is of payload and pseudo header but for the length. It does not count when all
    that the checksum covers is the ``same``: what only changed places adds up to the same.

    The checksum is always sent (RFC 1122 section 4.1.3.4, RFC 8200 section 8.1).
    """
    ports = load32(udp)
    store32(udp, (ports & 0xFFFF) << 16 | ports >> 16)
    if same:
        return
    size = bswap16(8 + length)
    store32(udp + 4, size)
    store16(udp + 6, bswap16(nonzero(finish(total + size + size + ports))))


@cold
def _strip_extensions(frame: int, ip: int, udp: int) -> int:
    """Bring Ethernet and IPv6 headers to the UDP header, over the extension headers; by how many bytes."""
    gap = udp - ip - 40
    move(frame + gap, frame, ip + 40 - frame)
    return gap


@inline
def turn6(frame: int, ip: int, udp: int, high: int, low: int, length: int, same: bool) -> int:
    """The same for IPv6; by how many bytes the frame begins later: extension headers are not sent back.

    Args:
        frame: where the Ethernet header is.
        high, low: who sends the reply, as a pair of numbers; both 0: whom the request was sent to.
    """
    asked = high | low == 0
    same = same & asked
    total = bswap16(PROTOCOL_UDP) + (sum_inside(udp + 8, length) if not same else 0)
    gap = _strip_extensions(frame, ip, udp) if udp - ip != 40 else 0
    ip += gap
    sender_high, sender_low = load64(ip + 8), load64(ip + 16)
    own_high = load64(ip + 24) if asked else bswap64(high)
    own_low = load64(ip + 32) if asked else bswap64(low)
    store32(ip, 0x60)
    store16(ip + 4, bswap16(8 + length))
    store16(ip + 6, PROTOCOL_UDP | TTL << 8)
    store64(ip + 8, own_high)
    store64(ip + 16, own_low)
    store64(ip + 24, sender_high)
    store64(ip + 32, sender_low)
    for address in (own_high, own_low, sender_high, sender_low):
        total += (address & 0xFFFF_FFFF) + shift_right(address, 32)
    _turn_udp(udp, total, length, same)
    return gap


__all__ = ["TTL", "turn4", "turn6"]
