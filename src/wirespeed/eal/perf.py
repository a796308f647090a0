"""Hardware counters of one thread: cycles, instructions, cache and branch misses, in user space.

Cycles say how long a packet took; instructions and misses say why. Four counters form one group, so
that the kernel schedules them together and their quotients mean something; if it had to share the
hardware with other groups, the values are scaled by the time they really counted.

Counters belong to a thread: open them in the worker's thread, or pass its ``tid``. They are often not
to be had (a virtual machine without a PMU, a container, a careful distribution). That is no error:
``available`` is false, ``reason`` says why and what would help, and every value reads as None.

Layout of ``struct perf_event_attr`` as used here (size 112, PERF_ATTR_SIZE_VER5):

    0 type u32 | 4 size u32 | 8 config u64 | 16 sample_period | 24 sample_type | 32 read_format | 40 flags

References: perf_event_open(2); include/uapi/linux/perf_event.h; Documentation/admin-guide/
perf-security.rst for the paranoid levels.
"""

import ctypes
import errno
import fcntl
import os
import platform
import struct
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import cpu, sysfs

_SYSCALL = {"x86_64": 298, "aarch64": 241}
_ATTR = struct.Struct("=IIQQQQQ")
_ATTR_BYTES = 112
_READ_FORMAT = 1 | 2 | 8  # total time enabled, total time running, the whole group in one read
_DISABLED, _EXCLUDE_KERNEL, _EXCLUDE_HYPERVISOR = 1 << 0, 1 << 5, 1 << 6
_FLAG_FD_CLOEXEC = 8
_IOC_ENABLE, _IOC_RESET, _IOC_WHOLE_GROUP = 0x2400, 0x2403, 1
HARDWARE, SOFTWARE = 0, 1  # perf_event_attr.type
VIRTUAL_PMU = "start it with one (QEMU: -cpu host,pmu=on), or use a bare-metal machine"
ALLOW_IN_CONTAINER = "allow it in the container's seccomp profile, or add CAP_PERFMON"


@dataclass(frozen=True)
class Event:
    """What the kernel can count: ``kind`` is :data:`HARDWARE` or :data:`SOFTWARE`, ``config`` its number."""

    name: str
    kind: int
    config: int


CYCLES = Event("cycles", HARDWARE, 0)
INSTRUCTIONS = Event("instructions", HARDWARE, 1)
CACHE_MISSES = Event("cache_misses", HARDWARE, 3)
BRANCH_MISSES = Event("branch_misses", HARDWARE, 5)
PAGE_FAULTS = Event("page_faults", SOFTWARE, 2)
STANDARD = (CYCLES, INSTRUCTIONS, CACHE_MISSES, BRANCH_MISSES)


@dataclass(frozen=True)
class Sample:
    """Counts since the counters were opened, None where there is no counter. Subtract two for a span."""

    cycles: int | None = None
    instructions: int | None = None
    cache_misses: int | None = None
    branch_misses: int | None = None
    page_faults: int | None = None

    def __sub__(self, earlier: "Sample") -> "Sample":
        def less(now: int | None, then: int | None) -> int | None:
            return None if now is None or then is None else now - then

        return Sample(
            less(self.cycles, earlier.cycles),
            less(self.instructions, earlier.instructions),
            less(self.cache_misses, earlier.cache_misses),
            less(self.branch_misses, earlier.branch_misses),
            less(self.page_faults, earlier.page_faults),
        )

    @property
    def instructions_per_cycle(self) -> float | None:
        """IPC, or None if either is unknown or no cycle passed."""
        return self.instructions / self.cycles if self.instructions is not None and self.cycles else None


class PerfCounters:
    """Counters of one thread, counting from :meth:`open` to :meth:`close`."""

    def __init__(self, descriptors: list[int], events: tuple[Event, ...], reason: str) -> None:
        self._descriptors = descriptors  # the first leads the group
        self.events = events
        self.reason = reason

    @classmethod
    def open(cls, tid: int = 0, events: tuple[Event, ...] = STANDARD) -> "PerfCounters":
        """Start counting. Never raises: without counters, the object says so.

        Args:
            tid: kernel thread id (``threading.get_native_id()``); 0 is the calling thread.
            events: what to count. The first must be countable, else nothing is; others are left out singly.
        """
        descriptors: list[int] = []
        counted: list[Event] = []
        for event in events:
            try:
                descriptors.append(_open(event, tid, descriptors[0] if descriptors else -1))
                counted.append(event)
            except OSError as error:
                if not descriptors:
                    return cls([], (), _why_not(error, tid))
        if not descriptors:
            return cls([], (), "no events were asked for")
        fcntl.ioctl(descriptors[0], _IOC_RESET, _IOC_WHOLE_GROUP)
        fcntl.ioctl(descriptors[0], _IOC_ENABLE, _IOC_WHOLE_GROUP)
        missing = [event.name for event in events if event not in counted]
        return cls(descriptors, tuple(counted), f"not counted here: {', '.join(missing)}" if missing else "")

    @property
    def descriptor(self) -> int:
        """What compiled code may read(2): words count, enabled, running, then the events; -1 if nothing counts."""
        return self._descriptors[0] if self._descriptors else -1

    @property
    def available(self) -> bool:
        """True if at least one counter counts."""
        return bool(self._descriptors)

    def read(self) -> Sample:
        """The counts so far; may be called from any thread."""
        if not self._descriptors:
            return Sample()
        count = len(self.events)
        words = struct.unpack(f"={3 + count}Q", os.read(self._descriptors[0], 8 * (3 + count)))
        _, enabled, running, *values = words
        if running == 0:  # the hardware was never ours: unknown, unless the thread did not run at all
            return Sample(**{event.name: None if enabled else 0 for event in self.events})
        return Sample(**{event.name: v * enabled // running for event, v in zip(self.events, values, strict=True)})

    def close(self) -> None:
        """Stop counting; a second call does nothing."""
        for descriptor in reversed(self._descriptors):
            os.close(descriptor)
        self._descriptors = []
        self.reason = self.reason or "closed"

    def __enter__(self) -> "PerfCounters":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def paranoid(root: Path = sysfs.ROOT) -> int:
    """``kernel.perf_event_paranoid``; 99 if the kernel has no perf events. Up to 2 is enough for us."""
    return sysfs.number(root / "proc/sys/kernel/perf_event_paranoid", 99)


def attributes(event: Event, flags: int, sample_type: int = 0, read_format: int = 0) -> bytearray:
    """A ``struct perf_event_attr``; ``flags`` are its bits from ``disabled`` on."""
    made = bytearray(_ATTR_BYTES)
    _ATTR.pack_into(made, 0, event.kind, _ATTR_BYTES, event.config, 0, sample_type, read_format, flags)
    return made


def perf_event_open(wanted: bytearray, tid: int, core: int = -1, leader: int = -1) -> int:
    """The descriptor of an event of a thread (-1: of all) on a core (-1: on whichever), in its leader's group.

    Raises OSError.
    """
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    descriptor = libc.syscall(
        ctypes.c_long(number),
        (ctypes.c_char * _ATTR_BYTES).from_buffer(wanted),
        ctypes.c_int(tid),
        ctypes.c_int(core),
        ctypes.c_int(leader),
        ctypes.c_ulong(_FLAG_FD_CLOEXEC),
    )
    if descriptor < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(descriptor)


def _open(event: Event, tid: int, leader: int) -> int:
    flags = _EXCLUDE_KERNEL | _EXCLUDE_HYPERVISOR | (_DISABLED if leader < 0 else 0)
    return perf_event_open(attributes(event, flags, read_format=_READ_FORMAT), tid, leader=leader)


def _why_not(error: OSError, tid: int, root: Path = sysfs.ROOT) -> str:
    """One line: the reason, then the remedy if there is one."""
    match error.errno:
        case errno.ENOENT | errno.EOPNOTSUPP | errno.ENODEV | errno.ENXIO:
            hypervisor = cpu.examine(root).hypervisor
            if hypervisor:
                return f"the virtual machine ({hypervisor}) exposes no PMU: {VIRTUAL_PMU}"
            return "this CPU or kernel has no such counters: check dmesg for 'PMU driver'"
        case errno.EACCES | errno.EPERM:
            level = paranoid(root)
            if level > 2:
                return f"kernel.perf_event_paranoid={level}: sysctl -w kernel.perf_event_paranoid=2"
            return f"perf_event_open is not permitted: {ALLOW_IN_CONTAINER}"
        case errno.ESRCH:
            return f"there is no thread {tid}: open the counters while it runs"
        case errno.ENOSYS:
            return "this kernel has no perf events (CONFIG_PERF_EVENTS)"
        case errno.EMFILE | errno.ENFILE:
            return "too many open files: raise it with ulimit -n"
        case errno.EBUSY:
            return "another tool holds the counters: stop it (or: sysctl -w kernel.nmi_watchdog=0)"
    return f"perf_event_open: {error.strerror}"
