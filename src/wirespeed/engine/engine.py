"""The engine: opens the ports of a graph, compiles its loop, runs it on pinned cores and takes it down again.

Nothing here is on the packet path. A worker is one Python thread inside one compiled call; control code talks
to it through its record: a command word, counters, a grace-period slot.
"""

import os
import select
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from wirespeed.eal import cores
from wirespeed.eal.perf import Event, PerfCounters
from wirespeed.engine.memory import EngineMemory
from wirespeed.engine.report import NodeReport, Report
from wirespeed.errors import GraphError, WirespeedError
from wirespeed.graph.build import Built, build
from wirespeed.graph.graph import Graph
from wirespeed.graph.layout import DRAIN, EXIT, RCU_SLOT, RUN, Worker, binding
from wirespeed.graph.node import DEFAULT
from wirespeed.graph.plan import FUSED, PROFILE, Plan, make_plan
from wirespeed.jit import COMPILED, store64
from wirespeed.mem.pool import MAX_BURST, Pool
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.port import PortStats
from wirespeed.sync.rcu import Grace
from wirespeed.tables.toeplitz import Toeplitz

_SWITCH = 3  # command: return, and go on with another loop
_PAUSE = 4  # command: return, and wait for resume()
_DEADLINE_S = 1.0


class Engine:
    """Runs one graph.

    Args:
        graph: what to run; checked here.
        workers: how many cores poll.
        symmetric: whether both directions of a flow go to the same worker.
        burst: packets taken from a port at once, 1 to 256.
        cells: size of the packet pool.
        spins: empty turns before a worker blocks; negative: it never sleeps.
        shape: ``fused`` or ``split`` (every node by itself); the packets are the same.
        counters: events the hardware counts for each worker while it profiles (see :mod:`wirespeed.eal.perf`).
        progress: told what is being compiled.

    Raises:
        WirespeedError: the graph cannot run, a port cannot be opened, a node does not compile. Nothing has moved.
    """

    def __init__(
        self,
        graph: Graph,
        workers: int = 1,
        *,
        symmetric: bool = False,
        burst: int = 64,
        cells: int = 16384,
        spins: int = 20_000,
        shape: str = FUSED,
        counters: tuple[Event, ...] = (),
        progress: Callable[[str], None] | None = None,
    ) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise WirespeedError(f"workers={workers} must be 1 to {MAX_WORKERS}")
        if not 1 <= burst <= MAX_BURST // 2:
            raise WirespeedError(f"burst={burst} must be 1 to {MAX_BURST // 2}")
        self.graph = graph
        self.count = workers
        self.progress = progress
        self.events = counters
        self.why_no_counters = "" if counters else "not asked for"
        self.plan = make_plan(graph, shape, workers, burst)
        self.notes: list[str] = []
        self.failure: BaseException | None = None
        self._closing: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []
        self._final: Report | None = None
        self._started = self._stopped = 0.0
        self.pool = Pool(max(cells, (workers + 2) * 1024), workers)
        self._closing.append(self.pool.close)
        try:
            self._open_ports()
            self.built: Built = build(self.plan, progress)
            self._profiled: Built | None = None
            self.memory = EngineMemory(self.plan, workers)
            self._closing.append(self.memory.region.close)
            self._lay_out(symmetric, spins)
        except BaseException:
            self.close()
            raise
        self._running = [self.built] * workers
        self._resumed = threading.Event()
        self._commanding = threading.Lock()

    # Before the start ------------------------------------------------------------------------------------

    def _open_ports(self) -> None:
        graph = self.graph
        for port in graph.ports:
            reads = min(port.rx_queues or self.count, self.count) if port in graph.sources else 0
            writes = min(port.tx_queues or self.count, self.count) if port in graph.sinks else 0
            port.open(self.pool, reads, writes)
            self._closing.append(port.close)

    def _lay_out(self, symmetric: bool, spins: int) -> None:
        graph, workers = self.graph, self.count
        self._wakeups = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(workers)]
        self._closing.extend(lambda fd=fd: os.close(fd) for fd in self._wakeups)  # type: ignore[misc]
        queues: dict[tuple[str, Any], list[int]] = {}
        polled: list[list[int]] = [[] for _ in range(workers)]
        waitable = [True] * workers
        for number, port in enumerate(graph.ports):
            for direction, addresses in (("rx", port.rx), ("tx", port.tx)):
                of_worker = [0] * workers
                for queue, address in enumerate(addresses):
                    worker = queue if len(addresses) == workers else (number + queue) % workers
                    of_worker[worker] = address
                    if direction == "rx":
                        found = port.descriptors(queue)
                        polled[worker] += found
                        waitable[worker] &= bool(found)
                queues[direction, port] = of_worker
        self._queues = queues
        for index, memory in enumerate(self.memory.workers):
            record = Worker(memory.record)
            record.cache = self.pool.cache(index)
            descriptors = [*polled[index], self._wakeups[index]]
            for slot, descriptor in enumerate(descriptors):
                store64(memory.polled + slot * 8, int.from_bytes(struct.pack("=ihh", descriptor, select.POLLIN, 0), "little"))
            record.polled_count = len(descriptors)
            record.spins = spins if waitable[index] else -1
            record.nap_ms = 100
        if workers > 1:
            toeplitz = Toeplitz(symmetric=symmetric)
            self._closing.append(toeplitz.close)
            spreads = [int(len(port.rx) < workers) for port in graph.sources]
            owners = [0] * len(graph.sources)
            owners += [next(w for w, q in enumerate(queues["tx", port]) if q) for port in graph.sinks]
            self.memory.connect(toeplitz.address, spreads, owners, self._wakeups)
        for state in self.built.captured.states.values():
            if hasattr(type(state), "prepare"):
                state.prepare(workers)
        self.grace = Grace([memory.record + RCU_SLOT for memory in self.memory.workers])
        for index in range(workers):
            self._bind(index, self.built)

    def _bind(self, index: int, built: Built) -> None:
        """Write what a loop finds by reference: port queues and the state of nodes."""
        record = self.memory.workers[index].record
        for key, place in built.plan.bindings.items():
            if isinstance(key, tuple):
                store64(record + binding(place), self._queues[key][index])
            else:
                state = built.captured.states[key]
                store64(record + binding(place), state.address + index * getattr(state, "stride", 0))

    # Running ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the workers; returns at once."""
        if self._threads:
            raise GraphError("this engine runs already; make another for another run")
        placement = cores.choose(self.count)
        if placement.shared:
            self.notes.append(placement.why)
        for state in self.built.captured.states.values():
            if hasattr(state, "reclaimer"):
                state.reclaimer = self.grace
        self._started = time.perf_counter()
        for index in range(self.count):
            core = placement.workers[index]
            thread = threading.Thread(target=self._work, args=(index, core), name=f"wirespeed-{index}", daemon=True)
            self._threads.append(thread)
            thread.start()

    def _work(self, index: int, core: int) -> None:
        record = self.memory.workers[index].record
        try:
            cores.pin(core)
            if self.events:
                self._count_events(record)
            built = self._running[index]
            while (command := built.run(record)) >= _SWITCH:
                if command == _PAUSE:
                    self._resumed.wait()
                with self._commanding:  # what was commanded meanwhile, to end above all, is not overwritten
                    built = self._running[index]
                    self._bind(index, built)
                    if Worker(record).command == command:
                        Worker(record).command = RUN
        except BaseException as error:
            self.failure = error
        finally:
            Worker(record).ended = 1

    def _count_events(self, record: int) -> None:
        """Open this thread's hardware counters; without them the profile has time-stamp cycles only."""
        counters = PerfCounters.open(events=self.events)
        self.why_no_counters = counters.reason
        if counters.available:
            Worker(record).perf_fd = counters.descriptor
            self._closing.append(counters.close)

    def switch(self, built: Built, worker: int = 0) -> None:
        """Let a worker go on with another loop for the same graph; it misses no packet."""
        with self._commanding:
            self._running[worker] = built
        self._command(worker, _SWITCH)

    def pause(self) -> None:
        """Take the workers off their cores; what is in flight stays where it is."""
        self._resumed.clear()
        for index in range(self.count):
            self._command(index, _PAUSE)

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self._resumed.set()

    def _command(self, worker: int, command: int) -> None:
        with self._commanding:
            store64(self.memory.workers[worker].record, command)
        os.eventfd_write(self._wakeups[worker], 1)

    @property
    def ended(self) -> bool:
        """Whether every input is over and every packet has left."""
        if self.failure is not None:
            return True
        if any(not Worker(memory.record).ended for memory in self.memory.workers):
            return False
        return self.count == 1 or self.memory.in_flight() == 0

    def refresh(self) -> None:
        """Housekeeping of control code; call it several times a second while the graph runs."""
        for port in self.graph.ports:
            port.refresh()
        self.grace.reclaim()
        if self.built.captured.changed():
            self._recompile()

    def _recompile(self) -> None:
        plan = make_plan(self.graph, self.plan.shape, self.count, self.plan.burst)
        self.built = build(plan, self.progress)
        for index in range(self.count):
            self.switch(self.built, index)

    def prepare_profile(self) -> None:
        """Compile the profiling loop; takes a while the first time, so do it beside the running graph."""
        if self._profiled is None:
            self._profiled = build(make_plan(self.graph, PROFILE, self.count, self.plan.burst), self.progress)

    @property
    def can_profile(self) -> bool:
        """Whether :meth:`profile` would start at once."""
        return self._profiled is not None

    def profile(self, seconds: float = 0.01) -> None:
        """Run every worker's profiling loop for a moment; its figures add up in the workers' profiles."""
        self.prepare_profile()
        assert self._profiled is not None
        for index in range(self.count):
            self.switch(self._profiled, index)
        time.sleep(seconds)
        for index in range(self.count):
            self.switch(self.built, index)

    def wait(self, seconds: float | None = None, interrupted: threading.Event | None = None) -> bool:
        """Wait until the graph ends, ``seconds`` pass or ``interrupted`` is set; True if it ended by itself."""
        deadline = None if seconds is None else self._started + seconds
        pause = 0.0005
        next_refresh = time.perf_counter() + 0.2
        while not self.ended:
            now = time.perf_counter()
            if (deadline is not None and now >= deadline) or (interrupted is not None and interrupted.is_set()):
                return False
            if now >= next_refresh:
                self.refresh()
                next_refresh = now + 0.2
            left = pause if deadline is None else min(pause, deadline - now)
            self._threads[0].join(left)  # a lone worker returns at the end; with more, somebody has to look
            pause = min(pause * 2, 0.05)
        return True

    def stop(self) -> Report:
        """Let what is in flight finish, stop the workers, close the ports; returns the final report."""
        if self._final is not None:
            return self._final
        if self._threads:
            self.resume()
            self._drain()
            for index in range(self.count):
                self._command(index, EXIT)
            for thread in self._threads:
                thread.join()
        self._stopped = time.perf_counter()
        self._let_go()
        for port in self.graph.ports:
            port.refresh()
        stats = {port: port.stats() for port in self.graph.ports}
        nodes = self._nodes()
        refused = self.pool.refused
        faults = [fault for port in self.graph.ports if (fault := port.fault())]
        self._close_ports(faults)
        in_use = self.pool.in_use
        self._final = self._report(stats, nodes, refused, in_use, tuple(faults))
        self.close()
        if self.failure is not None:
            raise self.failure
        return self._final

    def _drain(self) -> None:
        """Stop receiving; wait until nothing is between workers and each went round twice since."""
        deadline = time.perf_counter() + _DEADLINE_S / 2
        if self.ended:
            return
        for index in range(self.count):
            self._command(index, DRAIN)
        if self.count == 1:
            return
        quiet = 0
        while quiet < 3 and time.perf_counter() < deadline:
            before = [Worker(memory.record).loops for memory in self.memory.workers]
            time.sleep(0.002)
            moved = all(Worker(m.record).loops > b + 1 for m, b in zip(self.memory.workers, before, strict=True))
            quiet = quiet + 1 if moved and self.memory.in_flight() == 0 else 0

    def _let_go(self) -> None:
        """Tables no longer have readers to wait for."""
        self.grace.reclaim()
        for state in self.built.captured.states.values():
            if getattr(state, "reclaimer", None) is self.grace:
                state.reclaimer = None

    def _close_ports(self, faults: list[str]) -> None:
        for port in self.graph.ports:
            if port.close in self._closing:
                self._closing.remove(port.close)
                try:
                    port.close()
                except (OSError, WirespeedError) as error:
                    faults.append(f"{port.spec}: {error}")

    def close(self) -> None:
        """Give back everything; the workers must have stopped."""
        while self._closing:
            self._closing.pop()()

    # Reports ---------------------------------------------------------------------------------------------

    def _nodes(self) -> dict[str, NodeReport]:
        reports = {}
        for node in self.plan.order:
            outputs, drops = {}, {}
            for exit_ in self.plan.exits[node]:
                count = self.memory.count(exit_.counter)
                if exit_.door in node.drops:
                    drops[exit_.door] = count
                elif exit_.door != DEFAULT or exit_.target is not None:
                    outputs[exit_.door] = count
            reports[node.name] = NodeReport(node.name, outputs, drops)
        return reports

    def _report(
        self,
        stats: dict[Any, PortStats],
        nodes: dict[str, NodeReport],
        refused: int,
        in_use: int,
        faults: tuple[str, ...],
    ) -> Report:
        end = self._stopped or time.perf_counter()
        return Report(
            packets=sum(each.rx_packets for each in stats.values()),
            bytes=sum(each.rx_bytes for each in stats.values()),
            sent=sum(each.tx_packets for each in stats.values()),
            seconds=end - self._started if self._started else 0.0,
            nodes=nodes,
            ports=_by_name(stats),
            refused=refused,
            in_use=in_use,
            faults=faults,
            notes=tuple(self.notes),
        )

    def report(self) -> Report:
        """The counters now; after :meth:`stop`, the final ones."""
        if self._final is not None:
            return self._final
        stats = {port: port.stats() for port in self.graph.ports}
        return self._report(stats, self._nodes(), self.pool.refused, self.pool.in_use, ())

    @property
    def counts_instructions(self) -> bool:
        """Whether the hardware counts instructions for the workers."""
        return any(Worker(memory.record).perf_fd >= 0 for memory in self.memory.workers)

    def first_packet_cycles(self) -> int:
        """The cycle counter when the first burst had gone through; 0 before."""
        seen = [first for memory in self.memory.workers if (first := Worker(memory.record).first)]
        return min(seen, default=0)

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()


def _by_name(stats: dict[Any, PortStats]) -> dict[str, PortStats]:
    named: dict[str, PortStats] = {}
    for port, each in stats.items():
        name, count = port.spec, 1
        while name in named:
            count += 1
            name = f"{port.spec} ({count})"
        named[name] = each
    return named


__all__ = ["COMPILED", "Engine", "Plan"]
