"""Collector: what takes telemetry in and keeps its aggregates; control code reads them a window at a time.

::

    collector = Collector(workers=2)

    @service.udp(port=2055, drops=DROPS)
    def flows(request, reply):
        return serve_request(collector, request)

    collector.tick()                # a few times a second: time for the workers
    collector.end_window()          # what the last seconds were: a Window
"""

import ctypes
import ipaddress
import time
import weakref
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.apps.collector.elements import ELEMENTS, write_elements
from wirespeed.apps.collector.flow import CONVERSATION_BYTES, FLOW_DTYPE, FlowRow
from wirespeed.apps.collector.messages import serve_flows
from wirespeed.apps.collector.metrics_read import Metrics
from wirespeed.apps.collector.state import SKETCHES, TABLES, CollectorView, ExporterView, InterfaceView, SketchesView
from wirespeed.apps.collector.statsd import serve_statsd
from wirespeed.apps.collector.templates import TEMPLATE_BYTES
from wirespeed.apps.collector.ways import WAYS, sets_for
from wirespeed.errors import WirespeedError
from wirespeed.jit import kernel, lent, load_acquire, signed64, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.tables.hyperloglog import HyperLogLog
from wirespeed.tables.seed import SEED
from wirespeed.tables.top_k import TopK

MAX_WORKERS: int = 64
MAX_PREFIXES: int = 256
_PREFIX_BYTES = 32
_LINE = 64
_MAPPED = 0xFFFF_0000_0000


class CollectorError(WirespeedError):
    """A collector that cannot be: a limit out of range, a library that is not installed, a folder one cannot write."""


@kernel
def _serve(address: int, high: int, low: int, port: int, at: int, length: int) -> int:
    return serve_flows(address, high, low, port, at, length)


@kernel
def _serve_statsd(address: int, high: int, low: int, at: int, length: int) -> int:
    return serve_statsd(address, high, low, at, length)


class Collector:
    """Tables, sketches and counters of ``workers`` workers.

    Args:
        workers: how many take datagrams.
        talkers: keys of each list of top talkers; what is above 1/talkers of all bytes is never missed.
        exporters: exporters (observation domains) that are known at once, by each worker; 128 bytes each.
        templates: templates that are known at once, by each worker; 512 bytes each.
        template_timeout_s: how long a template holds that does not come again (RFC 7011 section 8.4).
        interfaces: interfaces whose counters are kept, by each worker; 128 bytes each.
        metrics, timers, sets: metrics of statsd that are known at once, by each worker, and how many of them may be
            timers or histograms, and sets: 256 bytes, 36 KB and 4.6 KB each.
        metric_idle_s: a metric that was not sent for so long may give way to a new one.
        rows: flows that may wait for control code, of each worker: a power of two, or 0 to keep none; 160 bytes each.
        allow: prefixes of exporters; empty: everybody. UDP senders can be forged: name yours where that is possible.

    Raises:
        CollectorError: an argument out of range.
        ArenaError: no memory.
    """

    View: ClassVar[type[CollectorView]] = CollectorView

    def __init__(
        self,
        workers: int = 1,
        *,
        talkers: int = 1000,
        exporters: int = 1024,
        templates: int = 4096,
        template_timeout_s: float = 1800.0,
        interfaces: int = 4096,
        metrics: int = 16384,
        timers: int = 512,
        sets: int = 256,
        metric_idle_s: float = 600.0,
        rows: int = 0,
        allow: Sequence[str] = (),
    ) -> None:
        limits = {"workers": (workers, MAX_WORKERS), "talkers": (talkers, 1 << 20), "exporters": (exporters, 1 << 20)}
        limits |= {"templates": (templates, 1 << 20), "interfaces": (interfaces, 1 << 20)}
        limits |= {"metrics": (metrics, 1 << 22), "timers": (timers, 1 << 16), "sets": (sets, 1 << 16)}
        for name, (given, most) in limits.items():
            if not 1 <= given <= most:
                raise CollectorError(f"{name} {given} must be 1 to {most}")
        if rows < 0 or rows & rows - 1 or rows > 1 << 26:
            raise CollectorError(f"rows {rows} must be a power of two up to {1 << 26}, or 0")
        if not template_timeout_s > 0:
            raise CollectorError(f"a template timeout of {template_timeout_s} s must be more than 0")
        prefixes = [_prefix(text) for text in allow]
        if len(prefixes) > MAX_PREFIXES:
            raise CollectorError(f"{len(prefixes)} prefixes of exporters are more than {MAX_PREFIXES}")
        self.workers = workers
        self._sketches: list[dict[str, Any]] = [
            {
                "sources": TopK(talkers, workers, 16), "destinations": TopK(talkers, workers, 16),
                "conversations": TopK(talkers, workers, CONVERSATION_BYTES), "services": TopK(talkers, workers),
                "source_count": HyperLogLog(0.01, workers, 16), "destination_count": HyperLogLog(0.01, workers, 16),
            }
            for _ in range(2)
        ]  # fmt: skip
        sizes = {
            "exporters": sets_for(exporters) * WAYS * ExporterView.SIZE,
            "templates": sets_for(templates) * WAYS * TEMPLATE_BYTES,
            "interfaces": sets_for(interfaces) * WAYS * InterfaceView.SIZE,
            "rows": rows * FlowRow.SIZE,
            "scratch": 192,
        }
        common = 2 * ELEMENTS + MAX_PREFIXES * _PREFIX_BYTES
        self.stride = -(-(TABLES + sum(sizes.values())) // 4096) * 4096
        self._region = Region(common + workers * self.stride, "wirespeed-collector")
        self._finalizer = weakref.finalize(self, self._region.close)
        self.address = self._region.address + common
        write_elements(self._region.address)
        allowed = self._region.address + 2 * ELEMENTS
        for index, words in enumerate(prefixes):
            for at, word in enumerate(words):
                store64(allowed + index * _PREFIX_BYTES + 8 * at, word)
        self.metrics = Metrics(workers, metrics, timers, sets, round(metric_idle_s * 1e9))
        self._rows = rows
        self.views = [CollectorView(self.address + worker * self.stride) for worker in range(workers)]
        for worker, view in enumerate(self.views):
            view.seed0, view.seed1, view.seed2 = SEED
            view.timeout_ns = round(template_timeout_s * 1e9)
            view.elements, view.allowed, view.allowed_count = self._region.address, allowed, len(prefixes)
            view.allow = 1 if prefixes else 0
            view.metrics = self.metrics.views[worker].address
            at = view.address + TABLES
            for name, size in sizes.items():
                setattr(view, name, at)
                at += size
            view.exporter_mask, view.template_mask = sets_for(exporters) - 1, sets_for(templates) - 1
            view.interface_mask, view.row_mask = sets_for(interfaces) - 1, rows - 1
            for parity, sketches in enumerate(self._sketches):
                addresses = SketchesView(view.address + SKETCHES + parity * _LINE)
                for name, sketch in sketches.items():
                    setattr(addresses, name, sketch.address + worker * sketch.stride)
        self.window = 0
        self.tick()
        self._begin_window()

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: can so many workers collect here?

        Raises:
            CollectorError: it was made for fewer.
        """
        if workers > self.workers:
            raise CollectorError(
                f"the collector is for {self.workers} of {workers} workers: make it with workers={workers}"
            )

    def close(self) -> None:
        """Give the memory back; no worker may use it any more."""
        self._finalizer()
        self.metrics.close()
        for sketches in self._sketches:
            for sketch in sketches.values():
                sketch.close()

    # Time ----------------------------------------------------------------------------------------------------

    def tick(self, now_ns: int | None = None, now_ms: int | None = None) -> None:
        """Tell the workers what time it is: call it a few times a second.

        Args:
            now_ns: a steady clock; ``time.monotonic_ns()`` unless given.
            now_ms: milliseconds since 1970; those of ``time.time_ns()`` unless given.
        """
        steady = time.monotonic_ns() if now_ns is None else now_ns
        wall = time.time_ns() // 1_000_000 if now_ms is None else now_ms
        for view in self.views:
            view.now_ns, view.now_ms = steady, wall

    def _begin_window(self) -> None:
        self.window += 1
        for view in self.views:
            store_release(view.address + CollectorView.window.offset, self.window)

    def end_window(self) -> int:
        """Let workers go on with another set of sketches; the number of the window that ended."""
        ended = self.window
        self._begin_window()
        return ended

    def sketches_of(self, window: int) -> tuple[dict[str, Any], list[int]]:
        """The sketches of a window, the last that ended or the one that runs, and the workers that have counted there.

        A worker that got nothing in a window has not even noticed it.
        """
        for parity, sketches in enumerate(self._sketches):
            at = SKETCHES + parity * _LINE + SketchesView.epoch.offset
            workers = [i for i, view in enumerate(self.views) if load_acquire(view.address + at) == window]
            if workers:
                return sketches, workers
        return self._sketches[0], []

    # In and out, without workers -----------------------------------------------------------------------------

    def feed(self, data: bytes, source: str = "127.0.0.1", port: int = 0, worker: int = 0, statsd: bool = False) -> int:
        """A datagram of flows, or of statsd, from Python: 0, or minus the number of the first reason of a refusal."""
        high, low = address_words(source)
        array = np.frombuffer(bytes(data) or b"\0", dtype=np.uint8)
        with lent(array) as (at,):
            address = self.views[worker].address
            if statsd:
                return int(_serve_statsd(address, high, low, at, len(data)))
            return int(_serve(address, high, low, port, at, len(data)))

    def take_rows(self) -> NDArray[Any]:
        """The flows that came since the last call; their memory is free for others then."""
        parts = [np.zeros(0, FLOW_DTYPE)]
        for view in self.views if self._rows else []:
            head, tail = int(load_acquire(view.address + CollectorView.row_head.offset)), int(view.row_tail)
            where = view.rows - self._region.address
            ring = np.frombuffer(self._memory(where, self._rows * FlowRow.SIZE), dtype=FLOW_DTYPE)
            parts.append(ring[np.arange(tail, head) & self._rows - 1])
            store_release(view.address + CollectorView.row_tail.offset, head)
        return np.concatenate(parts)

    def _memory(self, offset: int, size: int) -> Any:
        return (ctypes.c_char * size).from_address(self._region.address + offset)


def address_words(text: str) -> tuple[int, int]:
    """An address as the two words that lie in memory, IPv4 as ::ffff:a.b.c.d. Raises ValueError."""
    address = ipaddress.ip_address(text)
    number = int(address) if address.version == 6 else _MAPPED | int(address)
    data = number.to_bytes(16, "big")
    return signed64(int.from_bytes(data[:8], "little")), signed64(int.from_bytes(data[8:], "little"))


def _prefix(text: str) -> tuple[int, int, int, int]:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise CollectorError(f"exporters {text!r} is no prefix: {error}") from None
    length = network.prefixlen + (96 if network.version == 4 else 0)
    mask = ((1 << length) - 1 << 128 - length).to_bytes(16, "big")
    words = [signed64(int.from_bytes(mask[at : at + 8], "little")) for at in (0, 8)]
    return (*address_words(str(network.network_address)), words[0], words[1])


__all__ = ["Collector", "CollectorError", "address_words"]
