"""What Lpm6 and Vrfs have in common: tries in one memory, changed in bulk, all or nothing."""

import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import lent
from wirespeed.mem.shared import Shared
from wirespeed.tables import rib6
from wirespeed.tables.lpm6_chunks import BLOCK_UNITS, release_until
from wirespeed.tables.lpm6_memory import HOP_MASK, MAX_HOP, RECORD_BYTES, UNIT_SHIFT, Record, Table
from wirespeed.tables.lpm6_update import ABSENT, DONE, FULL, NO_ROOM, WAITING, change_many
from wirespeed.tables.reclaimer import Reclaimer

CHUNK_BYTES_A_ROUTE: int = 64
"""Memory for nodes and lists unless said otherwise; the Internet's table takes 29."""
_ROUTES_MAX: int = 1 << 27
_RING: int = 1 << 14
_TRIES: int = 100

Words = NDArray[np.int64]
Routes = tuple[Words, Words, Words, Words]
"""Highs, lows, lengths, next hops."""


class Tries(Shared):
    """Routes of one or many tables in one memory. ``reclaimer``: see :class:`~wirespeed.tables.lpm6.Lpm6`."""

    reclaimer: Reclaimer | None
    _bits: int  # of the address that a table's root words are for
    _deferred: int  # tail of the ring when a grace period was last asked for

    def _lay_out(self, name: str | None, routes: int, memory: int | None, head_bytes: int, **parameters: Any) -> Record:
        """Make the memory: record, ``head_bytes`` of the class's own, routes, chunks."""
        shown = name or self.KIND
        if not 1 <= routes <= _ROUTES_MAX:
            raise TableError(f"{shown}: {routes} routes are not possible: use 1 to {_ROUTES_MAX}")
        chunks = memory if memory is not None else routes * CHUNK_BYTES_A_ROUTE + (64 << 10)
        if not 8192 <= chunks <= 8 << 30:
            raise TableError(f"{shown}: {chunks} bytes for nodes are not possible: use 8192 to {8 << 30}")
        units = -(-chunks >> UNIT_SHIFT) // -BLOCK_UNITS * -BLOCK_UNITS
        rib = RECORD_BYTES + head_bytes
        rib_limit = 2 * routes + 2
        ring = rib + rib_limit * rib6.RIB_NODE_BYTES
        units_map = ring + _RING * 8
        first = -(-(units_map + units) // 4096) * 4096
        self._create(first + (units << UNIT_SHIFT), name, routes=routes, **parameters)
        record = Record(self.address)
        record.rib, record.rib_limit, record.rib_frontier, record.rib_used = rib, rib_limit, 1, 1
        record.ring, record.ring_size, record.map = ring, _RING, units_map
        record.units_first = record.frontier = first >> UNIT_SHIFT
        record.units_end = (first >> UNIT_SHIFT) + units
        record.routes_limit = routes
        return record

    def _change(self, table: int, highs: Words, lows: Words, lengths: Words, hops: Words) -> None:
        """Add (``hops`` is next hop + 1) or delete (0) routes: all of them, or raise TableError and none."""
        self._check_writable()
        work = (highs, lows, lengths, hops.copy())
        done = 0
        try:
            done, code = self._work(table, work)
        except Exception:
            self._undo(table, work)
            raise
        if code != DONE:
            which = int(highs[done]), int(lows[done]), int(lengths[done])
            self._undo(table, work, done)
            raise TableError(self._why(code, len(highs) - done, self._text(table, *which)))

    def _work(self, table: int, work: Routes) -> tuple[int, int]:
        """(How many are done, why no more)."""
        record, reclaimer = Record(self.address), self.reclaimer
        if reclaimer is None and record.ring_head != record.ring_tail:
            release_until(self.address, record.ring_tail)
        done, code, count, waited_at = 0, DONE, len(work[0]), -1
        with lent(*work) as places:
            while True:
                live = int(reclaimer is not None)
                highs, lows, lengths, hops = places
                done, code = change_many(self.address, table, self._bits, highs, lows, lengths, hops, done, count, live)
                waits = reclaimer is not None and record.ring_head != record.ring_tail  # before defer: it may free all
                if reclaimer is not None and record.ring_tail != self._deferred:
                    self._deferred = record.ring_tail
                    reclaimer.defer(lambda tail=self._deferred: self._reuse(tail))  # type: ignore[misc]
                if code not in (WAITING, FULL) or not waits or waited_at == done:
                    return done, code
                waited_at = done
                assert reclaimer is not None
                self._done = done
                reclaimer.synchronize()

    _done = 0

    def _undo(self, table: int, work: Routes, done: int | None = None) -> None:
        """Take back the first ``done`` changes, the last one first."""
        count = self._done if done is None else done
        self._done = 0
        if count:
            back = tuple(np.ascontiguousarray(array[:count][::-1]) for array in work)
            self._work(table, back)  # type: ignore[arg-type]

    def _reuse(self, tail: int) -> None:
        if self.region.fd >= 0:
            release_until(self.address, tail)

    def _why(self, code: int, left: int, text: str) -> str:
        record = Record(self.address)
        if code == ABSENT:
            return f"{self.name}: there is no route {text} to delete"
        limit = record.routes_limit
        if code == NO_ROOM:
            return (
                f"{self.name} is full: it holds {limit} routes, and {text} would be one more "
                f"({left} to add): create it with routes={2 * limit}"
            )
        if code == FULL:
            units = (record.units_end - record.units_first) << UNIT_SHIFT
            return (
                f"{self.name} is full: no node for {text} in its {units} bytes, {record.units_waiting << UNIT_SHIFT} "
                f"of which wait for a grace period: create it with memory={2 * units}"
            )
        return f"{self.name}: workers have not let go of {_RING} nodes: {text} cannot be changed now"

    def _text(self, table: int, high: int, low: int, length: int) -> str:
        raise NotImplementedError

    def _hops(self, next_hops: Any, table: int, highs: Words, lows: Words, lengths: Words) -> Words:
        """Next hops + 1. Raises TableError: one is out of range, or there is not one for each prefix."""
        if isinstance(next_hops, np.ndarray):
            if next_hops.dtype.kind not in "iu":
                raise TableError(f"{self.name}: next hops are {next_hops.dtype}: give integers")
            wide = next_hops
        else:
            try:
                wide = np.array([operator.index(hop) for hop in next_hops], dtype=object)
            except TypeError as error:
                raise TableError(f"{self.name}: a next hop is no integer: {error}") from None
        if len(wide) != len(highs):
            raise TableError(f"{self.name}: {len(highs)} prefixes have {len(wide)} next hops: give one each")
        bad = (wide < 0) | (wide > MAX_HOP)
        if bad.any():
            at = int(bad.argmax())
            text = self._text(table, int(highs[at]), int(lows[at]), int(lengths[at]))
            raise TableError(
                f"{self.name}: next hop {wide[at]} of {text} is not 0 to {MAX_HOP}: number the next hops densely "
                "and keep what they mean in a table of their own"
            )
        return wide.astype(np.int64) + 1

    def _get(self, table: int, high: int, low: int, length: int) -> int | None:
        for _ in range(_TRIES):
            before = self._even_version()
            hop = int(rib6.get(self.address, table, high, low, length))
            if Record(self.address).version == before:
                return hop if hop >= 0 else None
        raise self._busy()

    def _export(self, table: int) -> Routes:
        """All routes, by address and length."""
        for _ in range(_TRIES):
            before = self._even_version()
            count = Table(table).routes
            highs, lows, lengths, hops = (np.empty(count, np.int64) for _ in range(4))
            with lent(np.empty(130, np.int64), highs, lows, lengths, hops) as (stack, high, low, length, hop):
                found = rib6.export(self.address, table, stack, high, low, length, hop, count)
            if found == count and Record(self.address).version == before:
                return highs, lows, lengths, hops
        raise self._busy()

    def _even_version(self) -> int:
        return int(Record(self.address).version) & ~1

    def _busy(self) -> TableError:
        return TableError(
            f"{self.name}: process {self.owner} keeps changing its routes (or died while it did): try again later"
        )

    def _delete(self, table: int, highs: Words, lows: Words, lengths: Words) -> None:
        """Delete routes, each once however often it is named: all of them, or raise TableError and none."""
        try:
            self._change(table, highs, lows, lengths, np.zeros(len(highs), np.int64))
        except TableError:
            once = np.ascontiguousarray(np.unique(np.stack([highs, lows, lengths]), axis=1))
            if once.shape[1] == len(highs):
                raise
            highs, lows, lengths = once  # rows are contiguous
            self._change(table, highs, lows, lengths, np.zeros(once.shape[1], np.int64))

    def _clear(self, table: int) -> None:
        """Delete the routes, longest first, so that little is painted anew."""
        highs, lows, lengths, _ = self._export(table)
        order = np.argsort(-lengths, kind="stable")
        gone = np.zeros(len(order), np.int64)
        self._change(table, highs[order], lows[order], lengths[order], gone)


__all__ = ["CHUNK_BYTES_A_ROUTE", "HOP_MASK", "Routes", "Tries", "Words"]
