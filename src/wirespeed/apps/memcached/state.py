"""What a worker of the key-value server has for itself.

::

    0        where things are; written by control code before the start
    128      the answer that is being written, or sent
    192      what this worker counted
    512      words of the line that is being read: start and length of each
    768      keys whose buckets are asked for ahead: hash, later the item's address, and bucket
"""

from wirespeed.apps.memcached.layout import ShardView
from wirespeed.jit import View, le64, load64, shift_right

DROPS: tuple[str, ...] = ("short", "incomplete", "several")
"""Names of what :func:`wirespeed.apps.memcached.serve.serve` drops: the first is -1."""
SHORT, INCOMPLETE, SEVERAL = -1, -2, -3

WORDS_MAX: int = 9
"""Words of a line that are kept; no command but get has more than eight."""
WORDS: int = 512
ASKED: int = 768
AHEAD: int = 16
"""Requests between asking for a bucket and for the item it has, at least."""
GROUP: int = 16
"""So many buckets, or items, are asked for at once."""
PLACES: int = 64
"""For keys that were noted and whose items were not yet asked for; a power of two."""


class ServerView(View):
    """One worker's state."""

    store = le64(0, "address of the first shard")
    shard_bytes = le64(8, "from one shard to the next")
    shards = le64(16, "how many; a power of two")
    locked = le64(24, "1: several workers, which lock a shard")
    me = le64(32, "this worker's number + 1")
    now = le64(40, "Unix time in seconds, kept by control code")
    started = le64(48, "when the server was")
    messages = le64(56, "address of the texts")
    figures = le64(64, "address of the table of statistics")
    figure_count = le64(72)
    scratch = le64(80, "address of a copy of the request")
    answer = le64(88, "address of the answer's text")
    answer_max = le64(96, "bytes it may have")
    workers = le64(104, "address of the first worker's state")
    worker_count = le64(112)
    verbosity = le64(120, "as told; nothing depends on it")

    out = le64(128, "where the answer goes on")
    out_end = le64(136, "where it must end")
    quiet = le64(144, "1: this command wants no reply")
    left = le64(152, "bytes of the answer that are still to be sent")
    request_id = le64(160, "as it stands in memory")
    sequence = le64(168, "number of the next datagram")
    datagrams = le64(176, "in the answer")
    result = le64(184, "what incr or decr made")

    requests = le64(192, "datagrams that came")
    cmd_get = le64(200)
    cmd_set = le64(208)
    cmd_flush = le64(216)
    cmd_touch = le64(224)
    get_hits = le64(232)
    get_misses = le64(240)
    delete_hits = le64(264)
    delete_misses = le64(272)
    incr_hits = le64(280)
    incr_misses = le64(288)
    decr_hits = le64(296)
    decr_misses = le64(304)
    cas_hits = le64(312)
    cas_misses = le64(320)
    cas_badval = le64(328)
    touch_hits = le64(336)
    touch_misses = le64(344)
    store_too_large = le64(352)
    bytes_read = le64(360)
    bytes_written = le64(368)
    multi_packet = le64(376, "requests of several datagrams: dropped")
    answer_too_large = le64(384, "answers that were cut off by the limit")
    dropped = le64(392, "too short, or without the end of their line or value")
    grown = le64(408, "digits of that, if it needs more room than the item has")
    asked = le64(400, "buckets asked for ahead, so far")
    fetched = le64(416, "of these, looked into for the item: at most AHEAD fewer")
    reached = le64(424, "of these, those whose bucket was really asked for")
    SIZE = 1792

    def shard_of(self, hash: int) -> ShardView:
        """The shard of a key. Neither the bits that choose the bucket nor the tag's are among those it goes by."""
        return ShardView(self.store + self.number_of(hash) * self.shard_bytes)

    def number_of(self, hash: int) -> int:
        """The number of that shard."""
        return shift_right(hash, 16) & (self.shards - 1)

    def word(self, index: int) -> int:
        """Where a word of the line begins."""
        return load64(self.address + WORDS + (index << 4))

    def word_bytes(self, index: int) -> int:
        """How long it is."""
        return load64(self.address + WORDS + 8 + (index << 4))


STATE_BYTES: int = ServerView.SIZE
assert ASKED + PLACES * 16 <= STATE_BYTES and AHEAD + 2 * GROUP <= PLACES
COUNTERS: tuple[str, ...] = tuple(
    name for name, field in ServerView.fields.items() if ServerView.requests.offset <= field.offset < 400
)
