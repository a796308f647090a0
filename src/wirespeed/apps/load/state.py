"""A load's memory: its queue, what came back, which numbers did.

::

    0      LoadQueue: the generator's record, then ours
    640    LoadView: counters of answers
    1024   answers by kind
    1280   histogram of latencies (wirespeed.tables.hdr)
    ...    a bit for each number of the window: answered
    ...    entries: address, length and sum of each request; then their frames
"""

from wirespeed.jit import View, le64
from wirespeed.ports.generator.queue import GeneratorQueue

UDP, DNS, MEMCACHED = 0, 1, 2
"""Protocols, by :attr:`LoadView.protocol`."""

KINDS: int = 32
"""Answers are told apart by so many kinds at most."""
KINDS_AT: int = 1024
HISTOGRAM_AT: int = 1280

IDENTITIES: int = 1 << 16
"""Numbers that DNS and memcached have for a connection's requests."""

ENTRY: int = 32
"""Bytes of a request's entry."""

SCALE: int = 20
"""Bits after the point in nanoseconds a cycle."""


class LoadQueue(GeneratorQueue):
    """The generator's record with its pacer, and what comes next."""

    entry = le64(512, "address of the next entry")
    first_entry = le64(520)
    end_entry = le64(528)
    connection = le64(536, "of the next request, from 0 on")
    identity = le64(544, "its number among those of its connection")
    first_port = le64(552, "source port of connection 0")
    connections = le64(560)
    wide = le64(568, "1: numbers have 64 bits; 0: 16, of each connection")
    udp_at = le64(576, "offset of the UDP header in a frame")
    start = le64(584, "when number 0 was due")
    behind = le64(592, "the most that one left late, in cycles")
    bits = le64(600, "address of the window")
    mask = le64(608, "its bits - 1, a power of two")
    SIZE = 640


class LoadView(View):
    """What came back; one worker writes. Begins at the load's address."""

    first_port = le64(552, "as in LoadQueue")
    connections = le64(560)
    answered = le64(640, "requests with an answer, each once")
    late = le64(648, "of these, answers that took longer than was to be waited")
    duplicates = le64(656, "answers to numbers that had one")
    strangers = le64(664, "datagrams from the server with a number that was not sent, or is too long ago")
    short = le64(672, "datagrams from the server without a number")
    parts = le64(680, "datagrams of answers in several, but for the last of each")
    bytes = le64(688, "of payload")
    last = le64(696, "when the last answer came")
    server_high = le64(704, "its address: of IPv4 in the lower word, the other being 0")
    server_low = le64(712)
    server_port = le64(720)
    timeout_ns = le64(728)
    scale = le64(736, "nanoseconds a cycle, SCALE bits after the point")
    protocol = le64(744)
    SIZE = HISTOGRAM_AT


class Entry(View):
    """A request as it is to be sent, but for its number."""

    frame = le64(0, "address of its frame, whole cache lines")
    length = le64(8, "bytes of the frame")
    sum = le64(16, "of what its UDP checksum covers, source port and number being 0; in memory order")
    SIZE = ENTRY


__all__ = [
    "DNS", "ENTRY", "HISTOGRAM_AT", "IDENTITIES", "KINDS", "KINDS_AT", "MEMCACHED", "SCALE", "UDP", "Entry",
    "LoadQueue", "LoadView",
]  # fmt: skip
