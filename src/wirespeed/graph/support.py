"""The few functions every generated loop calls: losing packets, blocking, and profiling marks."""

from wirespeed.graph.handoff import pending
from wirespeed.graph.layout import RCU_SLOT, WHEELS, Worker
from wirespeed.jit import (
    cold,
    cycles,
    fence,
    inline,
    load16,
    load32,
    load64,
    load_relaxed,
    pause,
    store64,
    store_release,
)
from wirespeed.jit.libc import ppoll, read
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.queue import Queue
from wirespeed.sync.rcu import offline, online
from wirespeed.timers.wheel import TimersView

_LOOKS = 16  # empty turns between two looks at the clock, a power of two
_LONG_PAUSE = 32  # a microsecond or two
_PROFILE_SLOT = 32  # a place's cycles, instructions, packets, calls
_PROFILE_SLOTS = 256  # before them: what perf's group was read to, and its values at the last mark

_ASLEEP: int = Worker.asleep.offset
_DRAINED: int = Worker.drained.offset
_NAP_S: int = Worker.nap_s.offset
_WAKING_NS = 80_000  # from a timeout to the worker on its core: 50 us is what the kernel adds (prctl(2), timer slack)
_REVENTS = 6  # of struct pollfd
_CYCLES, _INSTRUCTIONS = 24, 32  # in what eal.perf reads: how many, enabled, running, cycles, instructions


def profile_bytes(places: int) -> int:
    """Bytes of a worker's profile for so many ports and nodes."""
    return _PROFILE_SLOTS + places * _PROFILE_SLOT


@inline
def profile_slot(profile, slot):  # type: ignore[no-untyped-def]
    """Address of a place's four words."""
    return profile + _PROFILE_SLOTS + slot * _PROFILE_SLOT


@cold
def lose(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Free what a port had no room for, and count it there."""
    Queue(queue).dropped += count
    release(Cache(cache), vector, count)


@inline
def tired(work, empty_turns):  # type: ignore[no-untyped-def]
    """Nothing moved this turn: 1 when it is time to block.

    No PAUSE here: one every few tens of nanoseconds is what hypervisors take for a spin lock whose holder is not
    running, and stop the core to look for it (docs/design/0027-whose-core-it-is.md).
    """
    if empty_turns & (_LOOKS - 1) != 0:
        return 0
    return _tired(work, empty_turns)


@cold
def _tired(work, empty_turns):  # type: ignore[no-untyped-def]
    """Spin for a time, with longer pauses in its second half; then block."""
    worker = Worker(work)
    if worker.spin < 0:
        return 0
    now = cycles()
    if empty_turns == _LOOKS:
        worker.idle_since = now
    spun = now - worker.idle_since
    if spun >= worker.spin:
        return 1
    if spun + spun > worker.spin:
        for _ in range(_LONG_PAUSE):
            pause()
    return 0


@cold
def _asleep(work, asleep):  # type: ignore[no-untyped-def]
    """Say whether this worker blocks, to who commands it and to who commands its timers."""
    for index in range(Worker(work).wheels):
        TimersView(load64(work + WHEELS + (index << 3))).asleep = asleep
    store_release(work + _ASLEEP, asleep)


@cold
def _nap(work):  # type: ignore[no-untyped-def]
    """How many nanoseconds the worker may block: until shortly before its next timer. 0: not at all."""
    worker = Worker(work)
    left = worker.nap_ms * 1_000_000
    if worker.wheels > 0:
        for index in range(worker.wheels):
            left = min(left, TimersView(load64(work + WHEELS + (index << 3))).sleep_ns(left))
        left -= _WAKING_NS
    return max(left, 0)


@cold
def block(work, ready):  # type: ignore[no-untyped-def]
    """Block on the ports' descriptors until one has something; not at all if a port is ``ready``."""
    worker = Worker(work)
    _asleep(work, 1)
    fence()
    left = 0
    if ready == 0 and load_relaxed(work) == 0 and pending(work) == 0:
        left = _nap(work)
    if left > 0:
        worker.nap_s = left // 1_000_000_000
        worker.nap_ns = left % 1_000_000_000
        offline(work + RCU_SLOT)
        ppoll(worker.polled, worker.polled_count, work + _NAP_S, 0)
        _learn(work, cycles() - worker.idle_since)
        online(work + RCU_SLOT)
        # The last descriptor is the wake-up: unread, it would keep every later poll() from sleeping.
        wakeup = worker.polled + ((worker.polled_count - 1) << 3)
        if load16(wakeup + _REVENTS) != 0:
            read(load32(wakeup), work + _DRAINED, 8)
    worker.sleeps += 1
    _asleep(work, 0)


@inline
def _learn(work, silence):  # type: ignore[no-untyped-def]
    """How long to spin next time, after so many cycles without a packet: all there may be if that would have seen the
    silence through, half as long as before if it was in vain.

    So do virtual processors of KVM (Documentation/virt/kvm/halt-polling.rst): they grow at once and shrink by halves.
    """
    worker = Worker(work)
    most = worker.spin_most
    if silence < most:
        worker.spin = most
    else:
        worker.spin = worker.spin >> 1


@cold
def begin(work):  # type: ignore[no-untyped-def]
    """Profile: what follows is charged to the next :func:`mark`."""
    worker = Worker(work)
    if worker.perf_fd >= 0:
        read(worker.perf_fd, worker.profile, 64)
        store64(worker.profile + 128, load64(worker.profile + _CYCLES))
        store64(worker.profile + 136, load64(worker.profile + _INSTRUCTIONS))
    worker.mark = cycles()


@cold
def mark(work, slot, packets):  # type: ignore[no-untyped-def]
    """Profile: charge what happened since the last :func:`begin` or ``mark`` to ``slot``."""
    worker = Worker(work)
    spent = cycles() - worker.mark
    instructions = 0
    if worker.perf_fd >= 0:
        sample = worker.profile
        read(worker.perf_fd, sample, 64)
        spent = load64(sample + _CYCLES) - load64(sample + 128)
        instructions = load64(sample + _INSTRUCTIONS) - load64(sample + 136)
    at = profile_slot(worker.profile, slot)
    store64(at, load64(at) + spent)
    store64(at + 8, load64(at + 8) + instructions)
    store64(at + 16, load64(at + 16) + packets)
    store64(at + 24, load64(at + 24) + 1)
    begin(work)
