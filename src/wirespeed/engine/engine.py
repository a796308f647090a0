"""The engine: opens the ports of a graph, compiles its loop, runs it on pinned cores and takes it down again.

Nothing here is on the packet path. A worker is one Python thread inside one compiled call; control code talks
to it through its record: a command word, counters, a grace-period slot.
"""

import contextlib
import dataclasses
import functools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from wirespeed.eal import cores
from wirespeed.eal.perf import Event
from wirespeed.engine.assign import assign_queues, connect, furnish
from wirespeed.engine.idle import BALANCED, spin_cycles
from wirespeed.engine.live import Changing
from wirespeed.engine.memory import EngineMemory
from wirespeed.engine.opener import Opener
from wirespeed.engine.report import Report, take_report
from wirespeed.engine.status import PortsStatus
from wirespeed.engine.workers import Workers
from wirespeed.errors import GraphError, WirespeedError
from wirespeed.graph.build import Built, build
from wirespeed.graph.graph import Graph
from wirespeed.graph.layout import DRAIN, EXIT, RCU_SLOT, WHEELS, Worker, binding
from wirespeed.graph.plan import FUSED, PROFILE, Plan, make_plan
from wirespeed.jit import store64
from wirespeed.mem.pool import MAX_BURST, Pool
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.port import Port, PortStats
from wirespeed.ports.status import Event as PortEvent
from wirespeed.sync.rcu import Grace
from wirespeed.tables.toeplitz import Toeplitz
from wirespeed.timers.timers import Timers

_REFRESH_S = 0.2
_SAYS = 3  # of so many, one is said to other processes
_DRAIN_S = 0.5


class Engine(Changing):
    """Runs one graph.

    Args:
        graph: what to run; checked here.
        workers: how many cores poll.
        symmetric: whether both directions of a flow go to the same worker.
        burst: packets taken from a port at once, 1 to 256.
        cells: size of the packet pool.
        idle: what a worker does that has nothing to do: ``latency``, ``balanced`` or ``power`` (:mod:`.idle`).
        shape: ``fused`` or ``split`` (every node by itself); the packets are the same.
        counters: events the hardware counts for each worker while it profiles (see :mod:`wirespeed.eal.perf`).
        progress: told what is being compiled.
        name: under which ``wirespeed inspect`` and other processes find its counters while it runs, and with
            ``.pool`` behind it its packet pool.
        checked: write down which place of the graph has each cell, at some cycles a packet and place, so that the
            report and :meth:`wirespeed.mem.pool.Pool.leaks` name who lost one.
        on_event: called with each event of a port (:class:`wirespeed.ports.status.Event`), in the thread that says it,
            which may be a driver's: it must not wait for one that changes or stops the engine.
        guests: how many workers of other graphs may join the packet pool; they need the ``name``.
        guest_of: the name of a graph that runs, in any process: this one works with its packets, and its ``ring`` ports
            are those of that graph. ``cells`` is its business then.

    Attributes:
        graph: what runs now; :meth:`add`, :meth:`remove` and :meth:`replace` change it.
        departed: counters of ports that were removed.
        cores: of the workers, once they are started.

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
        idle: str = BALANCED,
        shape: str = FUSED,
        counters: tuple[Event, ...] = (),
        progress: Callable[[str], None] | None = None,
        name: str | None = None,
        checked: bool = False,
        on_event: Callable[[PortEvent], None] | None = None,
        guests: int = 0,
        guest_of: str | None = None,
    ) -> None:
        if not 1 <= workers <= MAX_WORKERS:
            raise WirespeedError(f"workers={workers} must be 1 to {MAX_WORKERS}")
        if not 1 <= burst <= MAX_BURST // 2:
            raise WirespeedError(f"burst={burst} must be 1 to {MAX_BURST // 2}")
        if guests and (name is None or guest_of is not None):
            raise WirespeedError("guests= needs a name= by which they find this graph, which is nobody's guest itself")
        if checked and (guests or guest_of):
            raise WirespeedError("a checked graph has its packet pool to itself: run it without guests")
        self.spin = spin_cycles(idle)
        self.graph = graph
        self.count = workers
        self.name = name
        self.progress = progress
        self.departed: dict[Port, PortStats] = {}
        self.faults: list[str] = []
        # Who takes both takes them in this order. Neither is held while a handler of the user's is called.
        self.changing = threading.RLock()  # held while the graph is made another, or taken down
        self.reading = threading.RLock()  # held while memory and ports are exchanged, or looked at
        self.plan = make_plan(graph, shape, workers, burst, checked)
        self.notes: list[str] = []
        self.cores: tuple[int, ...] = ()
        self.closing: list[Callable[[], None]] = []
        self._final: Report | None = None
        self._started = self._stopped = 0.0
        self._profiled: Built | None = None
        self._profiled_of: Built | None = None  # the loop that it is another shape of
        self._recompiling: threading.Thread | None = None
        self.pool = (
            Pool.join(f"{guest_of}.pool", workers)
            if guest_of
            else Pool(
                max(cells, (workers + 2 * guests + 2) * 1024),
                workers,
                name and f"{name}.pool",
                places=self.plan.places if checked else None,
                guests=guests,
            )
        )
        self.closing.append(self.pool.close)
        self._hash = Toeplitz(symmetric=symmetric)
        self.closing.append(self._hash.close)
        try:
            self.opener = Opener(self.pool, workers, self._hash, on_event, self.notes, self._rules_changed)
            self.closing.append(self.opener.close)
            for port in graph.ports:
                self.opener.open(port, graph)
            self.built: Built = build(self.plan, progress)
            self.memory = EngineMemory(self.plan, workers, name)
            self.closing.append(self.memory.close)
            self.workers = self._make_workers(counters)
            self._status = PortsStatus(f"{name}.ports") if name else None
            if self._status is not None:
                self.closing.append(self._status.close)
            for port in graph.ports:
                port.begin()
        except BaseException:
            self.close()
            raise

    # Before the start ------------------------------------------------------------------------------------

    def _make_workers(self, counters: tuple[Event, ...]) -> Workers:
        graph, memory = self.graph, self.memory
        self.wakeups = wakeups = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(self.count)]
        self.closing.extend(functools.partial(os.close, descriptor) for descriptor in wakeups)
        self.queues, descriptors, waitable = assign_queues(graph, self.count)
        furnish(memory, self.pool, descriptors, wakeups, [self.spin if can else -1 for can in waitable])
        if self.count > 1:
            connect(memory, self.queues, wakeups)
        for state in self.built.captured.states.values():
            if hasattr(type(state), "prepare"):
                state.prepare(self.count)
            if isinstance(state, Timers):
                state.rouse_by(wakeups)
        records = [part.record for part in memory.workers]
        self.grace = Grace([record + RCU_SLOT for record in records])
        return Workers(records, wakeups, self.built, self._bind, counters)

    def _bind(self, index: int, built: Built) -> None:
        """Write what a loop finds by reference: port queues and the state of nodes."""
        record = self.memory.workers[index].record
        for key, place in built.plan.bindings.items():
            if isinstance(key, tuple):
                store64(record + binding(place), self._address(key, index))
            else:
                state = built.captured.states[key]
                store64(record + binding(place), state.address + index * getattr(state, "stride", 0))
        wheels = [s.address + index * s.stride for s in built.captured.states.values() if isinstance(s, Timers)]
        Worker(record).wheels = len(wheels)
        for place, wheel in enumerate(wheels):
            store64(record + WHEELS + 8 * place, wheel)

    def _address(self, key: tuple[Any, ...], index: int) -> int:
        """Of a queue, or of a stage's record: worker ``index``'s."""
        if key[0] != "stage":
            return self.queues[key[0], key[1]][index]
        stage = key[1].software.known[key[2]]  # also one that the next loop will not have
        return int(stage.address + index * stage.stride)

    # Running ---------------------------------------------------------------------------------------------

    def start(self, on: Sequence[int] | None = None) -> None:
        """Start the workers, ``on`` these cores (one each) or on the best there are; returns at once."""
        with self.changing:
            self._start(on)

    def _start(self, on: Sequence[int] | None) -> None:
        if self.workers.started:
            raise GraphError("this engine runs already; make another for another run")
        placement = cores.choose(self.count)
        if placement.shared and on is None:
            self.notes.append(placement.why)
        for state in self.built.captured.states.values():
            if hasattr(state, "reclaimer"):
                state.reclaimer = self.grace
        for port in self.graph.ports:
            port.grace = self.grace
        self._started = time.perf_counter()
        self.cores = tuple(placement.workers if on is None else on)
        self.workers.start(self.cores)

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """Keep this process's other threads off the workers' cores meanwhile, each that may use others: when one had
        work to do there, packets would wait. What they start meanwhile, threads and processes, inherits that."""
        with cores.kept_off(self.cores):
            yield

    def pause(self) -> None:
        """Take the workers off their cores; what is in flight stays where it is."""
        self.workers.pause()

    def resume(self) -> None:
        """Go on after :meth:`pause`."""
        self.workers.resume()

    @property
    def ended(self) -> bool:
        """Whether every input is over and nothing is between workers."""
        if self.workers.failure is not None:
            return True
        with self.reading:
            return self.stopped or self._ended()

    def _ended(self) -> bool:
        workers = [Worker(memory.record) for memory in self.memory.workers]
        busy = [worker.busy for worker in workers]
        if not all(worker.ended for worker in workers):
            return False
        if self.count == 1:
            return True
        # Looked at twice: who took something from a ring meanwhile has not ended, or was busy.
        settled = self.memory.in_flight() == 0 and all(worker.ended for worker in workers)
        return settled and busy == [worker.busy for worker in workers]

    def refresh(self, say: bool = True) -> None:
        """Housekeeping of control code; call it several times a second while the graph runs.

        With ``say``, also write down how the ports are, for ``wirespeed ports``.
        """
        with self.opener.telling_later(), self.reading:
            if self.stopped:
                return
            graph = self.graph  # none of its ports is closed while this looks at them
            for port in graph.ports:
                port.refresh()
            if self._status is not None and say:
                self._status.write(graph.ports, [graph.number(port) for port in graph.ports])
        self.grace.reclaim()
        busy = self._recompiling is not None and self._recompiling.is_alive()
        if not busy and self.built.captured.changed():
            self._recompiling = threading.Thread(target=self._recompile, daemon=True)
            self._recompiling.start()

    def _recompile(self) -> None:
        """A number that a node uses has changed: compile anew beside the running loop, then swap."""
        with self.changing:
            if self.stopped:
                return
            try:
                self.built = build(self._plan(self.plan.shape), self.progress)
            except WirespeedError as error:
                self.built.captured.watched.clear()
                self.notes.append(f"a changed number was not taken over: {error}")
                return
            self.workers.switch(self.built)

    def _plan(self, shape: str) -> Plan:
        """The same graph once more, in another shape."""
        return make_plan(self.graph, shape, self.count, self.plan.burst, self.plan.checked)

    def prepare_profile(self) -> None:
        """Compile the profiling loop; takes a while the first time, so do it beside the running graph."""
        with self.changing:
            if self.can_profile or self.stopped:
                return
            built, plan = self.built, self._plan(PROFILE)
        self._profiled, self._profiled_of = build(plan, self.progress), built

    @property
    def can_profile(self) -> bool:
        """Whether :meth:`profile` would start at once."""
        return self._profiled_of is self.built

    def profile(self, seconds: float = 0.01) -> None:
        """Run every worker's profiling loop for a moment; its figures add up in the workers' profiles."""
        self.prepare_profile()  # not under the lock: the graph may go on changing meanwhile
        with self.changing:
            self.prepare_profile()  # of the graph that it has become
            if self.stopped:
                return
            assert self._profiled is not None
            self.workers.switch(self._profiled)
            time.sleep(seconds)
            self.workers.switch(self.built)
            self.workers.settle()  # the figures stand still from here on

    def wait(self, seconds: float | None = None, interrupted: threading.Event | None = None) -> bool:
        """Wait until the graph ends, ``seconds`` pass or ``interrupted`` is set; True if it ended by itself."""
        deadline = None if seconds is None else self._started + seconds
        pause = 0.0005
        next_refresh, turn = time.perf_counter() + _REFRESH_S, 0
        while not self.ended:
            now = time.perf_counter()
            if (deadline is not None and now >= deadline) or (interrupted is not None and interrupted.is_set()):
                return False
            if now >= next_refresh:
                self.refresh(say=turn % _SAYS == 0)
                next_refresh, turn = now + _REFRESH_S, turn + 1
            self.workers.wait(pause if deadline is None else min(pause, deadline - now))
            pause = min(pause * 2, 0.05)
        return True

    def stop(self) -> Report:
        """Let what is in flight finish, stop the workers, close the ports; returns the final report.

        Raises:
            BaseException: what a worker died of.
        """
        with self.opener.telling_later(), self.changing:
            return self._final or self._stop()

    def _stop(self) -> Report:
        if self.workers.started:
            self.workers.resume()
            self._drain()
            self.workers.command(EXIT)
            self.workers.join()
        self._stopped = time.perf_counter()
        self._let_go()
        with self.opener.telling_later(), self.reading:
            for port in self.graph.ports:
                port.refresh()
            snapshot = self._final = self._snapshot()  # who looks from here on sees this, not what is being closed
        faults = self.faults + [fault for port in self.graph.ports if (fault := port.fault())]
        self._close_ports(faults)
        leaks = self.pool.leaks()
        self._final = dataclasses.replace(snapshot, in_use=self.pool.in_use, leaks=leaks, faults=tuple(faults))
        self.close()
        if self.workers.failure is not None:
            raise self.workers.failure
        return self._final

    def _drain(self) -> None:
        """Several workers: receive no more, and wait until nothing is on its way between them.

        A packet changes workers twice at the most, so three quiet looks, with each worker round in between, will do.
        """
        if self.count == 1:
            return
        self.workers.command(DRAIN)
        deadline = time.perf_counter() + _DRAIN_S
        quiet = 0
        while quiet < 3 and time.perf_counter() < deadline:
            before = [Worker(memory.record).loops for memory in self.memory.workers]
            time.sleep(0.002)
            moved = all(Worker(m.record).loops > b + 1 for m, b in zip(self.memory.workers, before, strict=True))
            quiet = quiet + 1 if moved and self.memory.in_flight() == 0 else 0

    def _let_go(self) -> None:
        """Nobody looks any more: what is left between workers goes back, and tables have no readers to wait for."""
        for ring in self.memory.rings:
            self.pool.release_ring(ring)
        self.grace.reclaim()
        for port in self.graph.ports:
            port.grace = None
        for state in self.built.captured.states.values():
            if getattr(state, "reclaimer", None) is self.grace:
                state.reclaimer = None

    def _close_ports(self, faults: list[str]) -> None:
        for port in self.graph.ports:
            try:
                self.opener.shut(port)
            except (OSError, WirespeedError) as error:
                faults.append(f"{port.spec}: {error}")

    def close(self) -> None:
        """Give back everything; the workers must have stopped."""
        while self.closing:
            self.closing.pop()()

    # Reports ---------------------------------------------------------------------------------------------

    def report(self) -> Report:
        """The counters now; after :meth:`stop`, the final ones."""
        with self.reading:
            return self._final or self._snapshot()

    def _snapshot(self) -> Report:
        end = self._stopped or time.perf_counter()
        return take_report(
            self.plan,
            self.memory.count,
            seconds=end - self._started if self._started else 0.0,
            refused=self.pool.refused,
            in_use=self.pool.in_use,
            notes=tuple(self.notes),
            departed=self.departed,
        )

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` has ended the workers; nothing of them can be looked at any more."""
        return self._final is not None

    @property
    def counts_instructions(self) -> bool:
        """Whether the hardware counts instructions for the workers; False once stopped."""
        with self.reading:
            return not self.stopped and any(Worker(memory.record).perf_fd >= 0 for memory in self.memory.workers)

    @property
    def why_no_counters(self) -> str:
        """Why the hardware counts nothing; empty if it does."""
        return self.workers.why_no_counters

    def first_packet_cycles(self) -> int:
        """The cycle counter when the first burst had gone through; 0 before, and once stopped."""
        with self.reading:
            if self.stopped:
                return 0
            seen = [first for memory in self.memory.workers if (first := Worker(memory.record).first)]
            return min(seen, default=0)

    def __enter__(self) -> "Engine":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()
