"""Where a received packet goes: the worker's side of RSS. One record a port, written by control code.

The hash is :func:`wirespeed.wire.rss.flow_hash` of the fields that the port was told to use; its low bits index the
redirection table. What has no hash stays where it came in.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import View, cold, inline, le64, load64, store64
from wirespeed.mem.buffer import describe_meta
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool_cache import Cache
from wirespeed.tables.reta import RetaView
from wirespeed.tables.toeplitz import ToeplitzView
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport
from wirespeed.wire.rss import NO_HASH, flow_hash

NOT_AT_ALL, BY_HASH, BY_RULE = range(3)


class SpreadView(View):
    """How one port's packets are spread."""

    how = le64(0, "NOT_AT_ALL, BY_HASH or BY_RULE")
    toeplitz = le64(8)
    reta = le64(16)
    over = le64(24, "the fields that a hash takes in")
    targets = le64(32, "where worker 0's rules wrote which queue each packet goes to; 0: no rules do")
    stride = le64(40, "bytes to the next worker's")
    SIZE = 64


@inline
def target_of(record, pkt, place, worker):
    """The worker that packet ``place`` of the burst goes to; ``worker`` is where it came in."""
    target = -1
    if record.targets != 0:
        target = load64(record.targets + worker * record.stride + (place << 3))
    if target < 0:
        target = worker
        if record.how == BY_HASH:
            value = flow_hash(pkt, ToeplitzView(record.toeplitz), record.over)
            if value != NO_HASH:
                target = RetaView(record.reta).queue(value)
    return target


@cold
def stamp_hash(address, cache_address, vector, count):
    """Write each packet's hash in its header line, unless its port did already; all of them stay."""
    record = SpreadView(address)
    pkt = Packet()
    pkt.cells = Cache(cache_address).cells
    for i in range(count):
        desc = load64(vector + (i << 3))
        pkt.desc = desc
        parse_transport(pkt)
        value = flow_hash(pkt, ToeplitzView(record.toeplitz), record.over)
        if value != NO_HASH and (desc & META == 0 or CellHeader(header_of(pkt.cells, desc)).rss_hash == 0):
            desc = describe_meta(pkt.cells, desc)
            CellHeader(header_of(pkt.cells, desc)).rss_hash = value
            store64(vector + (i << 3), desc)
    return count


__all__ = ["BY_HASH", "BY_RULE", "NOT_AT_ALL", "SpreadView", "stamp_hash", "target_of"]
