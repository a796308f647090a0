"""Acl4, Acl6: ordered access lists over 5-tuples, replaced as a whole while workers classify.

::

    acl = Acl4(rules=1000)
    acl.replace([
        "deny tcp any host 192.0.2.1 eq 22",
        Rule(dst="192.0.2.0/24", dport=(80, 443), protocol="tcp", action=7),
    ])
    acl.classify("198.51.100.9", "192.0.2.5", "tcp", 40000, 80)      # 7

What workers read is in :mod:`wirespeed.tables.acl_memory`, the compiler in :mod:`wirespeed.tables.acl_build`.
"""

import ipaddress
import operator
import threading
import weakref
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import (
    copy,
    lent,
    load_acquire,
    read_bytes,
    signed64,
    store_release,
    write_bytes,
)
from wirespeed.jit.match8 import V4_BYTES, V6_BYTES
from wirespeed.mem.region import Region
from wirespeed.mem.shared import Shared
from wirespeed.tables import acl_build
from wirespeed.tables import acl_memory as memory
from wirespeed.tables.acl_memory import MAX_RULES, Acl4View, Acl6View, AclView, Area
from wirespeed.tables.acl_rule import PROTOCOLS, RULE, Rule, Rules, parse_prefix, prefix_masks, rule_array, rule_of
from wirespeed.tables.reclaimer import Reclaimer

_CURRENT, _GENERATION = AclView.current.offset, AclView.generation.offset
COPIES, MORE_COPIES = 6, 100_000
"""Places for copies of rules that there is room for unless it is said otherwise: six for each, and ten more for each
while that is no more than MORE_COPIES."""
PROBES: int = 1024
"""Rules by which a compiled set is judged."""


@dataclass(frozen=True)
class AclStats:
    """What an access list holds.

    Attributes:
        rules: in the set that is read.
        rules_limit: that there is room for.
        trees: that a lookup walks, one after the other.
        depth: loads of the longest walk through one tree.
        longest: rules of the longest leaf: what a packet is compared with at worst, in each tree.
        copies: rules in all leaves together.
        nodes: entries of all inner nodes, eight bytes each.
        used_bytes: of the ``bound_bytes`` that a compiled set may take.
        memory_bytes: of the whole object: two sets, so that one is built while the other is read.
        generation: how many sets there have been.
        pages: kind of the memory: ``hugetlb``, ``thp`` or ``normal``.
    """

    rules: int
    rules_limit: int
    trees: int
    depth: int
    longest: int
    copies: int
    nodes: int
    used_bytes: int
    bound_bytes: int
    memory_bytes: int
    generation: int
    pages: str


class _Acl(Shared):
    """What access lists of both families are."""

    BITS: ClassVar[int]
    WORDS: ClassVar[int]
    BLOCK_BYTES: ClassVar[int]
    _kernel: ClassVar[Any]
    _record: Any

    def __init__(
        self,
        rules: int = 1024,
        memory_bytes: int | None = None,
        name: str | None = None,
        reclaimer: Reclaimer | None = None,
    ) -> None:
        limit = operator.index(rules)
        label = name or self.KIND
        if not 1 <= limit <= MAX_RULES:
            raise TableError(f"{label}: room for {limit} rules is not possible: use 1 to {MAX_RULES}")
        tables = self._pool_at(limit)
        least = tables + (limit + 15) // 8 * self.BLOCK_BYTES
        area = tables + (limit * COPIES + min(10 * limit, MORE_COPIES) + 64) // 8 * self.BLOCK_BYTES + 4096
        if memory_bytes is not None:
            area = (operator.index(memory_bytes) - memory.RECORD_BYTES) // 2
            if area < least:
                raise TableError(
                    f"{label}: {memory_bytes} bytes are too few for {limit} rules: "
                    f"two sets need {2 * least + memory.RECORD_BYTES} at least"
                )
        area = (area + 63) // 64 * 64
        self._create(memory.RECORD_BYTES + 2 * area, name, rules=limit, area=area)
        self._set_up(reclaimer)
        self._record.area_bytes, self._record.capacity = area, limit
        for at in (memory.RECORD_BYTES, memory.RECORD_BYTES + area):
            self._write_area(self.address + at, np.empty(0, dtype=RULE))
        self._record.current = memory.RECORD_BYTES

    def _set_up(self, reclaimer: Reclaimer | None) -> None:
        self.reclaimer = reclaimer
        self._limit, self._area = self.parameters["rules"], self.parameters["area"]
        self._record = self.View(self.address)
        self._writing = threading.RLock()
        self._change = threading.Condition()
        self._reading: Counter[int] = Counter()  # Python calls that are inside an area
        self._held = -1  # area that workers may still read

    def _pool_at(self, limit: int) -> int:
        size = memory.AREA_HEAD + 2 * 4 * (limit + 2) + RULE.itemsize * limit
        return (size + 63) // 64 * 64

    # What nodes call too ------------------------------------------------------------------------------------

    def classify(self, src: Any, dst: Any, protocol: int | str, sport: int = 0, dport: int = 0) -> int:
        """The action of the best rule that matches a packet, or -1.

        Args:
            src, dst: address as text, int, pair (high, low) or ipaddress object.
            protocol: number, or a name of :data:`~wirespeed.tables.acl_rule.PROTOCOLS`.
            sport, dport: 0 for packets without ports.
        """
        return int(self._now().classify(*self._packet(src, dst, protocol, sport, dport)))

    def match(self, src: Any, dst: Any, protocol: int | str, sport: int = 0, dport: int = 0) -> int:
        """The number, from 0, of the best rule that matches a packet, or -1."""
        return int(self._now().match(*self._packet(src, dst, protocol, sport, dport)))

    def classify_packet(self, pkt: Any) -> int:
        """The action for a packet that a node was given; -1 if it is of the other family."""
        return int(self._now().classify_packet(pkt))

    def _packet(self, src: Any, dst: Any, protocol: int | str, sport: int, dport: int) -> tuple[Any, ...]:
        if isinstance(protocol, str):
            if protocol not in PROTOCOLS:
                raise TableError(f"protocol {protocol!r} is not known: use a number or {', '.join(PROTOCOLS)}")
            protocol = PROTOCOLS[protocol]
        for field, value, top in (("protocol", protocol, 255), ("source port", sport, 65535), ("port", dport, 65535)):
            if not 0 <= value <= top:
                raise TableError(f"{field} {value} is out of range: it is 0 to {top}")
        return self._address(src), self._address(dst), int(protocol), int(sport), int(dport)

    def _address(self, address: Any) -> Any:
        if isinstance(address, tuple):
            high, low = (operator.index(half) & 0xFFFF_FFFF_FFFF_FFFF for half in address)
            number = high << 64 | low
        elif isinstance(address, (str, ipaddress.IPv4Address, ipaddress.IPv6Address)):
            number, length = parse_prefix(address, self.BITS, "address")  # type: ignore[arg-type]
            if length != self.BITS:
                raise TableError(f"address {address!r} is a prefix: give one address")
        else:
            number = operator.index(address)
        if not 0 <= number < 1 << self.BITS:
            raise TableError(f"address {number:#x} is out of range: it has {self.BITS} bits")
        if self.BITS == 32:
            return number
        return signed64(number >> 64), signed64(number)

    # Rules --------------------------------------------------------------------------------------------------

    def replace(self, rules: Rules) -> None:
        """Put another set of rules in the place of the present one, at once for each packet.

        It is compiled aside while workers classify by the old set, and published by one store. The memory of the
        old set is used again for the next one, after a grace period of :attr:`reclaimer`; without one, a second
        replacement must not come while a worker still classifies.

        Args:
            rules: :class:`Rule` objects, text, or an array of :data:`~wirespeed.tables.acl_rule.RULE`.

        Raises:
            TableError: a bad rule (its number and field are named), or more rules than there is room for. The old
                set stays.
        """
        self._check_writable()
        array = rule_array(rules, self.BITS)
        if len(array) > self._limit:
            raise TableError(
                f"{self.name}: {len(array)} rules do not fit into {self._limit}: create it with rules={len(array)}"
            )
        with self._writing:
            spare = 2 * memory.RECORD_BYTES + self._area - self._record.current
            if self._held == spare and self.reclaimer is not None:
                self.reclaimer.synchronize()
                self._held = -1
            self._wait_for_readers(spare)
            self._write_area(self.address + spare, array)
            self._publish(spare)

    def _publish(self, area: int) -> None:
        old = self._record.current
        with self._change:
            store_release(self.address + _CURRENT, area)
            store_release(self.address + _GENERATION, self._record.generation + 1)
        if self.reclaimer is not None:
            self._held = old

            def free() -> None:
                if self._held == old:
                    self._held = -1

            self.reclaimer.defer(free)

    def clear(self) -> None:
        """An empty set: nothing matches any more."""
        self.replace([])

    def _write_area(self, area: int, rules: NDArray[Any]) -> None:
        """Compile into an area that nobody reads."""
        order = np.argsort(-rules["priority"].astype(np.int64), kind="stable")
        count, limit = len(rules), self._limit
        head = Area(area)
        numbers = memory.AREA_HEAD + 4 * (limit + 2)
        head.count, head.numbers = count, numbers
        words = np.zeros(count + 1, dtype=np.uint32)
        words[:count] = rules["action"][order] + np.uint32(1)
        write_bytes(area + memory.AREA_HEAD, words.tobytes())
        words[:count] = order + 1
        write_bytes(area + numbers, words.tobytes())
        ranked = rules[order]
        write_bytes(area + numbers + 4 * (limit + 2), ranked.tobytes())
        values, masks, ports = self._columns(ranked)
        pool = self._pool_at(limit)
        copies = (self._area - pool) // self.BLOCK_BYTES * 8
        work = np.empty(copies + 6 * count + 64, dtype=np.int64)
        stack = np.empty((copies // 16 + memory.MAX_TREES + 2, acl_build.COLUMNS), dtype=np.int64)
        notes, spread, sizes, later = acl_build.scratch(count)
        columns, best, chosen = (values, masks, ports), 0, -1
        tries = min(count, PROBES)

        def build(shape: int, patient: bool) -> int:
            growth, slack, least = acl_build.SHAPES[shape]
            done = acl_build.build(
                *columns, area, pool, self._area, work, stack, notes, spread, sizes, later, growth, slack, least,
                int(patient),
            )  # fmt: skip
            return int(done)

        for shape in range(len(acl_build.SHAPES) if count > acl_build.BLOCK else 1):
            if build(shape, shape == 0):
                cost = acl_build.probe(*columns, area, tries)
                if chosen < 0 or cost < best:
                    best, chosen = cost, shape
        if chosen != shape:
            build(chosen, True)

    def _columns(self, rules: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Words, their masks, and ports, as the compiler wants them."""
        values = np.zeros((len(rules), self.WORDS), dtype=np.uint64)
        masks = np.zeros((len(rules), self.WORDS), dtype=np.uint64)
        for end, name in enumerate(("src", "dst")):
            high, low = prefix_masks(rules[f"{name}_length"], self.BITS)
            if self.BITS == 32:
                shift = np.uint64(32 * (1 - end))
                values[:, 0] |= rules[f"{name}_low"] << shift
                masks[:, 0] |= low << shift
            else:
                values[:, 2 * end], values[:, 2 * end + 1] = rules[f"{name}_high"], rules[f"{name}_low"]
                masks[:, 2 * end], masks[:, 2 * end + 1] = high, low
        values[:, -1] = rules["protocol"].astype(np.uint64) << np.uint64(32)
        masks[:, -1] = rules["protocol_mask"].astype(np.uint64) << np.uint64(32)
        ports = [rules[name].astype(np.int64) for name in ("sport_low", "dport_low", "sport_high", "dport_high")]
        return values.view(np.int64), masks.view(np.int64), np.ascontiguousarray(np.stack(ports, axis=1))

    def __len__(self) -> int:
        return int(Area(self._now().address + self._record.current).count)

    def array(self) -> NDArray[Any]:
        """The rules, in the order they were given, as an array of :data:`~wirespeed.tables.acl_rule.RULE`."""
        with self._inside() as area:
            count, numbers = Area(area).count, Area(area).numbers
            ranked = np.frombuffer(
                read_bytes(area + numbers + 4 * (self._limit + 2), count * RULE.itemsize), dtype=RULE
            )
            order = np.frombuffer(read_bytes(area + numbers, 4 * count), dtype=np.uint32)
        rules = np.empty(count, dtype=RULE)
        rules[order - 1] = ranked
        return rules

    def __iter__(self) -> Iterator[Rule]:
        """The rules, in the order they were given."""
        return (rule_of(record, self.BITS) for record in self.array())

    # Bulk ---------------------------------------------------------------------------------------------------

    def classify_many(self, src: Any, dst: Any, protocol: Any, sport: Any, dport: Any) -> NDArray[np.int64]:
        """The action or -1 of each packet of arrays.

        Args:
            src, dst: integers for IPv4; for IPv6, an array of n rows (high, low) of 64 bits.
            protocol, sport, dport: integers; one number stands for all packets.

        Raises:
            TableError: the arrays are not of one length, or not of integers.
        """
        return self._many(False, src, dst, protocol, sport, dport)

    def match_many(self, src: Any, dst: Any, protocol: Any, sport: Any, dport: Any) -> NDArray[np.int64]:
        """The rule's number or -1 of each packet of arrays; arguments as :meth:`classify_many`."""
        return self._many(True, src, dst, protocol, sport, dport)

    def _many(self, numbers: bool, *packet: Any) -> NDArray[np.int64]:
        kinds: Sequence[Any] = (np.uint32, np.uint32) if self.BITS == 32 else (np.uint64, np.uint64)
        count = len(packet[0])
        columns = []
        for field, given, kind in zip(("src", "dst", "protocol", "sport", "dport"), packet,
                                      (*kinds, np.uint8, np.uint16, np.uint16), strict=True):  # fmt: skip
            columns.append(_column(field, given, kind, count, self.BITS == 128 and field in ("src", "dst")))
        result = np.empty(count, dtype=np.int64)
        scratch = np.empty(memory.SCRATCH_BYTES // 8 + 8, dtype=np.int64)
        with self._inside() as area, lent(*columns, result, scratch):
            line = (scratch.ctypes.data + 63) & ~63
            table = Area(area).numbers if numbers else memory.AREA_HEAD
            self._kernel(area, table, line, *(column.ctypes.data for column in columns), count, result.ctypes.data)
        return result

    @contextmanager
    def _inside(self) -> Iterator[int]:
        """The address of the present set, which is not overwritten meanwhile."""
        view = self._now()
        with self._change:
            area = view.current
            self._reading[area] += 1
        try:
            yield view.address + area
        finally:
            with self._change:
                self._reading[area] -= 1
                self._change.notify_all()

    def _wait_for_readers(self, area: int) -> None:
        """Wait for Python calls that are still inside an area."""
        with self._change:
            self._change.wait_for(lambda: not self._reading[area])

    # The rest -----------------------------------------------------------------------------------------------

    def outgrows_cache(self) -> bool:
        """Whether lookups will miss the cache so often that a node should prefetch; there is nothing to."""
        return False

    def stats(self) -> AclStats:
        """How it is built."""
        with self._inside() as area:
            head = Area(area)
            return AclStats(
                head.count, self._limit, head.trees, head.depth, head.longest, head.copies, head.nodes, head.used,
                self._area, self.memory_bytes, self._record.generation, self.pages,
            )  # fmt: skip

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self)} of {self._limit} rules>"

    # In another process -------------------------------------------------------------------------------------
    # Nobody waits for it there, so it reads a copy of its own, made anew when there is another set.

    def _attached(self) -> None:
        self._theirs = self.address
        self._copy = Region(self.region.size, f"wirespeed-{self.name}-copy")
        self.address = self._copy.address
        weakref.finalize(self, self._copy.close)
        self._set_up(None)
        AclView(self.address).generation = -1
        self.refresh()

    def refresh(self) -> bool:
        """Attached in another process: take over the set that is read there now; whether it is another one.

        Calls from Python do it themselves; a node goes by the copy until this is called.

        Raises:
            TableError: the set was replaced a hundred times while it was copied.
        """
        if self.writable:
            return False
        with self._writing:
            for _ in range(100):
                generation = load_acquire(self._theirs + _GENERATION)
                if generation == self._record.generation:
                    return False
                theirs = load_acquire(self._theirs + _CURRENT)
                spare = 2 * memory.RECORD_BYTES + self._area - (self._record.current or memory.RECORD_BYTES)
                self._wait_for_readers(spare)
                copy(self.address + spare, self._theirs + theirs, self._area)
                if load_acquire(self._theirs + _GENERATION) == generation:
                    with self._change:
                        store_release(self.address + _CURRENT, spare)
                        store_release(self.address + _GENERATION, generation)
                    return True
        raise TableError(f"{self.name} is replaced faster than it can be copied")

    def _now(self) -> Any:
        if not self.writable:
            self.refresh()
        return self._record

    def close(self) -> None:
        """Give the memory back; no worker may classify any more. A second call does nothing."""
        if not self.writable:
            self._copy.close()
        super().close()


class Acl4(_Acl):
    """An access list over IPv4 5-tuples.

    A lookup walks one to eight decision trees (usually two to four), a load a level, and compares the packet with
    the rules of each leaf, eight at a time. Compiling 100,000 rules takes a second or two, in compiled code, while
    workers go on. Each copy of a rule takes 32 bytes.

    Args:
        rules: how many it has room for.
        memory_bytes: bound on its memory, of which a set may take half; by default about 0.5 KB a rule for a set of up
            to 10,000 rules, and 0.25 KB for large ones (IPv6: 2.5 times that). Rules that want more copies are
            compiled to longer leaves instead: they are slower, never larger.
        name: what it is called in errors and by other processes.
        reclaimer: knows when workers have let go of an old set; may be set later.

    Raises:
        TableError: no room for the rules in that memory, or the number is out of range.
        ArenaError: no memory.
    """

    View = Acl4View
    KIND = "acl4"
    BITS, WORDS, BLOCK_BYTES = 32, 2, V4_BYTES
    _kernel = staticmethod(memory.classify4)


class Acl6(_Acl):
    """An access list over IPv6 5-tuples; as :class:`Acl4`, but a copy of a rule takes 80 bytes."""

    View = Acl6View
    KIND = "acl6"
    BITS, WORDS, BLOCK_BYTES = 128, 5, V6_BYTES
    _kernel = staticmethod(memory.classify6)


def _column(field: str, given: Any, kind: Any, count: int, pairs: bool) -> NDArray[Any]:
    array = np.asarray(given)
    shape = (count, 2) if pairs else (count,)
    if array.dtype.kind not in "ui" and array.size:
        raise TableError(f"{field} has dtype {array.dtype}: give an array of integers")
    if array.ndim == 0:
        array = np.full(shape, array)
    if array.shape != shape:
        raise TableError(f"{field} has shape {array.shape}, and {count} packets need {shape}")
    if array.dtype != kind and array.size:
        low, high = int(array.min()), int(array.max())
        top = np.iinfo(kind).max
        if high > top or (low < 0 and not pairs):
            raise TableError(f"{field} {high if high > top else low} is out of range: it is 0 to {top}")
    return np.ascontiguousarray(array, dtype=kind)


__all__ = ["COPIES", "Acl4", "Acl6", "AclStats", "AclView"]
