# mypy: allow-untyped-defs, allow-untyped-calls
"""A generator's queue record, and its pacer: how many packets may leave now.

::

    0     counters            the worker writes
    64    where it is, what it has saved up, what it has achieved
    192   what it is told: how many, how fast; control code writes, at any time
    256   what packets look like; nobody writes while it runs

The pacer is a bucket whose tokens are cycles of the time-stamp counter, with sixteen bits after the point: a packet
costs the cycles from it to the next one, so that no rounding adds up: a rate is as exact as the counter's calibration.
What is saved up is limited (``depth``): who was away for longer has missed packets, and they are counted. With trains
(``burst=``), packets leave in groups back to back, at the same rate on average.

A round is what control code last asked for: so many packets at such a rate. It counts ``round`` up, and the worker
begins anew: its bucket holds one packet (or train), its achievements are zero.
"""

from wirespeed.jit import cold, inline, le64
from wirespeed.ports.queue import ENDED, Queue

FRACTION: int = 16
"""Bits after the point in the pacer's cycles."""

UNLIMITED: int = 1 << 62
"""A limit that is none."""

_LONGEST_PAUSE = 1 << 40  # cycles, some minutes: more cannot be told from a pause of this length


class GeneratorQueue(Queue):
    """A queue record: where its templates are, what is left to do, how fast, what is drawn anew."""

    next = le64(64, "address of the template to send next")
    credit = le64(72, "cycles saved up, FRACTION bits after the point")
    last = le64(80, "when allowance was asked last, 0: never")
    state = le64(88, "the random generator's, never 0")
    owed = le64(96, "packets of the train that has begun, still to come")
    missed = le64(104, "cycles that the bucket could not hold")
    begun = le64(112, "when the first packet of this round left, 0: none has")
    before = le64(120, "packets that had left before this round")
    sent = le64(128, "when the last packets left")
    burst = le64(136, "how many those were")
    seen = le64(144, "the round this is")
    limit = le64(192, "packets at which it stops, those before this round included")
    hold = le64(200, "1: at its limit it waits for another round; 0: it has ended")
    cost = le64(208, "cycles between two packets, FRACTION bits after the point; 0: no rate")
    depth = le64(216, "the most that may be saved up, FRACTION bits after the point")
    train = le64(224, "packets that leave back to back, 0 or 1: each by itself")
    span = le64(232, "cycles after which it stops; 0: never")
    round = le64(240, "counted up by whoever changed limit, cost, depth or train")
    first = le64(256, "address of the first template")
    end = le64(264, "address after the last")
    frame = le64(272, "bytes of each frame; the longest where lengths differ")
    template = le64(280, "bytes from one template to the next")
    lengths = le64(288, "address of one word a template: see generator_path")
    body = le64(296, "address of what follows the template in a longer frame")
    cells = le64(304, "cells a frame takes")
    streams = le64(312, "address of the streams' records")
    ip_sum = le64(320, "offset of the IPv4 header checksum, 0: none")
    sum = le64(328, "offset of the transport checksum")
    covers = le64(336, "1: the transport checksum covers the addresses too")
    udp = le64(344, "1: a checksum of 0 is sent as 0xFFFF (RFC 768)")
    src_at = le64(352, "offset of the last four bytes of the source address")
    src_low = le64(360, "smallest value drawn")
    src_span = le64(368, "how many values there are; 0: keep the template's")
    dst_at = le64(376)
    dst_low = le64(384)
    dst_span = le64(392)
    sport_at = le64(400, "offset of the source port")
    sport_low = le64(408)
    sport_span = le64(416)
    dport_at = le64(424)
    dport_low = le64(432)
    dport_span = le64(440)
    SIZE = 512  # whole pairs of cache lines: no other worker writes next to it


@inline
def allowance(record, now, room):
    """How many of ``room`` packets may leave at cycle ``now``.

    A token bucket whose tokens are cycles. The first call starts the clock and allows one packet, or one train.
    Nothing is spent here: see :func:`spend`.
    """
    elapsed = now - record.last
    if record.last == 0:
        record.credit = record.cost * max(record.train, 1)
        elapsed = 0
    record.last = now
    elapsed = min(max(elapsed, 0), _LONGEST_PAUSE)
    credit = record.credit + (elapsed << FRACTION)
    if credit > record.depth:
        record.missed += (credit - record.depth) >> FRACTION
        credit = record.depth
    record.credit = credit
    if record.train > 1:
        return _train(record, room)
    if credit < record.cost:
        return 0
    return min(room, credit // record.cost)


@cold
def _train(record, room):
    """The rest of the train that has begun, or all of the next one if it may leave."""
    price = record.cost * record.train
    if record.owed == 0:
        if record.credit >= price:
            record.credit -= price
            record.owed = record.train
    return min(room, record.owed)


@inline
def spend(record, packets):
    """Pay for the packets that left."""
    if record.train > 1:
        record.owed -= packets
    else:
        record.credit -= packets * record.cost


@inline
def granted(record, now, room):
    """How many of ``room`` packets are to leave now, or ENDED."""
    if record.seen != record.round:
        _begin(record)
    left = record.limit - record.packets
    if left <= 0:
        return _over(record)
    if record.span > 0 and record.begun > 0:
        if now - record.begun >= record.span:
            return _over(record)
    wanted = min(room, left)
    if record.cost:
        wanted = allowance(record, now, wanted)
    return wanted


@cold
def _begin(record):
    """Another round."""
    record.seen = record.round
    record.before = record.packets
    record.last = record.owed = record.missed = record.begun = record.sent = record.burst = 0


@cold
def _over(record):
    if record.hold:
        return 0
    record.ended = 1
    return ENDED


@inline
def count_sent(record, now, packets, total):
    """Note that packets of ``total`` bytes have left at ``now``."""
    record.packets += packets
    record.bytes += total
    if packets:
        record.calls += 1
        record.sent = now
        record.burst = packets
        if record.begun == 0:
            record.begun = now
    if record.cost:
        spend(record, packets)
