"""Load: requests by schedule and what is known of their answers; LoadPort: the port they come in by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from wirespeed.apps.load.answers import errors_of, names_of
from wirespeed.apps.load.path import receive_load
from wirespeed.apps.load.requests import KeyedRequests
from wirespeed.apps.load.result import LoadResult
from wirespeed.apps.load.state import (
    ENTRY,
    HISTOGRAM_AT,
    IDENTITIES,
    KINDS,
    KINDS_AT,
    SCALE,
    TAGS,
    UDP,
    LoadQueue,
    LoadView,
)
from wirespeed.apps.load.table import End, Table
from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import ConfigError
from wirespeed.jit import signed64
from wirespeed.mem.pool import Pool
from wirespeed.mem.shared import Shared
from wirespeed.ports.generator.queue import FRACTION
from wirespeed.ports.port import Port
from wirespeed.tables import hdr
from wirespeed.tables.hdr import Distribution

HIGHEST_NS: int = 1 << 36
"""Latencies up to 68 s have slots of their own."""
DIGITS: int = 3
CONNECTIONS_MAX: int = 4096
FIRST_PORT: int = 20000

_DEPTH = 1 << 62
_STRANDS = 40  # workers draw from random words this many bits apart


@dataclass(frozen=True)
class LoadOptions:
    """A load has no options: it is made by code."""


class Load(Shared):
    """Requests, and what became of them.

    Args:
        requests: payloads of datagrams, which take turns, or requests by key; numbers are written over their first
            bytes.
        source: own address, and the port of the first connection.
        server: whom to ask.
        connections: source ports, which take turns.
        protocol: UDP, DNS or MEMCACHED (:mod:`wirespeed.apps.load.state`).
        timeout_s: answers after that are late.
        workers: how many send, each every so manieth request at its share of the rate.

    Raises:
        ConfigError: out of range.
        ArenaError: no memory.
    """

    View = LoadView
    KIND = "load"

    def __init__(
        self,
        requests: Sequence[bytes] | KeyedRequests,
        source: End,
        server: End,
        connections: int = 64,
        protocol: int = UDP,
        timeout_s: float = 1.0,
        workers: int = 1,
    ) -> None:
        if not 1 <= workers <= connections <= CONNECTIONS_MAX:
            raise ConfigError(
                f"{connections} connections are not possible for {workers} workers: one for each, to {CONNECTIONS_MAX}"
            )
        if not 1 <= source[1] <= 65536 - connections:
            raise ConfigError(f"{connections} source ports from {source[1]} on are not possible: 65535 is the last")
        if source[0].version != server[0].version:
            raise ConfigError(f"{server[0]} cannot be asked from {source[0]}: give an address of the same version")
        self.protocol, self.connections, self.rate, self.workers = protocol, connections, 0.0, workers
        self.keyed = requests if isinstance(requests, KeyedRequests) else None
        payloads = [self.keyed.get, self.keyed.set] if self.keyed else requests
        assert not isinstance(payloads, KeyedRequests)
        self._table = Table(payloads, source, server, 8 if protocol == UDP else 2)
        self.stride = HISTOGRAM_AT + hdr.record_bytes(HIGHEST_NS, DIGITS)
        self._slots = hdr.slots_for(HIGHEST_NS, DIGITS)
        tags = workers * self.stride
        table = tags + connections * TAGS
        self._create(table + self._table.size, None)
        self._frames = self._words(np.uint8, table, self._table.size)
        self._table.write(self._frames, self.address + table)
        for worker in range(workers):
            self._ask(worker, source, self.address + table)
            self._see(worker, server, self.address + tags, timeout_s)
        self._timeout_s = timeout_s

    def _ask(self, worker: int, source: End, table: int) -> None:
        """Fill in what a worker sends by."""
        record = LoadQueue(self.address + worker * self.stride)
        record.worker, record.workers = worker, self.workers
        record.first_port = source[1]
        record.connections = (self.connections - worker - 1) // self.workers + 1
        record.wide, record.udp_at = int(self.protocol == UDP), self._table.udp_at
        record.first_entry, record.end_entry = table, table + self._table.count * ENTRY
        record.entry = table + self._table.count * worker // self.workers * ENTRY
        record.hold, record.depth = 1, _DEPTH
        if self.keyed:
            record.keys, record.digits = self.keyed.keys, self.keyed.digits
            record.last_digit = self._table.udp_at + 8 + self.keyed.last_digit
            record.gets, record.draws = self.keyed.gets, self.keyed.gets + self.keyed.sets
            record.seed = self.keyed.seed + (worker << _STRANDS)

    def _see(self, worker: int, server: End, tags: int, timeout_s: float) -> None:
        """Fill in what a worker counts by."""
        view = LoadView(self.address + worker * self.stride)
        view.home, view.stride, view.workers, view.connections = (
            self.address,
            self.stride,
            self.workers,
            self.connections,
        )
        high, low = divmod(int(server[0]), 1 << 64)
        view.server_high, view.server_low, view.server_port = signed64(high), signed64(low), server[1]
        view.protocol, view.timeout_ns = self.protocol, round(timeout_s * 1e9)
        view.scale = round((10**9 << SCALE) / tsc_hz())
        view.tags, view.slots_bytes = tags, self._slots * 8
        hdr.format_record(view.address + HISTOGRAM_AT, HIGHEST_NS, DIGITS)

    def prepare(self, workers: int) -> None:
        """The engine's word before a start."""
        if workers != self.workers:
            raise ConfigError(f"{workers} workers cannot send a load made for {self.workers}: say workers={workers}")

    def address_to(self, mac: int, own: int) -> None:
        """Write whom frames go to, and who we are, by Ethernet address."""
        self._table.address_to(self._frames, mac, own)

    def send(self, count: int, rate: float, filling: bool = False) -> None:
        """Begin: ``count`` requests at ``rate`` a second, from now on; what was counted before is forgotten.

        An answer to what was asked before this still comes as one of an ``earlier`` round, and counts as nothing else.

        Args:
            filling: the requests by key set each key once, in order.

        Raises:
            ConfigError: so many a second that numbers come round before the time of waiting is over.
        """
        share, least = rate / self.workers, self.connections // self.workers * IDENTITIES
        if not rate > 0 or rate > 1e9:
            raise ConfigError(f"{rate:g} requests a second are not possible")
        if share * self._timeout_s > least * 0.9:
            need = math.ceil(share * self._timeout_s / IDENTITIES / 0.9) * self.workers
            raise ConfigError(
                f"at {rate:g} requests a second their numbers come round within {least / share:.2g} s: "
                f"use {need} connections or more, or a shorter timeout"
            )
        if filling and not self.keyed:
            raise ConfigError("there is nothing to store: these requests are not by key")
        self.rate = rate
        for worker, record in enumerate(self._records()):
            record.filling = int(filling)
            record.cost = max(1, round((tsc_hz() << FRACTION) / share))
            record.round += 1  # before it has a limit: what left until the worker begins anew is not of this round
            record.limit = record.packets + (count + self.workers - worker - 1) // self.workers

    def _records(self) -> list[Any]:
        return [LoadQueue(self.address + worker * self.stride) for worker in range(self.workers)]

    def _seen(self) -> list[Any]:
        """What workers have counted of this round; those that have seen nothing of it yet are left out."""
        views = [LoadView(self.address + worker * self.stride) for worker in range(self.workers)]
        return [view for view in views if view.round == LoadQueue(self.address).round]

    @property
    def idle(self) -> bool:
        """Whether all that was asked for has left."""
        return all(record.packets >= record.limit for record in self._records())

    def halt(self) -> None:
        """Send no more."""
        for record in self._records():
            record.limit = 0

    @property
    def answered(self) -> int:
        """Requests with an answer so far."""
        return sum(int(view.answered) for view in self._seen())

    @property
    def sent(self) -> int:
        """Requests that left, so far."""
        return sum(map(_sent, self._records()))

    def result(self, refused: int = 0) -> LoadResult:
        """What is known now; ``refused``: requests that the port had no room for."""
        seen, hz = self._seen(), tsc_hz()
        begun = [record for record in self._records() if _sent(record)]
        counts = np.zeros(KINDS, np.int64)
        latency = Distribution(np.zeros(self._slots, np.int64), DIGITS, 0, 0, 0)
        for view in seen:
            at = view.address - self.address
            counts += self._words(np.int64, at + KINDS_AT, KINDS)
            slots = self._words(np.int64, at + HISTOGRAM_AT + hdr.DATA, self._slots)
            latency += hdr.read_record(view.address + HISTOGRAM_AT, slots, DIGITS)
        kinds = names_of(self.protocol, counts.tolist())
        spans = [(record.sent - record.start) / hz for record in begun]
        offered = sum((_sent(record) - 1) / span for record, span in zip(begun, spans, strict=True) if span > 0)
        total = {
            name: sum(int(getattr(view, name)) for view in seen)
            for name in ("answered", "late", "duplicates", "strangers", "earlier", "short", "parts")
        }
        return LoadResult(
            rate=self.rate, offered=offered, seconds=max(spans, default=0.0), sent=self.sent, kinds=kinds,
            errors=errors_of(self.protocol, kinds), refused=refused,
            behind_ns=round(max((record.behind for record in begun), default=0) * 1e9 / hz),
            timeout_ns=round(self._timeout_s * 1e9), latency=latency, **total,
        )  # fmt: skip


def _sent(record: Any) -> int:
    """Requests of this round that a worker has sent."""
    return int(record.packets - record.base) if record.opened == record.round else 0


class LoadPort(Port):
    """Requests of a load in, nothing out; a queue for each worker."""

    Options = LoadOptions
    receive = staticmethod(receive_load)
    tx_queues = 0

    def __init__(self, load: Load) -> None:
        super().__init__("load", LoadOptions())
        self.load, self.rx_queues = load, load.workers

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self.rx = [self.load.address + worker * self.load.stride for worker in range(rx_queues)]

    def close(self) -> None:
        """The memory is the load's: its figures stay readable."""


__all__ = ["CONNECTIONS_MAX", "DIGITS", "FIRST_PORT", "HIGHEST_NS", "End", "Load", "LoadPort", "LoadResult"]
