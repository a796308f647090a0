"""Filing timers in slots, and finding the slot that is next.

G. Varghese and T. Lauck, "Hashed and hierarchical timing wheels", SOSP 1987, scheme 7, with three changes:

*Levels by the differing digit* instead of by the distance. All slots that hold something are then ahead of the
position, in the order of their numbers, so the next one is two bit scans away and empty time costs nothing.

*Chunks of numbers* instead of a list through the timers. The timers of a slot are known before they are touched,
so their lines are all on their way at once; a list would wait for each before it knows the next. Taking a timer out
touches its chunk and the timer that takes its place, never two neighbours, and filing one touches no other timer.

*Nothing is moved that need not be*. ``place`` and ``filed`` say where a timer stands; a deadline that is later than
that is only written down, and the timer goes on to its new slot when the old one comes.

Positions are never behind what was emptied: a slot is taken off chunk by chunk, so the work can stop anywhere.
"""

from wirespeed.jit import add, cold, inline, leading_zeros, load32, load64, prefetch, store32, store64, trailing_zeros
from wirespeed.timers.layout import (
    BITMAP,
    CHUNK_BITS,
    CHUNK_TIMERS,
    FAR,
    FULL,
    NEVER,
    RECORD_BITS,
    RECORDS,
    SLOTS,
    Record,
    Wheel,
)

_FILED: int = Record.filed.offset
_PLACE: int = Record.place.offset


@inline
def _bit(slot: int) -> int:
    """The slot's bit in its word of the bitmap, as int64."""
    return add(1 << (slot & 63), 0)


@inline
def record_of(base: int, number: int) -> int:
    """Address of a timer's record."""
    return base + RECORDS + (number << RECORD_BITS)


@cold
def _begin_chunk(base: int, slot: int, head: int) -> int:
    """Put an empty chunk before chunk ``head`` of a slot (0: the slot is empty); its number."""
    wheel = Wheel(base)
    number = wheel.free_chunk
    chunk = base + wheel.chunks + (number << CHUNK_BITS)
    following = load32(chunk)
    wheel.free_chunk = following
    prefetch(base + wheel.chunks + (following << CHUNK_BITS))  # 14 timers from now it is needed
    store32(chunk, head)
    store32(chunk + 4, slot << 4)
    store32(base + SLOTS + (slot << 2), number)
    if head == 0:
        word = base + BITMAP + ((slot >> 6) << 3)
        store64(word, load64(word) | _bit(slot))
        wheel.summary |= 1 << (slot >> 6)
    return number


@inline
def release_chunk(base: int, number: int) -> None:
    """Nobody uses this chunk any more."""
    wheel = Wheel(base)
    store32(base + wheel.chunks + (number << CHUNK_BITS), wheel.free_chunk)
    wheel.free_chunk = number


@inline
def _unlink(base: int, slot: int, chunk: int) -> None:
    """Take the chunk at address ``chunk`` from the front of its slot."""
    following = load32(chunk)
    store32(base + SLOTS + (slot << 2), following)
    if following == 0:
        wheel = Wheel(base)
        word = base + BITMAP + ((slot >> 6) << 3)
        left = load64(word) & ~_bit(slot)
        store64(word, left)
        if left == 0:
            wheel.summary &= ~(1 << (slot >> 6))


@inline
def file(base: int, number: int, record: int, tick: int) -> None:
    """Put a timer that is in no slot in the one for ``tick``."""
    wheel = Wheel(base)
    position = wheel.position
    ahead = tick - position
    if ahead < 1:
        tick = position + 1
    if ahead > FAR:
        tick = position + FAR
    digit = (63 - leading_zeros(tick ^ position)) & ~7
    above = tick >> digit
    slot = (digit << 5) + (above & 255)
    chunks = base + wheel.chunks
    head = load32(base + SLOTS + (slot << 2))
    held = load32(chunks + (head << CHUNK_BITS) + 4)  # chunk 0 says that it is full
    if held & 15 == FULL:
        head = _begin_chunk(base, slot, head)
        held = slot << 4
    place = (head << 4) + 2 + (held & 15)
    store32(chunks + (place << 2), number)
    store32(chunks + (head << CHUNK_BITS) + 4, held + 1)
    store32(record + _FILED, tick)
    store32(record + _PLACE, place)
    event = above << digit
    if event < wheel.next:
        wheel.next = event


@inline
def unfile(base: int, record: int, place: int) -> None:
    """Take a timer out of its slot; the last of the slot's first chunk takes its place there."""
    wheel = Wheel(base)
    chunks = base + wheel.chunks
    slot = load32(chunks + ((place >> 4) << CHUNK_BITS) + 4) >> 4
    head = load32(base + SLOTS + (slot << 2))
    first = chunks + (head << CHUNK_BITS)
    held = load32(first + 4)
    last = load32(first + 4 + ((held & 15) << 2))
    store32(chunks + (place << 2), last)
    store32(record_of(base, last) + _PLACE, place)
    store32(first + 4, held - 1)
    store32(record + _PLACE, 0)  # after the line above: it may have been the last itself
    if held & 15 == 1:
        _unlink(base, slot, first)
        release_chunk(base, head)


@inline
def filed_tick(position: int, filed: int) -> int:
    """The whole of a tick of which ``filed`` are the low 32 bits: it is less than 2^31 from the position."""
    return position + ((((filed - position) & 0xFFFF_FFFF) ^ 0x8000_0000) - 0x8000_0000)


@cold
def take_chunk(base: int, tick: int) -> int:
    """Take a chunk off the first slot that begins by ``tick``; its number, or 0 if there is none.

    Its timers are in no slot then. The position follows the slots, and reaches ``tick`` when nothing is left to do
    until then. A slot is emptied before another is looked for, since what was in it may by then be filed in lower
    slots that come after ``tick``; nothing new can come into it, for its digit is the position's.
    """
    wheel = Wheel(base)
    slot = wheel.draining
    if slot < 0 or load32(base + SLOTS + (slot << 2)) == 0:
        position = wheel.position
        event = NEVER
        if wheel.summary != 0:
            word = trailing_zeros(wheel.summary)
            slot = (word << 6) + trailing_zeros(load64(base + BITMAP + (word << 3)))
            digit = (slot >> 8) << 3
            event = ((position >> (digit + 8)) << (digit + 8)) | ((slot & 255) << digit)
        wheel.next = event
        if event > tick:
            wheel.position = tick
            wheel.draining = -1
            return 0
        if event > position:
            wheel.position = event
        wheel.draining = slot
    chunks = base + wheel.chunks
    number = load32(base + SLOTS + (slot << 2))
    chunk = chunks + (number << CHUNK_BITS)
    following = load32(chunk)
    if following != 0:  # its timers are needed next, and then those of the one behind it
        after = chunks + (following << CHUNK_BITS)
        prefetch(chunks + (load32(after) << CHUNK_BITS))
        for at in range(after + 8, after + 8 + (CHUNK_TIMERS << 2), 4):
            prefetch(record_of(base, load32(at)))
    _unlink(base, slot, chunk)
    end = chunk + 8 + ((load32(chunk + 4) & 15) << 2)
    for at in range(chunk + 8, end, 4):
        store32(record_of(base, load32(at)) + _PLACE, 0)
    return number
