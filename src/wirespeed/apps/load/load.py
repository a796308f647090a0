"""Load: requests by schedule and what is known of their answers; LoadPort: the port they come in by."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import numpy as np

from wirespeed.apps.load.answers import errors_of, names_of
from wirespeed.apps.load.path import receive_load
from wirespeed.apps.load.state import (
    HISTOGRAM_AT,
    IDENTITIES,
    KINDS,
    KINDS_AT,
    SCALE,
    UDP,
    Entry,
    LoadQueue,
    LoadView,
)
from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import ConfigError
from wirespeed.jit import load64, signed64, write_bytes
from wirespeed.mem.pool import Pool
from wirespeed.mem.shared import Shared
from wirespeed.ports.generator.queue import FRACTION
from wirespeed.ports.port import Port
from wirespeed.stack.frames import ethernet
from wirespeed.stack.packets import udp4, udp6
from wirespeed.tables import hdr
from wirespeed.tables.hdr import Distribution
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

HIGHEST_NS: int = 1 << 36
"""Latencies up to 68 s have slots of their own."""
DIGITS: int = 3
CONNECTIONS_MAX: int = 4096
FIRST_PORT: int = 20000
SHORT: float = 0.01
"""A load that offered this share less than it was asked has fallen short."""

_DEPTH = 1 << 62

End = tuple[IPv4Address | IPv6Address, int]
"""An address and a UDP port."""


@dataclass(frozen=True)
class LoadOptions:
    """A load has no options: it is made by code."""


@dataclass(frozen=True)
class LoadResult:
    """What one load found.

    Attributes:
        rate: requests a second asked for.
        offered: requests a second that left.
        seconds: from the first to the last.
        sent: requests that left.
        answered: of them, those with an answer, each once.
        late: of these, answers after the time that was to be waited.
        duplicates, strangers, short, parts: other datagrams of the server's: answers again, with numbers that were
            not sent, without any, and those before the last of an answer in several.
        kinds: answers by what they say.
        errors: answers that say that something is wrong.
        refused: requests that the port had no room for.
        behind_ns: the most that a request left late; its latency contains it.
        latency: nanoseconds from when a request was due to when its answer was seen.
    """

    rate: float
    offered: float
    seconds: float
    sent: int
    answered: int
    late: int
    duplicates: int
    strangers: int
    short: int
    parts: int
    kinds: dict[str, int]
    errors: int
    refused: int
    behind_ns: int
    latency: Distribution

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return max(self.sent - self.answered, 0)

    @property
    def loss(self) -> float:
        """Their share, 0 to 1."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def fell_short(self) -> bool:
        """Whether less was offered than was asked for: it says nothing of the server at that rate."""
        return self.offered < self.rate * (1 - SHORT) or self.refused > self.sent * SHORT

    def to_dict(self) -> dict[str, Any]:
        """For JSON; latencies in nanoseconds."""
        names = (
            "rate", "offered", "seconds", "sent", "answered", "lost", "loss", "late", "duplicates", "strangers",
            "short", "parts", "kinds", "errors", "refused", "behind_ns", "fell_short",
        )  # fmt: skip
        return {**{name: getattr(self, name) for name in names}, "latency_ns": self.latency.to_dict()}


class Load(Shared):
    """Requests, and what became of them.

    Args:
        requests: payloads of datagrams, which take turns; numbers are written over their first bytes.
        source: own address, and the port of the first connection.
        server: whom to ask.
        connections: source ports, which take turns.
        protocol: UDP, DNS or MEMCACHED (:mod:`wirespeed.apps.load.state`).
        timeout_s: answers after that are late.

    Raises:
        ConfigError: out of range.
    """

    View = LoadView
    KIND = "load"
    stride = 0

    def __init__(
        self,
        requests: Sequence[bytes],
        source: End,
        server: End,
        connections: int = 64,
        protocol: int = UDP,
        timeout_s: float = 1.0,
    ) -> None:
        if not 1 <= connections <= CONNECTIONS_MAX:
            raise ConfigError(f"{connections} connections are not possible: 1 to {CONNECTIONS_MAX}")
        if not 1 <= source[1] <= 65536 - connections:
            raise ConfigError(f"{connections} source ports from {source[1]} on are not possible: 65535 is the last")
        if source[0].version != server[0].version:
            raise ConfigError(f"{server[0]} cannot be asked from {source[0]}: give an address of the same version")
        self.protocol, self.connections, self.rate = protocol, connections, 0.0
        self.frames = [_frame(source, server, each) for each in requests]
        rooms = [-(-len(frame) // 64) * 64 for frame in self.frames]
        window = 1 << (connections * IDENTITIES - 1).bit_length()
        histogram = hdr.record_bytes(HIGHEST_NS, DIGITS)
        bits = HISTOGRAM_AT + histogram
        entries = bits + window // 8
        frames = entries + -(-len(requests) * Entry.SIZE // 64) * 64
        self._create(frames + sum(rooms), None)
        record, view = LoadQueue(self.address), LoadView(self.address)
        record.first_port, record.connections = source[1], connections
        record.wide = int(protocol == UDP)
        record.udp_at = 34 if source[0].version == 4 else 54
        record.bits, record.mask = self.address + bits, window - 1
        record.first_entry = record.entry = self.address + entries
        record.end_entry = record.first_entry + len(requests) * Entry.SIZE
        record.hold, record.depth = 1, _DEPTH
        high, low = divmod(int(server[0]), 1 << 64)
        view.server_high, view.server_low, view.server_port = signed64(high), signed64(low), server[1]
        view.protocol, view.timeout_ns = protocol, round(timeout_s * 1e9)
        view.scale = round((10**9 << SCALE) / tsc_hz())
        at = self.address + frames
        for number, (frame, room) in enumerate(zip(self.frames, rooms, strict=True)):
            entry = Entry(record.first_entry + number * Entry.SIZE)
            entry.frame, entry.length, entry.sum = at, len(frame), _sum(frame, record.udp_at, record.wide)
            write_bytes(at, frame)
            at += room
        self._timeout_s = timeout_s

    def prepare(self, workers: int) -> None:
        """The engine's word before a start."""
        if workers > 1:
            raise ConfigError("one worker sends by one schedule: start one")

    def address_to(self, mac: int, own: int) -> None:
        """Write whom frames go to, and who we are, by Ethernet address."""
        record = LoadQueue(self.address)
        for at in range(record.first_entry, record.end_entry, Entry.SIZE):
            write_bytes(Entry(at).frame, mac.to_bytes(6, "big") + own.to_bytes(6, "big"))

    def send(self, count: int, rate: float) -> None:
        """Begin: ``count`` requests at ``rate`` a second, from now on; what was counted before is forgotten.

        Raises:
            ConfigError: so many a second that numbers come round before the time of waiting is over.
        """
        lap = self.connections * IDENTITIES
        if not rate > 0 or rate > 1e9:
            raise ConfigError(f"{rate:g} requests a second are not possible")
        if rate * self._timeout_s > lap * 0.9:
            need = math.ceil(rate * self._timeout_s / IDENTITIES / 0.9)
            raise ConfigError(
                f"at {rate:g} requests a second their numbers come round within {lap / rate:.2g} s: "
                f"use {need} connections or more, or a shorter timeout"
            )
        self._clear()
        record = LoadQueue(self.address)
        self.rate = rate
        record.cost = max(1, round((tsc_hz() << FRACTION) / rate))
        record.round += 1
        record.limit = record.packets + count

    def _clear(self) -> None:
        """Forget what was answered; an answer that still comes counts as one of the next load's."""
        for at, words in ((LoadQueue.SIZE, 8), (KINDS_AT, KINDS)):
            self._words(np.int64, at, words)[:] = 0
        self._words(np.uint8, HISTOGRAM_AT, hdr.record_bytes(HIGHEST_NS, DIGITS))[:] = 0
        hdr.format_record(self.address + HISTOGRAM_AT, HIGHEST_NS, DIGITS)

    @property
    def idle(self) -> bool:
        """Whether all that was asked for has left."""
        record = LoadQueue(self.address)
        return bool(record.packets >= record.limit)

    def halt(self) -> None:
        """Send no more."""
        LoadQueue(self.address).limit = 0

    @property
    def answered(self) -> int:
        """Requests with an answer so far."""
        return int(LoadView(self.address).answered)

    @property
    def sent(self) -> int:
        """Requests that left, so far."""
        record = LoadQueue(self.address)
        return int(record.packets - record.before)

    def result(self, refused: int = 0) -> LoadResult:
        """What is known now; ``refused``: requests that the port had no room for."""
        record, view, hz = LoadQueue(self.address), LoadView(self.address), tsc_hz()
        counts = self._words(np.int64, HISTOGRAM_AT + hdr.DATA, hdr.slots_for(HIGHEST_NS, DIGITS))
        kinds = names_of(self.protocol, [load64(self.address + KINDS_AT + 8 * number) for number in range(KINDS)])
        seconds = (record.sent - record.start) / hz if self.sent else 0.0
        full = (self.sent - 1) / seconds if seconds > 0 else 0.0
        return LoadResult(
            rate=self.rate, offered=full, seconds=seconds, sent=self.sent, answered=self.answered, late=int(view.late),
            duplicates=int(view.duplicates), strangers=int(view.strangers), short=int(view.short),
            parts=int(view.parts), kinds=kinds, errors=errors_of(self.protocol, kinds), refused=refused,
            behind_ns=round(record.behind * 1e9 / hz),
            latency=hdr.read_record(self.address + HISTOGRAM_AT, counts, DIGITS),
        )  # fmt: skip


class LoadPort(Port):
    """Requests of a load in, nothing out."""

    Options = LoadOptions
    receive = staticmethod(receive_load)
    rx_queues = 1
    tx_queues = 0

    def __init__(self, load: Load) -> None:
        super().__init__("load", LoadOptions())
        self.load = load

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        self.rx = [self.load.address][:rx_queues]

    def close(self) -> None:
        """The memory is the load's: its figures stay readable."""


def _frame(source: End, server: End, payload: bytes) -> bytes:
    """A frame without Ethernet addresses; source port 0."""
    if isinstance(source[0], IPv4Address):
        assert isinstance(server[0], IPv4Address)
        return ethernet(0, 0, ETHERTYPE_IPV4, udp4((source[0], 0), (server[0], server[1]), payload))
    assert isinstance(server[0], IPv6Address)
    return ethernet(0, 0, ETHERTYPE_IPV6, udp6((source[0], 0), (server[0], server[1]), payload))


def _sum(frame: bytes, udp_at: int, wide: int) -> int:
    """What the checksum covers, summed up in memory order, without the number's bytes."""
    length = int.from_bytes(frame[udp_at + 4 : udp_at + 6], "big")
    udp = bytearray(frame[udp_at : udp_at + length])
    addresses = frame[26:34] if udp_at == 34 else frame[22:54]
    udp[6:8] = bytes(2)
    udp[8 : 16 if wide else 10] = bytes(8 if wide else 2)
    covered = addresses + bytes((0, 17)) + length.to_bytes(2, "big") + bytes(udp) + bytes(length % 2)
    total = int(np.frombuffer(covered, "<u2").sum(dtype=np.int64))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


__all__ = ["CONNECTIONS_MAX", "DIGITS", "FIRST_PORT", "HIGHEST_NS", "End", "Load", "LoadPort", "LoadResult"]
