"""The packet path of wrappers that look: what passes goes on as it is, and a copy into a lane (:mod:`pcap_write`).

::

    0     counters, the wrapped record, the lane, the rules
    128   fields of the packet that is looked at (:mod:`.rules_path`)
    256   descriptors of the packets of a burst that match, MAX_BURST of 8 bytes

Without a lane it costs a load and a branch a burst. Packets are copied before the driver sends them, so one that the
driver then has no room for is in the copy too.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import cold, inline, le64, load64, store64
from wirespeed.mem.descriptor import META, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import MAX_BURST, Cache
from wirespeed.ports.pcap.called import call
from wirespeed.ports.rules.path import RULE_BYTES, fits, read_fields
from wirespeed.ports.wrap.port import WrapQueue

_FIELDS, _CHOSEN = 128, 256


class TeeQueue(WrapQueue):
    """A record with where copies go."""

    lane = le64(72, "address of the lane's record; 0: nowhere")
    rules = le64(80, "address of the rules that packets must match")
    rule_count = le64(88, "how many; 0: all packets do")
    SIZE = 128


RECORD_BYTES: int = _CHOSEN + 8 * MAX_BURST


@inline
def _tee(queue, cache, vector, count):
    lane = TeeQueue(queue).lane  # once: control code may take it away meanwhile, and then waits for this turn
    if count > 0 and lane != 0:
        _copy(queue, lane, cache, vector, count)


@cold
def _copy(queue, lane, cache, vector, count):
    record = TeeQueue(queue)
    if record.rule_count == 0:
        call(lane, cache, vector, count)
        return
    cells = Cache(cache).cells
    chosen = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        start = address_of(cells, desc)
        tci = CellHeader(header_of(cells, desc)).vlan_tci if desc & META != 0 else 0
        read_fields(queue + _FIELDS, start, start + length_of(desc), tci)
        matched = False
        for number in range(record.rule_count):
            matched |= fits(queue + _FIELDS, record.rules + number * RULE_BYTES)
        if matched:
            store64(queue + _CHOSEN + (chosen << 3), desc)
            chosen += 1
    if chosen > 0:
        call(lane, cache, queue + _CHOSEN, chosen)


@inline
def arrive(queue, vector):
    """The driver receives into the worker's vector."""
    return vector


@inline
def allow(queue, room):
    """As many as the worker has room for."""
    return room


@inline
def deliver(queue, cache, vector, room, got):
    """Copy what came."""
    _tee(queue, cache, vector, got)
    return got


@inline
def submit(queue, cache, vector, count):
    """Copy what goes."""
    _tee(queue, cache, vector, count)
    return count


@inline
def outgoing(queue, vector):
    """The driver sends from the worker's vector."""
    return vector


@inline
def settle(queue, cache, vector, count, many, sent):
    """What the driver did not take is the worker's to drop."""
    return sent


@inline
def waits(queue):
    """Nothing is held."""
    return 0
