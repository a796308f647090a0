"""Desks: a worker's own memory for what does not lie in one cell: a long request, its reply, and what it is cut into.

::

    0        state of the generator of identifications
    64       descriptors of fragments                        8 x 128
    1088     32 bytes that sums may read, then the request, whole, its Ethernet header first; the reply is written there
    ...      the same again: the reply, turned, before it is copied to cells

A page of it is taken from the system when it is first used, so a service without long datagrams pays nothing.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.eal.clock import clock
from wirespeed.jit import View, cold, copy, cycles, le64, shift_right
from wirespeed.mem.buffer import LONGEST
from wirespeed.mem.descriptor import CHAINED, CellHeader, address_of, header_of, length_of
from wirespeed.mem.shared import Shared
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.traffic.fragment import MOST_FRAGMENTS

_VECTOR = 64
_BEFORE = 32
_FIRST = _VECTOR + 8 * MOST_FRAGMENTS + _BEFORE
_ROOM = -(-(LONGEST + 64 + _BEFORE) // 64) * 64
_SECOND = _FIRST + _ROOM
_STRIDE = -(-(_SECOND + _ROOM) // 4096) * 4096
_STEP, _MIX = 0x5851_F42D, 0x2545_F491


class DeskView(View):
    """One worker's."""

    state = le64(0)
    SIZE = _STRIDE


@cold
def vector_of(desk):
    """Where descriptors of fragments go."""
    return desk + _VECTOR


@cold
def second_of(desk):
    """Where a reply is turned."""
    return desk + _SECOND


@cold
def identification(desk):
    """A number for a datagram's fragments, 32 bits: not to be guessed from the last one by who sees none of them, and
    not the same again soon (RFC 6864 section 4.3, RFC 7739)."""
    view = DeskView(desk)
    view.state = (view.state + _STEP) & 0xFFFF_FFFF
    mixed = (view.state ^ shift_right(view.state, 16)) * _MIX & 0xFFFF_FFFF
    return (mixed ^ shift_right(mixed, 15) ^ (cycles() & 0xFF) << 24) & 0xFFFF_FFFF


@cold
def lay_out(cells, desc, desk):
    """Copy a packet, which may be in several cells, to the desk: the address of its frame; 0 if it is too long."""
    to = desk + _FIRST
    done = 0
    while True:
        size = length_of(desc)
        if done + size > LONGEST:
            return 0
        copy(to + done, address_of(cells, desc), size)
        done += size
        if desc & CHAINED == 0:
            return to
        desc = CellHeader(header_of(cells, desc)).next


class Desk(Shared):
    """The desks of all workers."""

    KIND = "desk"
    View = DeskView
    stride = _STRIDE

    def __init__(self) -> None:
        self._create(MAX_WORKERS * _STRIDE, None, huge=False)
        for worker in range(MAX_WORKERS):
            DeskView(self.address + worker * _STRIDE).state = (clock().anchor_ns >> 8) * (worker + 1) & 0xFFFF_FFFF


__all__ = ["Desk", "DeskView", "identification", "lay_out", "second_of", "vector_of"]
