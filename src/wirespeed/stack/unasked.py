"""Datagrams that answer nobody: what timers and nodes send by themselves.

It is built as the request to which it would be the reply, and turned round (:mod:`wirespeed.stack.turn`): what writes
replies is all that writes headers.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import bswap16, bswap32, bswap64, cold, copy, fill, store8, store16, store32, store64
from wirespeed.mem.buffer import chain_of
from wirespeed.mem.descriptor import ROOM, address_of
from wirespeed.mem.pool import Cache
from wirespeed.stack.interface_view import NO_VLAN, InterfaceView
from wirespeed.stack.turn import turn4, turn6
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6, ETHERTYPE_VLAN

_IPV4_BYTES, _IPV6_BYTES, _UDP_BYTES = 20, 40, 8


@cold
def _link(face: InterfaceView, frame: int, ethertype: int) -> int:
    """Write an Ethernet header, but for the addresses, and the interface's tag; its bytes."""
    if face.vlan == NO_VLAN:
        store16(frame + 12, bswap16(ethertype))
        return 14
    store16(frame + 12, bswap16(ETHERTYPE_VLAN))
    store16(frame + 14, bswap16(face.vlan))
    store16(frame + 16, bswap16(ethertype))
    return 18


@cold
def _fresh(cache: int, length: int) -> int:
    """A cell for a frame with so many bytes of payload behind the longest headers there are; 0: none, or too long."""
    size = 18 + _IPV6_BYTES + _UDP_BYTES + length
    return chain_of(Cache(cache), size) if length >= 0 and size <= ROOM else 0


@cold
def unasked4(cache: int, face: int, own_port: int, address: int, port: int, start: int, length: int) -> tuple[int, int]:
    """(descriptor, bytes) of a packet with ``length`` bytes from ``start``, to an IPv4 address, as a number, and UDP
    port, from our address and ``own_port``. The descriptor is 0 if it does not fit one cell, if there
    is none, or if we have no address."""
    own = InterfaceView(face).address4
    made = _fresh(cache, length) if own != 0 else 0
    if made == 0:
        return 0, 0
    frame = address_of(Cache(cache).cells, made)
    ip = frame + _link(InterfaceView(face), frame, ETHERTYPE_IPV4)
    udp = ip + _IPV4_BYTES
    store8(ip, 0x45)
    store32(ip + 12, bswap32(address))
    store16(udp, bswap16(port))
    store16(udp + 2, bswap16(own_port))
    copy(udp + _UDP_BYTES, start, length)
    turn4(ip, udp, own, length, False)
    return made, udp + _UDP_BYTES + length - frame


@cold
def unasked6(
    cache: int, face: int, own_port: int, high: int, low: int, port: int, start: int, length: int
) -> tuple[int, int]:
    """:func:`unasked4` for IPv6: the address is a pair of numbers."""
    own_high, own_low = InterfaceView(face).address6
    made = _fresh(cache, length) if own_high | own_low != 0 else 0
    if made == 0:
        return 0, 0
    frame = address_of(Cache(cache).cells, made)
    ip = frame + _link(InterfaceView(face), frame, ETHERTYPE_IPV6)
    udp = ip + _IPV6_BYTES
    fill(ip, 0, _IPV6_BYTES)
    store64(ip + 8, bswap64(high))
    store64(ip + 16, bswap64(low))
    store16(udp, bswap16(port))
    store16(udp + 2, bswap16(own_port))
    copy(udp + _UDP_BYTES, start, length)
    turn6(frame, ip, udp, own_high, own_low, length, False)
    return made, udp + _UDP_BYTES + length - frame


__all__ = ["unasked4", "unasked6"]
