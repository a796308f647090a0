"""The compiled half of plain-Python handlers: requests out of a burst as rows of numbers, answers back into it.

A row is what Python needs of a request, so that it never looks at a header itself::

    0 address of the payload        8 its length    16 sender, first half    24 second half, or the IPv4 address
    32 sender's port   40 port it was sent to   48 1: IPv6   56 time of receipt, or 0
    64 whom it was sent to, first half          72 second half, or the IPv4 address

The answer replaces the payload where it lies, so no cell is taken or freed for it. What lies in several cells, or is
not ours alone, cannot be answered so: of such a request the row says where the payload begins in the frame, and its
length as -1 - length.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import bswap16, bswap32, bswap64, copy, exchange, kernel, load16, load32, load64, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.host.path import HostQueue
from wirespeed.stack.interface import InterfaceView
from wirespeed.stack.reply import Reply, answerable, begin, turn
from wirespeed.stack.request import Request
from wirespeed.sync.ring import sc_dequeue, sp_enqueue
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport

ROW: int = 80
"""Bytes of a row."""

NO_ANSWER: int = -1
"""Length of an answer that there is not to be."""


@kernel
def collect(queue, cells, vector, room, rows):
    """Take up to ``room`` requests off a queue, their descriptors to ``vector``, what they are to ``rows``."""
    got = sc_dequeue(HostQueue(queue).ring, vector, room)
    pkt = Packet()
    pkt.cells = cells
    for i in range(got):
        pkt.desc = load64(vector + (i << 3))
        parse_transport(pkt)
        row = rows + i * ROW
        if answerable(pkt):
            store64(row, pkt.payload.start)
            store64(row + 8, pkt.payload.length)
        else:
            store64(row, pkt.l4 + 8 - pkt.start)
            store64(row + 8, 7 - bswap16(load16(pkt.l4 + 4)))
        if pkt.ipv4:
            store64(row + 16, 0)
            store64(row + 24, bswap32(load32(pkt.l3 + 12)))
            store64(row + 64, 0)
            store64(row + 72, bswap32(load32(pkt.l3 + 16)))
        else:
            store64(row + 16, bswap64(load64(pkt.l3 + 8)))
            store64(row + 24, bswap64(load64(pkt.l3 + 16)))
            store64(row + 64, bswap64(load64(pkt.l3 + 24)))
            store64(row + 72, bswap64(load64(pkt.l3 + 32)))
        store64(row + 32, bswap16(load16(pkt.l4)))
        store64(row + 40, bswap16(load16(pkt.l4 + 2)))
        store64(row + 48, 0 if pkt.ipv4 else 1)
        store64(row + 56, CellHeader(header_of(cells, pkt.desc)).timestamp if pkt.desc & META != 0 else 0)
    return got


@kernel
def answer(queue, cache, interface, vector, count, lengths, data):
    """Turn the ``count`` requests at ``vector`` into answers and queue them for the worker; free those without.

    Args:
        lengths: of the answers, or NO_ANSWER, 8 bytes each.
        data: the answers, one behind the other.

    Returns:
        Answers queued, and 1 << 32 if the worker is to be woken.
    """
    pkt = Packet()
    pkt.cells = Cache(cache).cells
    pkt.cache = 0
    request = Request()
    reply = Reply()
    kept = 0
    for i in range(count):
        length = load64(lengths + (i << 3))
        pkt.desc = load64(vector + (i << 3))
        parse_transport(pkt)
        begin(pkt, request, reply)
        reply.interface = InterfaceView(interface)
        if length >= 0 and length <= reply.room and answerable(pkt):
            copy(reply.start, data, length)
            reply.length = length
            turn(pkt, request, reply)
            store64(vector + (kept << 3), pkt.desc)
            kept += 1
        else:
            release(Cache(cache), vector + (i << 3), 1)
        data += max(length, 0)
    record = HostQueue(queue)
    sent = sp_enqueue(record.ring, vector, kept)
    if sent < kept:
        release(Cache(cache), vector + (sent << 3), kept - sent)
    if sent == 0:
        return 0
    return sent | (1 - exchange(record.wake, 1)) << 32
