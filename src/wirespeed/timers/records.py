"""One timer's life: added, started, stopped, expired, removed. By the worker that owns the wheel.

All that is arithmetic on one record of 32 bytes; only a start may touch more (:mod:`wirespeed.timers.slots`).
"""

from wirespeed.jit import cold, inline, load32, load64, store32, store64
from wirespeed.timers.layout import GENERATION_SHIFT, LATEST, NEVER, PERIODIC, Record, Wheel
from wirespeed.timers.slots import file, filed_tick, record_of, unfile

_WORD: int = Record.word.offset
_FILED: int = Record.filed.offset
_PLACE: int = Record.place.offset
_STATE: int = Record.state.offset
_GENERATIONS: int = (1 << 24) - 1


@inline
def handle_of(base: int, number: int, state: int) -> int:
    """The handle of timer ``number`` whose record says ``state``."""
    return ((Wheel(base).tag | (state >> GENERATION_SHIFT)) << 32) | number


@inline
def find(base: int, handle: int) -> int:
    """Address of the record that ``handle`` means, or 0 if it is gone or another worker's."""
    wheel = Wheel(base)
    number = handle & 0xFFFF_FFFF
    if number >= wheel.timers:
        return 0
    record = record_of(base, number)
    generation = load32(record + _STATE) >> GENERATION_SHIFT
    if wheel.tag | generation != handle >> 32 or generation & 1 == 0:
        return 0
    return record


@inline
def begin(base: int, number: int, callback: int, word: int) -> int:
    """Make a record that nobody uses a timer; its handle."""
    record = record_of(base, number)
    state = ((load32(record + _STATE) >> GENERATION_SHIFT) + 1 & _GENERATIONS) << GENERATION_SHIFT | callback
    store64(record, NEVER)
    store64(record + _WORD, word)
    store32(record + _STATE, state)
    return handle_of(base, number, state)


@inline
def add_timer(base: int, callback: int, word: int) -> int:
    """A timer of the worker's own, not armed; its handle, or -1 if all are in use."""
    wheel = Wheel(base)
    number = wheel.free_timer
    if number >= 0:
        wheel.free_timer = load64(record_of(base, number) + _WORD)
    else:
        number = wheel.fresh
        if number >= wheel.capacity:
            wheel.refused_add += 1
            return -1
        wheel.fresh = number + 1
    wheel.used += 1
    return begin(base, number, callback, word)


@cold
def remove_timer(base: int, handle: int) -> int:
    """Stop a timer and give its record back; 1, or 0 if it was gone."""
    wheel = Wheel(base)
    record = find(base, handle)
    if record == 0:
        wheel.stale += 1
        return 0
    if load64(record) != NEVER:
        store64(record, NEVER)
        wheel.stopped += 1
    number = handle & 0xFFFF_FFFF
    generation = (load32(record + _STATE) >> GENERATION_SHIFT) + 1 & _GENERATIONS
    if number < wheel.capacity:
        store64(record + _WORD, wheel.free_timer)
        wheel.free_timer = number
        wheel.used -= 1
    store32(record + _STATE, generation << GENERATION_SHIFT)  # last: control code may take a record of its own again
    return 1


@inline
def deadline_after(now: int, delay_ns: int) -> int:
    """``now + delay_ns``, neither before now nor after the end of time."""
    delay_ns = delay_ns if delay_ns > 0 else 0
    return now + delay_ns if delay_ns < LATEST - now else LATEST


@inline
def arm(base: int, number: int, record: int, deadline: int) -> None:
    """Give a timer this deadline, and move it if its slot comes later than that."""
    wheel = Wheel(base)
    store64(record, deadline)
    shift = wheel.shift
    tick = (deadline + (1 << shift) - 1) >> shift
    place = load32(record + _PLACE)
    if place != 0:
        if filed_tick(wheel.position, load32(record + _FILED)) <= tick:
            return
        unfile(base, record, place)
        wheel.moved += 1
    file(base, number, record, tick)


@inline
def rest(base: int, number: int, record: int, deadline: int) -> None:
    """File a timer whose slot came before its deadline."""
    shift = Wheel(base).shift
    file(base, number, record, (deadline + (1 << shift) - 1) >> shift)


@cold
def _set_period(base: int, number: int, record: int, period_ns: int) -> None:
    wheel = Wheel(base)
    state = load32(record + _STATE) & ~PERIODIC
    if period_ns > 0:
        state |= PERIODIC
        store64(base + wheel.periods + (number << 3), period_ns if period_ns < LATEST else LATEST)
    store32(record + _STATE, state)


@inline
def start_timer(base: int, record: int, number: int, delay_ns: int, period_ns: int) -> None:
    """Arm or re-arm a timer that :func:`find` found."""
    wheel = Wheel(base)
    if load64(record) == NEVER:
        wheel.started += 1
    else:
        wheel.restarted += 1
    if period_ns > 0 or load32(record + _STATE) & PERIODIC:
        _set_period(base, number, record, period_ns)
    arm(base, number, record, deadline_after(wheel.now, delay_ns))


@inline
def stop_timer(base: int, record: int) -> int:
    """Disarm a timer that :func:`find` found; 1 if it was armed. Its number stays in its slot until that comes."""
    if load64(record) == NEVER:
        return 0
    store64(record, NEVER)
    Wheel(base).stopped += 1
    return 1


@cold
def next_period(base: int, number: int, record: int, deadline: int) -> int:
    """Arm a periodic timer whose ``deadline`` is over for the next; how many periods are over.

    The next deadline is the previous one plus whole periods, so a period never drifts.
    """
    wheel = Wheel(base)
    period = load64(base + wheel.periods + (number << 3))
    over = 1
    deadline += period
    if deadline <= wheel.now:
        skipped = (wheel.now - deadline) // period + 1
        deadline += skipped * period
        over += skipped
        wheel.missed += skipped
    wheel.periodic += 1
    arm(base, number, record, deadline if deadline < LATEST else LATEST)
    return over
