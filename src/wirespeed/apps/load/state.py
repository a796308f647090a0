"""A load's memory: a record for each worker (what it sends, and what it sees), which numbers were answered, requests.

::

    0      LoadQueue: the generator's record, then ours
    768    LoadView: counters of answers
    1024   answers by kind
    1280   histogram of latencies (wirespeed.tables.hdr)
    ...    the next worker's record, a ``stride`` behind
    ...    tags: two bytes for each number that a connection has at a time (path.py), 128 KiB a connection
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

TAGS: int = 2 * IDENTITIES + 64
"""Bytes of a connection's tags. The cache line more is a place in the cache: at steps of a power of two, those that
connections use at a time would all want the same few lines of it."""

ENTRY: int = 32
"""Bytes of a request's entry."""

SCALE: int = 20
"""Bits after the point in nanoseconds a cycle."""


class LoadQueue(GeneratorQueue):
    """The generator's record with its pacer, and what comes next. Numbers go on from round to round."""

    entry = le64(512, "address of the next entry")
    first_entry = le64(520)
    end_entry = le64(528)
    connection = le64(536, "of the next request, from 0 on, among this worker's")
    identity = le64(544, "its number among those of its connection")
    first_port = le64(552, "source port of connection 0, the first worker's first")
    connections = le64(560, "of this worker: it has every so manieth port as there are workers")
    wide = le64(568, "1: numbers have 64 bits; 0: 16, of each connection")
    udp_at = le64(576, "offset of the UDP header in a frame")
    start = le64(584, "when the first request of this round was due")
    behind = le64(592, "the most that one left late, in cycles")
    base = le64(600, "number of the first request of this round")
    opened = le64(608, "the round that start, behind and base are of")
    worker = le64(616)
    workers = le64(624)
    keys = le64(640, "how many there are to draw from; 0: entries take turns")
    digits = le64(648, "of a key, which are written into the frame")
    last_digit = le64(656, "where the last of them is in a frame")
    gets = le64(664, "so many of draws requests are the first entry, the others the second")
    draws = le64(672)
    seed = le64(680)
    filling = le64(688, "1: the second entry, with each key once")
    SIZE = 768


class LoadView(View):
    """What came back; one worker writes. Begins at the worker's record."""

    first_port = le64(552, "as in LoadQueue")
    round = le64(768, "the round that what follows is of")
    answered = le64(776, "requests with an answer, each once")
    late = le64(784, "of these, answers that took longer than was to be waited")
    duplicates = le64(792, "answers to numbers that had one")
    strangers = le64(800, "datagrams from the server with a number that was not sent, or is too long ago")
    earlier = le64(808, "answers to requests of a round before")
    short = le64(816, "datagrams from the server without a number")
    parts = le64(824, "datagrams of answers in several, but for the last of each")
    bytes = le64(832, "of payload")
    last = le64(840, "when the last answer came")
    home = le64(896, "address of the first worker's record")
    stride = le64(904, "from one to the next")
    workers = le64(912)
    connections = le64(920, "of all workers")
    server_high = le64(928, "its address: of IPv4 in the lower word, the other being 0")
    server_low = le64(936)
    server_port = le64(944)
    timeout_ns = le64(952)
    scale = le64(960, "nanoseconds a cycle, SCALE bits after the point")
    protocol = le64(968)
    tags = le64(976, "address of connection 0's tags")
    slots_bytes = le64(984, "of the histogram's slots")
    SIZE = HISTOGRAM_AT


COUNTERS_AT: int = 768
"""Where a round's counters begin, its number first."""
COUNTERS: int = 10
"""How many words that are."""


class Entry(View):
    """A request as it is to be sent, but for its number."""

    frame = le64(0, "address of its frame, whole cache lines")
    length = le64(8, "bytes of the frame")
    sum = le64(16, "of what its UDP checksum covers, source port and number being 0; in memory order")
    SIZE = ENTRY


__all__ = [
    "COUNTERS", "COUNTERS_AT", "DNS", "ENTRY", "HISTOGRAM_AT", "IDENTITIES", "KINDS", "KINDS_AT", "MEMCACHED",
    "SCALE", "TAGS", "UDP", "Entry", "LoadQueue", "LoadView",
]  # fmt: skip
