"""The packet path of ``fault``: packets are dropped, changed, doubled, held back and delayed, as a seed says.

::

    0       counters, what is to happen, the random generator
    512     descriptors on their way between the graph and the driver, MAX_BURST of 8 bytes
    4608    packets that come out next: LINE of a descriptor and the cycle from which on it may
    20992   packets held back: SLOTS of a descriptor and how many others go first

Each packet draws the same number of random words whatever they decide, in the order of the packets: the same packets
and the same seed give the same faults, however they are cut into bursts. A packet that is held back goes on after one
to eight others, or when nothing has come for a millisecond. Delayed packets keep their order.

Of packets to send, at most LINE wait here at a time, those held back with them: more are dropped and counted as
dropped, as the queue of tc-netem(8) does. Received ones wait in the driver instead. Each call that sends, and each turn
of the worker (:func:`due`), lets go as many as a burst can have: the line grows by nothing but delay and doubling.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.hashes.splitmix64 import next_state, word_of
from wirespeed.jit import cold, cycles, inline, le64, load8, load64, multiply_high, shift_right, store8, store64
from wirespeed.mem.buffer import copy_packet, is_own
from wirespeed.mem.descriptor import address_of, length_of
from wirespeed.mem.pool import MAX_BURST, Cache, release
from wirespeed.mem.pool_cache import release_one
from wirespeed.ports.queue import ENDED
from wirespeed.ports.wrap.port import WrapQueue

LINE: int = 1024
"""Packets that may wait to come out."""

SLOTS: int = 16
"""Packets that may be held back at once."""

_SCRATCH = 512
_LINE = _SCRATCH + 8 * MAX_BURST
_SLOTS = _LINE + 16 * LINE
_FAR = 8  # the most packets that overtake one that is held back
_HALF = LINE // 2 - SLOTS  # no packet is doubled while so many wait: a burst to send still has room then


class FaultQueue(WrapQueue):
    """A record with what is to happen: probabilities are of 2^32."""

    state = le64(128, "the random generator's (splitmix64)")
    drop = le64(136)
    corrupt = le64(144)
    duplicate = le64(152)
    reorder = le64(160)
    delay = le64(168, "cycles")
    jitter = le64(176, "cycles that are added at most")
    quiet = le64(184, "cycles of silence after which nothing is held back any more")
    head = le64(192, "packets that ever came out of the line")
    tail = le64(200, "packets that were ever put in it")
    held = le64(208, "slots in use")
    last_due = le64(216)
    last_seen = le64(224, "when a packet came last")
    over = le64(232, "1: the driver has no more")
    lost = le64(256, "packets dropped on purpose")
    corrupted = le64(264)
    duplicated = le64(272)
    reordered = le64(280)
    SIZE = 512


RECORD_BYTES: int = _SLOTS + 16 * SLOTS


@inline
def _random(record):
    """64 random bits."""
    record.state = next_state(record.state)
    return word_of(record.state)


@inline
def _happens(word, of_2_32):
    return shift_right(word, 32) < of_2_32


@cold
def _put(record, desc, word, now):
    """A packet comes out after those before it, when its delay is over."""
    due = now + record.delay + (multiply_high(word, record.jitter) if record.jitter > 0 else 0)
    due = max(due, record.last_due)
    record.last_due = due
    place = record.address + _LINE + ((record.tail & (LINE - 1)) << 4)
    store64(place, desc)
    store64(place + 8, due)
    record.tail += 1


@cold
def _let_go(record, word, now, everything):
    """One more packet has gone first: those held back for no longer follow it."""
    kept = 0
    slots = record.address + _SLOTS
    for i in range(record.held):
        desc, left = load64(slots + (i << 4)), load64(slots + (i << 4) + 8) - 1
        if left <= 0 or everything:
            _put(record, desc, word, now)
        else:
            store64(slots + (kept << 4), desc)
            store64(slots + (kept << 4) + 8, left)
            kept += 1
    record.held = kept


@cold
def _corrupt(cache, desc, word):
    """Change one bit of the packet's first cell; the descriptor, of a copy if somebody else holds the cell."""
    if not is_own(cache.cells, desc):
        copy = copy_packet(cache, desc)
        if copy == 0:
            return desc
        release_one(cache, desc)
        desc = copy
    bit = multiply_high(shift_right(word, 1), length_of(desc) << 4)
    place = address_of(cache.cells, desc) + (bit >> 3)
    store8(place, load8(place) ^ (1 << (bit & 7)))
    return desc


@cold
def _afflict(record, cache, desc, now):
    """Decide about one packet."""
    lost, marred, doubled, late, where = (
        _random(record), _random(record), _random(record), _random(record), _random(record),
    )  # fmt: skip
    if _happens(lost, record.drop):
        record.lost += 1
        release_one(cache, desc)
        return
    if _happens(marred, record.corrupt) and length_of(desc) > 0:
        record.corrupted += 1
        desc = _corrupt(cache, desc, where)
    waiting = record.tail - record.head + record.held
    if waiting >= LINE:
        record.dropped += 1
        release_one(cache, desc)
        return
    copy = 0
    if _happens(doubled, record.duplicate) and waiting < _HALF:
        copy = copy_packet(cache, desc)
    if _happens(late, record.reorder) and record.held < SLOTS:
        place = record.address + _SLOTS + (record.held << 4)
        store64(place, desc)
        store64(place + 8, 1 + (where & (_FAR - 1)))
        record.held += 1
        record.reordered += 1
    else:
        _put(record, desc, where, now)
        if record.held > 0:
            _let_go(record, where, now, False)
    if copy != 0:
        record.duplicated += 1
        _put(record, copy, where, now)


@cold
def _afflict_all(queue, cache, vector, count):
    record, now = FaultQueue(queue), cycles()
    record.last_seen = now
    for i in range(count):
        _afflict(record, Cache(cache), load64(vector + (i << 3)), now)


@cold
def _come_out(queue, vector, room, now):
    """Packets that are due, to ``vector``; how many."""
    record = FaultQueue(queue)
    done = 0
    while done < room and record.head < record.tail:
        place = queue + _LINE + ((record.head & (LINE - 1)) << 4)
        if load64(place + 8) > now:
            break
        store64(vector + (done << 3), load64(place))
        record.head += 1
        done += 1
    return done


# Receiving -------------------------------------------------------------------------------------------------


@inline
def arrive(queue, vector):
    """The driver receives into the record."""
    return queue + _SCRATCH


@inline
def allow(queue, room):
    """As many as can wait, each of them doubled, and all that are held back."""
    record = FaultQueue(queue)
    return max(min(room, (LINE - (record.tail - record.head) - SLOTS) >> 1), 0)


@inline
def deliver(queue, cache, vector, room, got):
    """Decide about what came; what is due comes out."""
    return _deliver(queue, cache, vector, room, got)


@cold
def _deliver(queue, cache, vector, room, got):
    record = FaultQueue(queue)
    if got > 0:
        _afflict_all(queue, cache, queue + _SCRATCH, got)
    elif got == ENDED:
        record.over = 1
    now = cycles()
    if record.held > 0 and got <= 0 and (record.over != 0 or now - record.last_seen > record.quiet):
        _let_go(record, 0, now, True)
    done = _come_out(queue, vector, room, now)
    if done == 0 and record.over != 0 and record.head == record.tail:
        return ENDED
    return done


@inline
def waits(queue):
    """Whether something is on its way here."""
    record = FaultQueue(queue)
    return 1 if record.held > 0 or record.head < record.tail else 0


# Sending ---------------------------------------------------------------------------------------------------


@inline
def submit(queue, cache, vector, count):
    """Decide about what goes; how many the driver shall send."""
    _afflict_all(queue, cache, vector, count)
    return _come_out(queue, queue + _SCRATCH, MAX_BURST, cycles())


@inline
def due(queue):
    """How many of those that wait the driver shall send now, though the worker sends nothing."""
    many = 0
    if waits(queue) != 0:
        many = _due(queue)
    return many


@cold
def _due(queue):
    record, now = FaultQueue(queue), cycles()
    if record.held > 0 and now - record.last_seen > record.quiet:
        _let_go(record, 0, now, True)
    return _come_out(queue, queue + _SCRATCH, MAX_BURST, now)


@inline
def outgoing(queue, vector):
    """The driver sends from the record."""
    return queue + _SCRATCH


@inline
def settle(queue, cache, vector, count, many, sent):
    """What the driver did not take is dropped here; the worker's packets are all gone."""
    if sent < many:
        FaultQueue(queue).dropped += many - sent
        release(Cache(cache), queue + _SCRATCH + (sent << 3), many - sent)
    return count


def waiting(queue: int) -> list[int]:
    """Control code: descriptors of all packets that are still here, which are taken out."""
    record = FaultQueue(queue)
    line = [load64(queue + _LINE + ((at & (LINE - 1)) << 4)) for at in range(record.head, record.tail)]
    held = [load64(queue + _SLOTS + (slot << 4)) for slot in range(record.held)]
    record.head, record.held = record.tail, 0
    return line + held


__all__ = ["RECORD_BYTES", "FaultQueue", "waiting"]
