"""Cores: which there are, which a worker should have, and pinning a thread to one.

A worker is one thread that polls on one core. The best core is one that the kernel keeps free of
everything else (``isolcpus=``), on the memory node of the ports, and not the second hyper-thread
of a core that already works. The control plane keeps the lowest core, if there is room.

Isolated cores are missing from the affinity mask that a process starts with, although it may be
pinned there: so they count as usable, unless someone narrowed the mask on purpose (taskset, a
container's cpuset). Then the mask is obeyed to the letter.

References: sched_setaffinity(2) (pid 0 is the calling *thread*); Documentation/admin-guide/
kernel-parameters.txt (isolcpus, nohz_full); Documentation/admin-guide/cputopology.rst.
"""

import contextlib
import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import numa, sysfs
from wirespeed.errors import ConfigError, WirespeedError


@dataclass(frozen=True)
class Core:
    """One logical core; ``siblings`` are the hyper-threads of the same physical core, itself included."""

    index: int
    node: int
    isolated: bool
    siblings: tuple[int, ...]


@dataclass(frozen=True)
class Placement:
    """Where threads go: a core for the control plane, one for each worker, and why in one line.

    ``shared`` is true when a core has more than one thread (worker or control).
    """

    control: int
    workers: tuple[int, ...]
    shared: bool
    why: str


def online(root: Path = sysfs.ROOT) -> tuple[int, ...]:
    """Cores that the kernel runs, in order."""
    return sysfs.cores(root / "sys/devices/system/cpu/online")


def allowed() -> tuple[int, ...]:
    """Cores that the calling thread may run on now, in order (its affinity mask)."""
    return tuple(sorted(os.sched_getaffinity(0)))


def isolated(root: Path = sysfs.ROOT) -> tuple[int, ...]:
    """Cores the scheduler leaves alone (``isolcpus=`` on the kernel command line), in order."""
    return sysfs.cores(root / "sys/devices/system/cpu/isolated")


def node_of(core: int, root: Path = sysfs.ROOT) -> int:
    """The memory node next to ``core``; 0 where the kernel does not say."""
    return next((node.index for node in numa.nodes(root) if core in node.cores), 0)


def usable(root: Path = sysfs.ROOT, mask: tuple[int, ...] | None = None) -> tuple[Core, ...]:
    """The cores this process may pin threads to, in order.

    Ask before pinning the calling thread: its mask is what is read. ``mask`` replaces that mask.
    """
    everything, apart = online(root), isolated(root)
    mask = allowed() if mask is None else mask
    untouched = set(mask) >= set(everything) - set(apart)
    indices = sorted(set(mask) | set(apart)) if untouched else sorted(mask)
    return tuple(Core(index, node_of(index, root), index in apart, _siblings(index, root)) for index in indices)


def choose(workers: int, node: int | None = None, cores: tuple[Core, ...] | None = None) -> Placement:
    """Choose cores for ``workers`` polling threads.

    In order of preference: isolated, on ``node`` (of the port; None: any), a physical core of its own,
    a low number. With fewer cores than workers they share, in turn: slow, never refused.

    Args:
        workers: how many, 0 or more.
        node: memory node to be near.
        cores: what to choose from; None asks :func:`usable`.

    Raises:
        ConfigError: a negative number of workers, or nothing to choose from.
    """
    cores = usable() if cores is None else cores
    if workers < 0 or not cores:
        raise ConfigError(
            f"cannot place {workers} workers on {len(cores)} cores: ask for 0 workers or more, "
            "and let the process use at least one core (taskset, cpuset)"
        )
    control = min(cores, key=lambda core: (core.isolated, core.index))
    rest = [core for core in cores if core is not control]
    ranked = _ranked(rest, control, node)
    chosen = ranked[:workers]
    if len(chosen) < workers:  # the control core is the next best; after it, everyone shares
        circle = [*ranked, control]
        chosen = [circle[turn % len(circle)] for turn in range(workers)]
    taken = [core.index for core in chosen]
    shared = len({control.index, *taken}) < workers + 1
    return Placement(control.index, tuple(taken), shared, _why(chosen, control, node, shared, len(cores)))


def pin(core: int) -> frozenset[int]:
    """Tie the calling thread (only) to ``core``; returns the mask it had, for :func:`unpin`.

    Threads that it starts later inherit the pin.

    Raises:
        WirespeedError: there is no such core, or a cpuset forbids it.
    """
    before = frozenset(os.sched_getaffinity(0))
    try:
        os.sched_setaffinity(0, {core})
    except (OSError, ValueError, OverflowError) as error:
        raise WirespeedError(
            f"cannot pin thread {threading.current_thread().name!r} to core {core}: {error}; "
            f"online are {sysfs.ranges(online())}, this thread may use {sysfs.ranges(tuple(before))}: "
            "choose one of these, or widen the cpuset of the container"
        ) from error
    return before


@dataclass(frozen=True)
class Kept:
    """A thread that :func:`avoid` keeps off cores: the mask it had, and the one it was given."""

    thread: int
    before: frozenset[int]
    given: frozenset[int]


def avoid(taken: Iterable[int]) -> list[Kept]:
    """Keep this process's threads off cores that others need, each that may use any besides.

    Threads that they start later inherit that. :func:`restore` gives them back what they had.
    """
    closed = frozenset(taken)
    kept = []
    for thread in map(int, os.listdir("/proc/self/task")):
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            before = frozenset(os.sched_getaffinity(thread))
            if before & closed and before - closed:
                os.sched_setaffinity(thread, before - closed)
                kept.append(Kept(thread, before, before - closed))
    return kept


def restore(kept: Iterable[Kept]) -> None:
    """Give threads back the masks they had before :func:`avoid`, but those that were pinned since."""
    for each in kept:
        with contextlib.suppress(ProcessLookupError):
            if os.sched_getaffinity(each.thread) == each.given:
                os.sched_setaffinity(each.thread, each.before)


@contextlib.contextmanager
def kept_off(taken: Iterable[int]) -> Iterator[None]:
    """:func:`avoid` meanwhile."""
    kept = avoid(taken)
    try:
        yield
    finally:
        restore(kept)


def unpin(mask: frozenset[int]) -> None:
    """Give the calling thread back the mask that :func:`pin` returned."""
    os.sched_setaffinity(0, mask)


def _siblings(core: int, root: Path) -> tuple[int, ...]:
    topology = root / f"sys/devices/system/cpu/cpu{core}/topology"
    return sysfs.cores(topology / "thread_siblings_list") or (core,)


def _ranked(cores: list[Core], control: Core, node: int | None) -> list[Core]:
    """Best first. A hyper-thread goes behind if one of its siblings is already in use before it."""
    by_merit = sorted(cores, key=lambda core: (not core.isolated, node not in (None, core.node), core.index))
    first: list[Core] = []
    behind: list[Core] = []
    busy = set(control.siblings)
    for core in by_merit:
        (behind if core.index in busy else first).append(core)
        busy.update(core.siblings)
    # A sibling that is isolated still beats a whole core that everybody uses.
    return sorted(first + behind, key=lambda core: not core.isolated)


def _why(chosen: list[Core], control: Core, node: int | None, shared: bool, count: int) -> str:
    if not chosen:
        return f"no workers; control on core {control.index}"
    taken = tuple(core.index for core in chosen)
    parts = [f"workers on {'core' if len(set(taken)) == 1 else 'cores'} {sysfs.ranges(tuple(set(taken)))}"]
    parts.append(f"control on core {control.index}")
    apart = sum(core.isolated for core in chosen)
    parts.append("isolated" if apart == len(chosen) else f"{apart} of {len(chosen)} isolated")
    if node is not None and any(core.node != node for core in chosen):
        parts.append(f"not all on node {node}, which has too few cores")
    if len(set(taken)) < len(taken):
        parts.append(f"{len(taken)} workers share {count} cores: expect each to run slower")
    elif shared:
        parts.append("one worker shares the control core")
    return ", ".join(parts)
