"""What a collector knows, as plain values: totals since the start, and windows.

A :class:`Window` is what came in some seconds: rates are its differences, top talkers and distinct hosts its own.
"""

import struct
from dataclasses import dataclass, field
from typing import Any

from wirespeed.apps.collector.collector import Collector
from wirespeed.apps.collector.flow import SFLOW, shown
from wirespeed.apps.collector.metrics_read import Metric
from wirespeed.apps.collector.reasons import REASONS
from wirespeed.apps.collector.state import (
    LANES,
    LINE,
    PROTOCOLS,
    REFUSALS,
    TOTALS,
    ExporterView,
    InterfaceView,
    ProtocolView,
    TotalsView,
)
from wirespeed.apps.collector.ways import WAYS
from wirespeed.jit import load64, load_acquire
from wirespeed.tables.hdr import Distribution

_KINDS = {5: "netflow5", 9: "netflow9", 10: "ipfix", SFLOW: "sflow"}
_COUNTED = tuple(TotalsView.fields)
_EXPORTER = ("datagrams", "records", "lost", "restarts", "sampling", "used_ms")
_INTERFACE = tuple(name for name in InterfaceView.fields if name.startswith(("in_", "out_")))


@dataclass(frozen=True)
class Talker:
    """One of those with the most bytes; it had at most ``octets`` and at least ``octets - error``.

    ``key``: an address; (source, port, destination, port, protocol); or (protocol, port).
    """

    key: Any
    octets: int
    error: int


@dataclass(frozen=True)
class Exporter:
    """An observation domain of an exporter, over all workers."""

    address: str
    domain: int
    kind: str
    port: int
    datagrams: int
    records: int
    lost: int
    restarts: int
    sampling: int
    used_ms: int


@dataclass(frozen=True)
class Interface:
    """An interface, by its agent's address and SNMP index; counters as last told."""

    agent: str
    index: int
    speed: int
    status: int
    counters: dict[str, int]


@dataclass(frozen=True)
class Totals:
    """Since the start: by kind of datagram, by IP protocol, refusals by reason; what found no room."""

    lanes: dict[str, dict[str, int]]
    protocols: dict[int, dict[str, int]]
    refused: dict[str, int]
    tables: dict[str, int]


@dataclass(frozen=True)
class Window:
    """What came from ``start_ms`` to ``end_ms``, milliseconds since 1970."""

    number: int
    start_ms: int
    end_ms: int
    lanes: dict[str, dict[str, int]]
    protocols: dict[int, dict[str, int]]
    refused: dict[str, int]
    sources: list[Talker]
    destinations: list[Talker]
    conversations: list[Talker]
    services: list[Talker]
    distinct_sources: float
    distinct_destinations: float
    metrics: list[Metric]
    metric_changes: dict[tuple[str, tuple[str, ...], str], tuple[float, int, Distribution | None]] = field(
        default_factory=dict
    )
    """By name, tags and kind: by how much value and updates grew, and the samples of a timer in this window."""

    @property
    def seconds(self) -> float:
        """How long it was."""
        return max(self.end_ms - self.start_ms, 1) / 1000

    def rate(self, lane: str, what: str) -> float:
        """A second: ``rate("ipfix", "flows")``."""
        return self.lanes[lane][what] / self.seconds


class Reporter:
    """Reads a collector, a window after the other; ``top``: talkers that a window lists."""

    def __init__(self, collector: Collector, top: int = 100) -> None:
        self.collector, self.top = collector, top
        self._before = self.totals()
        self._metrics: dict[Any, Metric] = {}
        self._start_ms = int(collector.views[0].now_ms)
        self.latest: Window | None = None

    def totals(self) -> Totals:
        """What was counted since the start, by all workers."""
        lanes = {name: dict.fromkeys(_COUNTED, 0) for name in LANES}
        protocols: dict[int, dict[str, int]] = {}
        refused = dict.fromkeys(REASONS, 0)
        tables = {}
        for view in self.collector.views:
            for index, name in enumerate(LANES):
                _add(lanes[name], TotalsView(view.address + TOTALS + index * LINE), _COUNTED)
            for number in range(256):
                protocol = ProtocolView(view.address + PROTOCOLS + number * ProtocolView.SIZE)
                if protocol.flows:
                    sums = protocols.setdefault(number, {"flows": 0, "octets": 0, "packets": 0})
                    _add(sums, protocol, tuple(sums))
            for index, reason in enumerate(REASONS):
                refused[reason] += int(load64(view.address + REFUSALS + 8 * (index + 1)))
        names = (
            "rows_lost", "exporters_evicted", "templates_evicted", "templates_expired", "templates_defined",
            "interfaces_evicted",
        )  # fmt: skip
        for name in names:
            tables[name] = sum(int(getattr(view, name)) for view in self.collector.views)
        tables["metrics_evicted"] = sum(int(view.evicted) for view in self.collector.metrics.views)
        return Totals(lanes, protocols, refused, tables)

    def end_window(self) -> Window:
        """End the window that runs: what it was."""
        number = self.collector.end_window()
        sketches, workers = self.collector.sketches_of(number)
        now, before = self.totals(), self._before
        metrics = self.collector.metrics.read(number)
        end_ms = int(self.collector.views[0].now_ms)
        none = dict.fromkeys(("flows", "octets", "packets"), 0)
        self.latest = Window(
            number, self._start_ms, end_ms,
            {name: _less(sums, before.lanes[name]) for name, sums in now.lanes.items()},
            {name: _less(sums, before.protocols.get(name, none)) for name, sums in now.protocols.items()},
            _less(now.refused, before.refused),
            self._talkers(sketches["sources"], workers, shown),
            self._talkers(sketches["destinations"], workers, shown),
            self._talkers(sketches["conversations"], workers, _conversation),
            self._talkers(sketches["services"], workers, lambda key: (key >> 16, key & 0xFFFF)),
            sketches["source_count"].estimate(workers), sketches["destination_count"].estimate(workers),
            metrics, self._changes(metrics),
        )  # fmt: skip
        self._before, self._start_ms = now, end_ms
        return self.latest

    def _talkers(self, top: Any, workers: list[int], name: Any) -> list[Talker]:
        return [Talker(name(item.key), item.count, item.error) for item in top.most_common(self.top, workers)]

    def _changes(self, metrics: list[Metric]) -> dict[Any, Any]:
        changes = {}
        now = {(metric.name, metric.tags, metric.kind): metric for metric in metrics}
        for key, metric in now.items():
            before = self._metrics.get(key)
            if before is None or before.updates > metric.updates:  # new, or evicted and new again
                changes[key] = metric.value, metric.updates, metric.distribution
                continue
            distribution = metric.distribution
            if distribution is not None and before.distribution is not None:
                distribution = distribution - before.distribution
            changes[key] = metric.value - before.value, metric.updates - before.updates, distribution
        self._metrics = now
        return changes

    def exporters(self) -> list[Exporter]:
        """Who sends, those with the most datagrams first."""
        found: dict[Any, dict[str, int]] = {}
        for view in self.collector.views:
            for entry in _entries(view.exporters, view.exporter_mask, ExporterView):
                key = _address(entry), int(entry.domain), _KINDS.get(int(entry.kind), "?"), int(entry.port)
                sums = found.setdefault(key, dict.fromkeys(_EXPORTER, 0))
                for name in _EXPORTER:
                    value = int(getattr(entry, name))
                    latest = name in ("sampling", "used_ms")
                    sums[name] = max(sums[name], value) if latest else sums[name] + value
        made = [Exporter(*key, *sums.values()) for key, sums in found.items()]
        return sorted(made, key=lambda each: -each.datagrams)

    def interfaces(self) -> list[Interface]:
        """Interfaces whose counters were told."""
        found: dict[Any, tuple[int, Interface]] = {}
        for view in self.collector.views:
            for entry in _entries(view.interfaces, view.interface_mask, InterfaceView):
                agent, index, when = _address(entry), int(entry.index), int(entry.used_ns)
                counters = {name: int(getattr(entry, name)) for name in _INTERFACE}
                made = Interface(agent, index, int(entry.speed), int(entry.status), counters)
                if found.get((agent, index), (-1, None))[0] <= when:
                    found[agent, index] = when, made
        return [found[key][1] for key in sorted(found)]


def _add(sums: dict[str, int], view: Any, names: tuple[str, ...]) -> None:
    for name in names:
        sums[name] += int(getattr(view, name))


def _less(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {name: value - before[name] for name, value in now.items()}


def _entries(table: int, mask: int, kind: Any) -> list[Any]:
    """The entries of a table that are taken."""
    places = [table + kind.SIZE * number for number in range(WAYS * (mask + 1))]
    return [kind(at) for at in places if load_acquire(at)]


def _address(entry: Any) -> str:
    return shown(struct.pack("<qq", entry.high, entry.low))


def _conversation(key: bytes) -> tuple[str, int, str, int, int]:
    sport, dport, protocol = struct.unpack_from("<HHB", key, 32)
    return shown(key[:16]), sport, shown(key[16:32]), dport, protocol


__all__ = ["Exporter", "Interface", "Reporter", "Talker", "Totals", "Window"]
