"""The Python side of the key-value server: makes its memory, keeps its time, reads what it counted. ::

with MemcachedServer(memory_bytes=64 << 20) as server:
    ...                     # workers call serve(server, ...)
    server.stats().get_hits
"""

import os
import secrets
import threading
import time
from dataclasses import dataclass

from wirespeed.apps.memcached import texts
from wirespeed.apps.memcached.layout import (
    BUCKETS,
    CHUNKS,
    CLASS_MAP,
    GRANULE_BITS,
    PAGE_BYTES,
    TABLE,
    VALUE_MAX,
    ShardView,
)
from wirespeed.apps.memcached.state import COUNTERS, ServerView
from wirespeed.apps.memcached.texts import FigureView
from wirespeed.eal.alarm import Alarm
from wirespeed.errors import WirespeedError
from wirespeed.jit import signed64, store8, write_bytes
from wirespeed.mem.region import Region
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.tables.hash_memory import BUCKET_BYTES, PLACES, SECOND, HashHead

MEMORY_MIN: int = 1 << 20
MEMORY_MAX: int = 32 << 30
ANSWER_MAX: int = 1 << 16
"""Bytes of the longest answer, unless told otherwise."""
ITEM_BYTES: int = 128
"""What an item is thought to take, when the table is made; smaller ones than that on average are evicted for want of
places in the table instead of memory."""

_FILL = 0.9
_REQUEST_MAX = 1 << 16
_TICK_S = 0.25
_BEHIND = 64  # bytes behind the last page that may be read, see serve()


class MemcachedError(WirespeedError):
    """A key-value server that cannot be."""


@dataclass(frozen=True)
class MemcachedStats:
    """What all workers counted, and what is stored. Names are memcached's where it has them."""

    requests: int
    cmd_get: int
    cmd_set: int
    cmd_flush: int
    cmd_touch: int
    get_hits: int
    get_misses: int
    delete_hits: int
    delete_misses: int
    incr_hits: int
    incr_misses: int
    decr_hits: int
    decr_misses: int
    cas_hits: int
    cas_misses: int
    cas_badval: int
    touch_hits: int
    touch_misses: int
    store_too_large: int
    bytes_read: int
    bytes_written: int
    multi_packet: int
    answer_too_large: int
    dropped: int
    curr_items: int
    total_items: int
    bytes: int
    evictions: int
    reclaimed: int
    pages_moved: int
    limit_maxbytes: int
    memory_bytes: int


_OF_SHARDS = {
    "curr_items": "items", "total_items": "total_items", "bytes": "used_bytes", "evictions": "evictions",
    "reclaimed": "reclaimed", "pages_moved": "moved",
}  # fmt: skip


class MemcachedServer:
    """What workers answer from; in a handler it is the state that :func:`wirespeed.apps.memcached.serve.serve` takes.

    Args:
        memory_bytes: for items, 1 MiB to 32 GiB for each shard; when it is full they give way to new ones. The table
            that finds them takes a fourteenth more.
        shards: parts that can be changed at the same time by different workers, a power of two: 1 for one worker,
            several for each worker where there are more.
        answer_max: bytes of the longest answer; what would be longer is refused.
        now_s: Unix time; from then on :meth:`tick` says it.

    Raises:
        MemcachedError: a setting out of range.
        ArenaError: no memory.
    """

    View = ServerView
    stride = ServerView.SIZE

    def __init__(
        self,
        memory_bytes: int = 64 << 20,
        *,
        shards: int = 1,
        answer_max: int = ANSWER_MAX,
        now_s: int | None = None,
    ) -> None:
        if not 1 <= shards <= 1024 or shards & (shards - 1):
            raise MemcachedError(f"{shards} shards are not possible: a power of two up to 1024")
        each = memory_bytes // shards
        if not MEMORY_MIN <= each <= MEMORY_MAX:
            raise MemcachedError(
                f"{memory_bytes} bytes for {shards} shards are not possible: each takes 1 MiB to 32 GiB; "
                "change memory or shards"
            )
        least = VALUE_MAX + 512
        if not least <= answer_max <= 1 << 24:
            raise MemcachedError(f"answers of at most {answer_max} bytes are not possible: {least} to {1 << 24}")
        self._pages = each // PAGE_BYTES
        self._buckets = 2 * (int(each / (ITEM_BYTES * 2 * PLACES * _FILL)) + 1)  # even: see other_bucket()
        self._page_table = BUCKETS + self._buckets * BUCKET_BYTES
        self._first_page = -(-(self._page_table + 8 * self._pages) // 4096) * 4096
        self._shard_bytes = self._first_page + self._pages * PAGE_BYTES
        self.memory_bytes, self.shards = self._pages * PAGE_BYTES * shards, shards
        assert self._pages * PAGE_BYTES >> GRANULE_BITS <= SECOND
        own = _REQUEST_MAX + answer_max + 3 * VALUE_MAX
        self._store = Region(shards * self._shard_bytes + _BEHIND, "wirespeed-memcached")
        self._scratch = Region(MAX_WORKERS * own, "wirespeed-memcached-scratch", huge=False, populate=False)
        figures = self._figures()
        size = len(texts.TEXTS) * texts.TEXT_BYTES + len(figures) * FigureView.SIZE
        self._texts = Region(size, "wirespeed-memcached-texts", huge=False)
        self._region = Region(MAX_WORKERS * self.stride, "wirespeed-memcached-state", huge=False)
        self.address = self._region.address
        self._make_shards()
        self._make_texts(figures)
        now_s = int(time.time()) if now_s is None else now_s
        for worker in range(MAX_WORKERS):
            view = self[worker]
            view.store, view.shard_bytes, view.shards = self._store.address, self._shard_bytes, shards
            view.me, view.started = worker + 1, now_s - 1
            view.messages = self._texts.address
            view.figures = self._texts.address + len(texts.TEXTS) * texts.TEXT_BYTES
            view.figure_count = len(figures)
            view.scratch = self._scratch.address + worker * own + 8
            view.answer, view.answer_max = view.scratch + _REQUEST_MAX, answer_max
            view.workers, view.worker_count = self.address, 1
        self._alarm: Alarm | None = None
        self._closed = False
        self._lock = threading.Lock()  # the alarm's thread, and who closes
        self.tick(now_s)

    def _make_shards(self) -> None:
        key = [signed64(secrets.randbits(64)) for _ in range(3)]
        for index in range(self.shards):
            shard = self._shard(index)
            shard.pages = shard.granules = self._first_page
            shard.page_table, shard.page_count = self._page_table, self._pages
            shard.capacity = int(self._buckets * PLACES * _FILL)
            for number, chunk in enumerate(CHUNKS):
                shard.class_at(number).chunk = chunk
                first = (CHUNKS[number - 1] >> GRANULE_BITS) + 1 if number else 0
                for granules in range(first, (chunk >> GRANULE_BITS) + 1):
                    store8(shard.address + CLASS_MAP + granules, number)
            head = HashHead(shard.address + TABLE)
            head.buckets, head.capacity = self._buckets, self._buckets * PLACES
            head.secret0, head.secret1, head.secret2 = key

    def _figures(self) -> list[tuple[str, int, int]]:
        """(name, kind, value) of each line of ``stats``."""
        version = f"version {_version()}"
        lines = [
            ("pid", texts.VALUE, os.getpid()), ("uptime", texts.UPTIME, 0), ("time", texts.TIME, 0),
            (version, texts.AS_TEXT, 0), ("pointer_size", texts.VALUE, 64),
        ]  # fmt: skip
        lines += [(name, texts.OF_WORKERS, ServerView.fields[name].offset) for name in COUNTERS]
        lines += [(name, texts.OF_SHARDS, ShardView.fields[field].offset) for name, field in _OF_SHARDS.items()]
        return [*lines, ("limit_maxbytes", texts.VALUE, self.memory_bytes), ("shards", texts.VALUE, self.shards)]

    def _make_texts(self, figures: list[tuple[str, int, int]]) -> None:
        at = self._texts.address
        for line in (*texts.TEXTS[: texts.VERSION], f"VERSION {_version()}\r\n".encode()):
            write_bytes(at, bytes([len(line)]) + line)
            at += texts.TEXT_BYTES
        for name, kind, value in figures:
            figure = FigureView(at)
            figure.kind, figure.name_bytes, figure.value = kind, len(name), value
            write_bytes(at + 16, name.encode())
            at += FigureView.SIZE

    def __getitem__(self, worker: int) -> ServerView:
        """One worker's state."""
        return ServerView(self.address + worker * self.stride)

    def _shard(self, index: int) -> ShardView:
        return ShardView(self._store.address + index * self._shard_bytes)

    def prepare(self, workers: int) -> None:
        """The engine's word before a start: how many workers there are."""
        for worker in range(MAX_WORKERS):
            self[worker].locked, self[worker].worker_count = int(workers > 1), workers

    # Time -----------------------------------------------------------------------------------------------------

    def tick(self, now_s: int | None = None) -> None:
        """Say what time it is: Unix time in seconds, the machine's unless given."""
        with self._lock:
            if not self._closed:
                now_s = int(time.time()) if now_s is None else now_s
                for worker in range(MAX_WORKERS):
                    self[worker].now = now_s

    def start(self) -> None:
        """Go on saying it, by an alarm, until :meth:`close`."""
        self._alarm = self._alarm or Alarm(_TICK_S, self.tick, every=_TICK_S)

    # What it did ----------------------------------------------------------------------------------------------

    def stats(self) -> MemcachedStats:
        """What all workers counted, and what is stored."""
        workers = [self[worker] for worker in range(MAX_WORKERS)]
        shards = [self._shard(index) for index in range(self.shards)]
        counted = {name: sum(getattr(view, name) for view in workers) for name in COUNTERS}
        stored = {name: sum(getattr(shard, field) for shard in shards) for name, field in _OF_SHARDS.items()}
        return MemcachedStats(
            **counted, **stored, limit_maxbytes=self.memory_bytes, memory_bytes=self._store.size
        )  # fmt: skip

    @property
    def pages(self) -> str:
        """Kind of the items' memory: ``hugetlb``, ``thp`` or ``normal``."""
        return self._store.kind

    def close(self) -> None:
        """Give all memory back; no graph may run with it."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        with self._lock:
            self._closed = True
            for region in (self._store, self._scratch, self._texts, self._region):
                region.close()

    def __enter__(self) -> "MemcachedServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _version() -> str:
    from wirespeed import __version__  # which imports this, in the end

    return __version__


__all__ = ["ANSWER_MAX", "MEMORY_MAX", "MEMORY_MIN", "MemcachedError", "MemcachedServer", "MemcachedStats"]
