"""The compiled half of plain-Python handlers: requests out of a burst as rows of numbers, answers back into it.

A row is what Python needs of a request, so that it never looks at a header itself::

    0 sender, first half               8 second half, or the IPv4 address       16 sender's port
    24 whom it was sent to, first half 32 second half, or the IPv4 address      40 port it was sent to
    48 1: IPv6                         56 time of receipt, or 0                 64 where in the frame the payload begins

The payloads themselves are copied one behind the other. An answer replaces the payload where it lies, so no cell is
taken or freed for it. What lies in several cells, or is not ours alone, cannot be answered so: it is not copied either.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import bswap16, bswap32, bswap64, copy, exchange, kernel, load16, load32, load64, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.host.path import HostQueue
from wirespeed.stack.interface_view import InterfaceView
from wirespeed.stack.reply import Reply, answerable, begin, turn
from wirespeed.stack.request import Request
from wirespeed.sync.ring import sc_dequeue, sp_enqueue
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport

ROW: int = 72
"""Bytes of a row."""

NO_ANSWER: int = -1
"""Length of an answer that there is not to be."""


@kernel
def collect(queue, cells, vector, room, rows, lengths, data):
    """Take up to ``room`` requests off a queue.

    Args:
        vector: where their descriptors are put.
        rows: and what they are.
        lengths: and the bytes of each payload, 8 bytes each; -1 - length if it is not copied.
        data: and the payloads.
    """
    got = sc_dequeue(HostQueue(queue).ring, vector, room)
    pkt = Packet()
    pkt.cells = cells
    for i in range(got):
        pkt.desc = load64(vector + (i << 3))
        parse_transport(pkt)
        row = rows + i * ROW
        if answerable(pkt):
            length = pkt.payload.length
            copy(data, pkt.payload.start, length)
            data += length
            store64(lengths + (i << 3), length)
        else:
            store64(lengths + (i << 3), 7 - bswap16(load16(pkt.l4 + 4)))
        if pkt.ipv4:
            store64(row, 0)
            store64(row + 8, bswap32(load32(pkt.l3 + 12)))
            store64(row + 24, 0)
            store64(row + 32, bswap32(load32(pkt.l3 + 16)))
        else:
            store64(row, bswap64(load64(pkt.l3 + 8)))
            store64(row + 8, bswap64(load64(pkt.l3 + 16)))
            store64(row + 24, bswap64(load64(pkt.l3 + 24)))
            store64(row + 32, bswap64(load64(pkt.l3 + 32)))
        store64(row + 16, bswap16(load16(pkt.l4)))
        store64(row + 40, bswap16(load16(pkt.l4 + 2)))
        store64(row + 48, 0 if pkt.ipv4 else 1)
        store64(row + 56, CellHeader(header_of(cells, pkt.desc)).timestamp if pkt.desc & META != 0 else 0)
        store64(row + 64, pkt.l4 + 8 - pkt.start)
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
