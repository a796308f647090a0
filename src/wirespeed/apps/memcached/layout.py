"""What lies where in the memory of the key-value server.

::

    shard                                   (as many as the store has; each with a lock of its own)
    0        192         head (:class:`ShardView`)
    192      64 * 32     classes (:class:`ClassView`)
    2240     320         the class of an item, by its size in granules of 32 bytes
    2560     256         head of the hash table (:class:`wirespeed.tables.hash_memory.HashHead`)
    2816     64 * b      its buckets
    ...      8 * p       pages: class, next page of that class
    ...      65536 * p   pages, each cut into chunks of one class

    item: one chunk
    0        24          head (:class:`ItemView`)
    24       k           key
    24 + k   m           middle: " <flags> <bytes>\\r\\n"
    ...      v           value, then "\\r\\n"

Behind its head an item is what a ``get`` answers, so that an answer is one copy. The table is that of
:mod:`wirespeed.tables.hash_memory`: a bucket is one cache line, a slot is the number of the granule an item begins at.
A get reads two lines that wait for each other, the bucket and the item's first; the rest of the item comes with it.

One worker writes a shard at a time. A key's shard follows from its hash, so that workers rarely meet in one.
"""

from wirespeed.jit import View, le16, le32, le64, u8
from wirespeed.tables.hash_memory import HEAD_BYTES

KEY_MAX: int = 250
VALUE_MAX: int = 8192

GRANULE_BITS: int = 5
PAGE_BYTES: int = 1 << 16
TEXT: int = 24
"""Offset of an item's text."""
MIDDLE_MAX: int = 1 + 10 + 1 + 4 + 2
ITEM_MAX: int = TEXT + KEY_MAX + MIDDLE_MAX + VALUE_MAX + 2

CHUNKS: tuple[int, ...] = (
    *range(64, 257, 32),
    *(base * quarter // 4 for base in (256, 512, 1024, 2048, 4096) for quarter in (5, 6, 7, 8)),
    8704,
)
"""Bytes of a chunk, by class: steps of 32, then four for each doubling, so that an eighth is lost on average."""

CLASSES: int = 192
CLASS_MAP: int = CLASSES + 64 * 32
TABLE: int = CLASS_MAP + 320
BUCKETS: int = TABLE + HEAD_BYTES
assert len(CHUNKS) <= 32 and CHUNKS[-1] >= ITEM_MAX and ITEM_MAX >> GRANULE_BITS < 320 and TABLE % 64 == 0


class ShardView(View):
    """Head of a shard. Counters here are written under its lock."""

    lock = le64(0, "worker that has it + 1, 0 if nobody; of use when there are several")
    cas = le64(64, "the last unique number given to an item")
    flushed = le64(72, "items up to this number are not there any more")
    flush_at = le64(80, "seconds: when all will be flushed; 0: never")
    pages = le64(88, "offset of the pages")
    granules = le64(96, "offset of granule 0: that of the pages")
    page_table = le64(104, "offset of the table of pages")
    page_count = le64(112, "pages there are")
    page_used = le64(120, "pages that classes have")
    items = le64(128, "items in the table, expired ones among them")
    capacity = le64(136, "items it may hold")
    used_bytes = le64(144, "of items, heads and text")
    evictions = le64(152, "items that gave way to others")
    reclaimed = le64(160, "items whose memory was taken when they had expired")
    total_items = le64(168, "items stored, ever")
    allocated = le64(176, "chunks given out since demand was last halved")
    moved = le64(184, "pages that went from one class to another")
    SIZE = CLASSES

    def class_at(self, kind: int) -> "ClassView":
        """A class of chunks."""
        return ClassView(self.address + CLASSES + (kind << 6))

    def item(self, slot: int) -> "ItemView":
        """The item, or the free chunk, at a granule."""
        return ItemView(self.address + self.granules + (slot << GRANULE_BITS))

    def slot(self, item: int) -> int:
        """The granule at an address."""
        return (item - self.address - self.granules) >> GRANULE_BITS

    def page(self, index: int) -> "PageView":
        """A page's record."""
        return PageView(self.address + self.page_table + (index << 3))

    def page_start(self, index: int) -> int:
        """Address of a page."""
        return self.address + self.pages + index * PAGE_BYTES


class ClassView(View):
    """Chunks of one size. Their pages are a ring; the hand of the clock goes round it."""

    chunk = le64(0, "bytes")
    free = le64(8, "slot of the first free chunk + 1; 0: none")
    fresh = le64(16, "address of the next chunk that was never used")
    fresh_end = le64(24, "where these end")
    last = le32(32, "the page before the hand's")
    hand = le32(36, "bytes into its page")
    pages = le64(40, "how many it has")
    demand = le64(48, "bytes allocated lately")
    evicted = le64(56, "items that gave way")
    SIZE = 64


class PageView(View):
    """A page's record."""

    next = le32(0, "the next page of its class")
    kind = le32(4, "its class")
    SIZE = 8


class ItemView(View):
    """Head of an item; of a free chunk the links."""

    cas = le64(0, "unique number")
    expiry = le32(8, "Unix time from which on it is not there any more; 0: never")
    flags = le32(12, "whatever the client says")
    value_bytes = le16(16)
    key_bytes = u8(18)
    middle = u8(19, "bytes between key and value")
    kind = u8(20, "class")
    live = u8(21, "0: a free chunk")
    used = u8(22, "asked for since the hand last came by")
    next = le32(0, "free: slot of the next one + 1")
    before = le32(4, "free: slot of the one before + 1")
    SIZE = TEXT

    @property
    def text(self) -> int:
        """Address of what a get answers."""
        return self.address + TEXT

    @property
    def value(self) -> int:
        """Address of the value."""
        return self.address + TEXT + self.key_bytes + self.middle

    @property
    def text_bytes(self) -> int:
        """Bytes of what a get answers."""
        return self.key_bytes + self.middle + self.value_bytes + 2
