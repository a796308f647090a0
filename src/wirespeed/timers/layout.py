"""The memory of one wheel: records of timers, and the slots that say when to look at them.

::

    offset       bytes          who writes   what
    0            448            see below    record (:class:`Wheel`)
    448          224            the worker   bitmap: which slots hold something, 256 bits a level
    1024         7 Ki           the worker   slots: number of the chunk that begins each, 0 is an empty slot
    8 Ki         33 Ki          others       ring of commands (wirespeed.sync.ring)
    RECORDS      32 * timers    the worker   timers: deadline, word, state (:class:`Record`)
    periods      8 * timers     the worker   periods, of those that have one
    words        8 * extra      the worker   words beyond the first, if asked for
    chunks       64 * chunks    the worker   what the slots hold: 14 timers a chunk

    chunk   0 next chunk of the slot   4 slot << 4 | timers in it   8 numbers of 14 timers, 4 bytes each

Only the first chunk of a slot may be partly filled, so ``timers / 14`` chunks and one for each slot are enough,
whatever happens. With them a timer takes 32 + 8 + 4.6 bytes.

Time is nanoseconds; a *tick* is ``2^shift`` of them. A slot of level L covers 256^L ticks. Its number is digit L
(base 256) of its ticks, and a timer goes to the level of the highest digit in which its tick differs from the
wheel's position: so all slots that hold something lie ahead of the position, lower levels before higher ones, and
the first bit of the bitmap is the next thing to do (:mod:`wirespeed.timers.slots`).
"""

from wirespeed.jit import View, le32, le64
from wirespeed.sync.ring import RingView

LEVELS: int = 7
"""256^7 ticks of at least 64 ns: more than :data:`LATEST`."""
SLOTS_A_LEVEL: int = 256
LATEST: int = (1 << 62) - 1
"""The last nanosecond there is; later deadlines are brought back to it (146 years)."""
NEVER: int = 1 << 62
"""The deadline of a timer that is not armed."""
FAR: int = (1 << 31) - 1
"""Ticks ahead that a timer is filed at most; one that is later is filed again when its slot comes."""

BITMAP: int = 448
SLOTS: int = 1024
COMMANDS: int = 8192
COMMANDS_IN_RING: int = 1024
COMMAND_WORDS: int = 4
RECORDS: int = COMMANDS + -(-RingView.bytes_needed(COMMANDS_IN_RING * COMMAND_WORDS) // 4096) * 4096

RECORD_BITS: int = 5
CHUNK_BITS: int = 6
CHUNK_TIMERS: int = 14
FULL: int = CHUNK_TIMERS  # in the low 4 bits of a chunk's second word

GENERATION_SHIFT: int = 8  # in Record.state, and 32 in a handle
WORKER_SHIFT: int = 24  # above the 24 bits of a generation
NUMBER_MASK: int = 0x7F
PERIODIC: int = 0x80


class Record(View):
    """One timer. Its number and generation make its handle; an odd generation is in use."""

    deadline = le64(0, "ns; NEVER while it is not armed")
    word = le64(8, "the user's; while the timer is not in use, the next such timer")
    filed = le32(16, "low bits of the tick that its slot was chosen for")
    place = le32(20, "where its number stands, in 32-bit words of the chunks; 0 while it is in no slot")
    state = le32(24, "generation << 8 | PERIODIC | number of its callback")
    SIZE = 1 << RECORD_BITS


class Wheel(View):
    """The head of a wheel. A line each: never written; the wheel; the clock and the counters; others'."""

    timers = le64(0, "timers there are: capacity + reserve")
    capacity = le64(8, "timers the worker may add")
    shift = le64(16, "log2 of the nanoseconds of a tick")
    periods = le64(24, "offset of the periods")
    words = le64(32, "offset of the words beyond the first")
    extra = le64(40, "words beyond the first")
    chunks = le64(48, "offset of the chunks")
    tag = le64(56, "number of its worker << WORKER_SHIFT: handles bear it")

    now = le64(64, "ns: the time it was told last")
    position = le64(72, "tick up to which slots were emptied")
    next = le64(80, "tick at which a slot is to be emptied next; never after it")
    summary = le64(88, "which words of the bitmap are not zero")
    free_chunk = le64(96, "first chunk nobody uses")
    free_timer = le64(104, "first timer that was used and given back, or -1")
    fresh = le64(112, "timers below this one were used")
    used = le64(120, "timers of the worker in use")

    started = le64(128, "times a timer was armed")
    restarted = le64(136, "times an armed timer got another deadline")
    stopped = le64(144, "times an armed timer was stopped")
    expired = le64(152, "one-shot timers that expired")
    periodic = le64(160, "times a periodic timer expired")
    late = le64(168, "expired more than a tick after their deadline")
    missed = le64(176, "periods that a stalled worker skipped")
    stale = le64(184, "operations on a handle whose timer is gone")
    refused_add = le64(192, "timers refused because all are in use")
    refused_command = le64(200, "commands from this worker refused because the other's ring was full")
    draining = le64(216, "slot that is being emptied, or -1")
    moved = le64(208, "timers moved to an earlier slot")

    anchor_cycles = le64(256, "cycle counter at anchor_ns")
    anchor_ns = le64(264)
    whole = le64(272, "whole nanoseconds of a cycle")
    fraction = le64(280, "and the rest, in 2^-64 ns")
    taken = le64(288, "four words: the command being obeyed")

    asleep = le64(320, "1 while the worker blocks")
    wakeup = le64(328, "eventfd that rouses it, or -1")
    one = le64(336, "the word 1, to write there")
    stride = le64(344, "bytes from one worker's wheel to the next")
    workers = le64(352, "wheels there are")
    posted = le64(360, "four words: the command being posted by this worker")

    control = le64(408, "four words: the command being posted by control code")
    SIZE = BITMAP


__all__ = ["FAR", "LATEST", "LEVELS", "NEVER", "RECORDS", "Record", "Wheel"]
