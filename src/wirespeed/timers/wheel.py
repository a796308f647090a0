"""What a worker does with its wheel: the operations of nodes, and the walk over what is due.

A handle is ``worker << 56 | generation << 32 | number``. Its upper half is compared with the record's before
anything else, so a handle of a timer that was removed, and whose record another one has now, does nothing.

The walk takes a chunk at a time (:meth:`TimersView.due`), looks at each of its timers
(:meth:`TimersView.take`), which either expires or is filed where it belongs by now, and gives the chunk back
(:meth:`TimersView.done`). A chunk's timers are in no slot meanwhile, so callbacks may start, stop and remove
whatever they like, themselves included.
"""

from typing import Any

from wirespeed.jit import cold, load32, load64, prefetch, store64
from wirespeed.sync.ring import RingView
from wirespeed.timers.clock import told
from wirespeed.timers.commands import REMOVE, START, STOP, obey, post
from wirespeed.timers.layout import CHUNK_BITS, COMMANDS, NEVER, NUMBER_MASK, PERIODIC, WORKER_SHIFT, Record, Wheel
from wirespeed.timers.records import (
    add_timer,
    find,
    handle_of,
    next_period,
    remove_timer,
    rest,
    start_timer,
    stop_timer,
)
from wirespeed.timers.slots import record_of, release_chunk, take_chunk

_PLACE: int = Record.place.offset
_STATE: int = Record.state.offset
_POSTED: int = Wheel.posted.offset
_ENTRIES = 8


@cold
def _send(base: int, what: int, handle: int, delay_ns: int, period_ns: int) -> int:
    """An operation on a handle that is not this wheel's: another worker's, or stale."""
    wheel = Wheel(base)
    mine = wheel.tag >> WORKER_SHIFT
    worker = (handle >> 56) & 0x7F
    if worker == mine or worker >= wheel.workers or handle < 0:
        wheel.stale += 1
        return 0
    there = base + (worker - mine) * wheel.stride
    if post(there, base + _POSTED, what, handle, delay_ns, period_ns) == 0:
        wheel.refused_command += 1
        return 0
    return 1


class TimersView(Wheel):
    """The worker's side of :class:`~wirespeed.timers.timers.Timers`: each operation, inlined."""

    SIZE = Wheel.SIZE

    # What nodes and callbacks do --------------------------------------------------------------------------

    def add(self, callback: int, word: int = 0) -> int:
        """A timer that will call ``callback``; its handle, or -1 if all are in use (counted). Not yet armed."""
        return add_timer(self.address, callback, word)

    def start(self, handle: int, delay_ns: int, period_ns: int = 0) -> int:
        """Arm the timer, or give it a new deadline: ``delay_ns`` after now, then each ``period_ns`` if not 0.

        1, or 0 if the timer is gone. Another worker's timer is started there a moment later.
        """
        base = self.address
        period = period_ns | 0  # one type, given or left out: what is called is compiled once
        record = find(base, handle)
        if record == 0:
            return _send(base, START, handle, delay_ns, period)
        start_timer(base, record, handle & 0xFFFF_FFFF, delay_ns, period)
        return 1

    def stop(self, handle: int) -> int:
        """Disarm the timer: 1 if it was armed (or is another worker's), else 0."""
        record = find(self.address, handle)
        if record == 0:
            return _send(self.address, STOP, handle, 0, 0)
        return stop_timer(self.address, record)

    def remove(self, handle: int) -> int:
        """Stop the timer and give it back; its handle means nothing from here on. 1, or 0 if it was gone."""
        if find(self.address, handle) == 0:
            return _send(self.address, REMOVE, handle, 0, 0)
        return remove_timer(self.address, handle)

    def is_armed(self, handle: int) -> int:
        """1 if the timer is this worker's, not gone, and armed."""
        record = find(self.address, handle)
        if record == 0:
            return 0
        return 1 if load64(record) != NEVER else 0

    def armed(self) -> int:
        """How many timers of this worker are armed."""
        return self.started - self.stopped - self.expired

    def prefetch(self, handle: int) -> None:
        """Ask for the line of a timer that is to be started or stopped soon."""
        prefetch(record_of(self.address, handle & 0xFFFF_FFFF))

    def more(self, handle: int, which: int) -> int:
        """Word ``which`` (1 and up) of a timer made with more than one; 0 if there is none."""
        at = self._more_at(handle, which)
        return load64(at) if at != 0 else 0

    def set_more(self, handle: int, which: int, value: int) -> int:
        """Set word ``which`` (1 and up); 1, or 0 if there is none."""
        at = self._more_at(handle, which)
        if at == 0:
            return 0
        store64(at, value)
        return 1

    def _more_at(self, handle: int, which: int) -> int:
        if which < 1 or which > self.extra or find(self.address, handle) == 0:
            return 0
        return self.address + self.words + (((handle & 0xFFFF_FFFF) * self.extra + which - 1) << 3)

    # The walk ---------------------------------------------------------------------------------------------

    def tell(self, cycles: int) -> None:
        """The time, as the cycle counter has it. The worker's loop says it once a turn."""
        self.advance(told(self.address, cycles))

    def advance(self, now_ns: int) -> None:
        """The time. It never goes back."""
        if now_ns > self.now:
            self.now = now_ns

    def begin(self) -> None:
        """Before a walk: do what others commanded."""
        if RingView(self.address + COMMANDS).count != 0:
            obey(self.address)

    def ready(self) -> int:
        """1 if :meth:`due` may give something: for most turns of a loop all there is to do."""
        tick = self.now >> self.shift
        if tick < self.next:
            self.position = tick
            return 0
        return 1

    def due(self) -> int:
        """The address of a chunk of timers to look at, or 0 when none is due.

        Each of its :meth:`size` timers is then given to :meth:`take`, and at last the chunk to :meth:`done`.
        """
        if self.ready() == 0:
            return 0
        number = take_chunk(self.address, self.now >> self.shift)
        return self.address + self.chunks + (number << CHUNK_BITS) if number != 0 else 0

    def size(self, chunk: int) -> int:
        """How many timers a chunk has."""
        return load32(chunk + 4) & 15

    def take(self, chunk: int, index: int, timer: Any) -> int:
        """Look at timer ``index`` of a chunk: 1 if it expired, ``timer`` then says which; else it is filed anew."""
        base = self.address
        number = load32(chunk + _ENTRIES + (index << 2))
        record = record_of(base, number)
        if load32(record + _PLACE) != 0:
            return 0  # a callback has started it anew
        deadline = load64(record)
        now = self.now
        if deadline > now:
            if deadline != NEVER:
                rest(base, number, record, deadline)
            return 0
        state = load32(record + _STATE)
        timer.number = state & NUMBER_MASK
        timer.handle = handle_of(base, number, state)
        timer.word = load64(record + 8)
        timer.now = now
        timer.deadline = deadline
        timer.periods = 1
        if (now - deadline) >> self.shift != 0:
            self.late += 1
        if state & PERIODIC:
            timer.periods = next_period(base, number, record, deadline)
        else:
            store64(record, NEVER)
            self.expired += 1
        return 1

    def done(self, chunk: int) -> None:
        """All timers of this chunk were looked at."""
        release_chunk(self.address, (chunk - self.address - self.chunks) >> CHUNK_BITS)

    def sleep_ns(self, most_ns: int) -> int:
        """How long the worker may block before something is due, at most ``most_ns``; 0: not at all."""
        if RingView(self.address + COMMANDS).count != 0:
            return 0
        left = (self.next << self.shift) - self.now if self.next < NEVER >> self.shift else most_ns
        return max(min(left, most_ns), 0)
