"""The two sides of a ring, and the four ways in which threads share a side.

A side, producers or consumers, has a head (moved by who begins) and a tail (moved by who has finished). The other
side goes by the tail alone. Seen from here both sides are one: a producer may move on as long as it does not
overtake ``consumers' tail + size``, a consumer as long as it does not overtake ``producers' tail``.

================  ===============================================================================================
:data:`SINGLE`    One thread. No atomic instruction; nothing is written before the end but the slots, so whoever dies
                  in between has done nothing yet, and another may take its place.
:data:`MULTI`     Any number. Begin by moving the head; finish in the order of beginning: who begins later waits.
:data:`RTS`       Relaxed tail sync: nobody waits to finish, the last of those who overlap moves the tail for all.
                  Two atomic instructions instead of one; better where threads are often preempted.
:data:`HTS`       Head-tail sync: who begins keeps the others out until it has finished. One atomic instruction,
                  a reservation can be given back in part, and a dead thread's can be undone.
================  ===============================================================================================

The schemes are those of DPDK's rte_ring (programmer's guide, "Ring Library": producer/consumer synchronization
modes), on positions of 64 bits that count elements since the beginning. With these HTS needs no word in which head
and tail change together: the exchange of the head expects the tail that was read, and a tail never comes back. RTS
does need one, (position, how many have begun or finished) in 32 bits each; it is the only mode with such words, and
:func:`distance` reads the difference of two positions from either kind.

Each side remembers the other's tail and looks again only when that says "full" or "empty" (Lee, Bu and
Chandranmenon, "A lock-free, cache-efficient multi-core synchronization mechanism for line-rate network traffic
monitoring", IPDPS 2010): between two cores most bursts then move no line but the slots. A stale tail is always on
the safe side, since it only grows; so many threads may share the memory of it, too.

Who waits for another (MULTI to finish, HTS to begin, RTS when far ahead of the tail) spins for a bounded time and
then sleeps a millisecond at a time: the other may have lost its core.

Everything takes ``mode``, both sides' kinds as :func:`mode_of` packs them. It is a constant in views and in the
functions of :mod:`wirespeed.sync.ring`, which costs nothing; a kernel for all rings passes it at run time.
"""

from wirespeed.jit import (
    cold,
    compare_exchange,
    inline,
    load64,
    load_acquire,
    load_relaxed,
    pause,
    store64,
    store_release,
)
from wirespeed.jit.libc import poll

SINGLE: int = 0
MULTI: int = 1
RTS: int = 2
HTS: int = 3

KINDS: tuple[str, ...] = ("single", "multi", "rts", "hts")
"""What the kinds are called, by number."""

PRODUCERS: int = 128
CONSUMERS: int = 256
"""Where a side's words are, from the ring's address: a pair of cache lines each."""

HEAD: int = 0
TAIL: int = 8
SEEN: int = 16  # the other side's tail as this side last saw it
AHEAD: int = 24  # RTS: how far the head may be ahead of the tail

_SPINS = 4096  # pauses before a waiting thread sleeps: some 100 us, longer than any copy takes
_LOW = 0xFFFF_FFFF


def mode_of(producers: int, consumers: int) -> int:
    """Both sides' kinds in one word."""
    return producers | consumers << 2


@inline
def kind_of(mode: int, own: int) -> int:
    """The kind of the side ``own``."""
    return mode & 3 if own == PRODUCERS else mode >> 2


@inline
def distance(ahead: int, behind: int) -> int:
    """``ahead - behind``, of positions or of RTS words, when it fits 31 bits."""
    return ((ahead - behind + 0x8000_0000) & _LOW) - 0x8000_0000


@inline
def _difference(mode: int, ahead: int, behind: int) -> int:
    if mode & 3 == RTS or mode >> 2 == RTS:
        return distance(ahead, behind)
    return ahead - behind


@inline
def spare(ring: int, mode: int, own: int, at: int, count: int) -> int:
    """Elements that the side may move on from ``at``: looks at the other side's line only if ``count`` need it."""
    room = load64(ring) if own == PRODUCERS else 0
    left = _difference(mode, load_acquire(ring + own + SEEN) + room, at)
    if left < count:
        tail = load_acquire(ring + (PRODUCERS + CONSUMERS - own) + TAIL)
        store64(ring + own + SEEN, tail)
        left = _difference(mode, tail + room, at)
    return left


@inline
def next_position(ring: int, mode: int, own: int) -> int:
    """Where the next would begin, at this moment."""
    kind = kind_of(mode, own)
    return load_acquire(ring + own + (TAIL if kind in (SINGLE, HTS) else HEAD))


@inline
def _wait(spins: int) -> int:
    if spins < _SPINS:
        pause()
    else:
        poll(0, 0, 1)  # the one we wait for lost its core: leave it ours
    return spins + 1


@cold
def _await_tail(tail: int, at: int) -> None:
    """Wait until those who began before ``at`` have finished."""
    spins = 0
    while load_acquire(tail) != at:
        spins = _wait(spins)


@inline
def begin(ring: int, mode: int, own: int, count: int) -> int:
    """Where the next ``count`` elements of this side are; -1 if there are not so many, or ``count`` is below 1.

    A head read too early makes the room look too big, even bigger than the ring; the exchange then fails.
    """
    kind = kind_of(mode, own)
    head = ring + own + HEAD
    tail = ring + own + TAIL
    if count < 1:
        return -1
    if kind == SINGLE:
        at = load64(tail)
        return at if spare(ring, mode, own, at, count) >= count else -1
    if kind == RTS:
        return _begin_rts(ring, mode, own, count)
    if kind == HTS:
        return _begin_hts(ring, mode, own, count)
    while True:
        at = load_acquire(head)
        if spare(ring, mode, own, at, count) < count:
            return -1
        if compare_exchange(head, at, at + count):
            return at
        pause()


@inline
def _begin_hts(ring: int, mode: int, own: int, count: int) -> int:
    """The exchange succeeds only if the head is the tail that was read, and nobody is inside."""
    spins = 0
    while True:
        at = load_acquire(ring + own + TAIL)
        if spare(ring, mode, own, at, count) < count:
            return -1
        if load_relaxed(ring + own + HEAD) == at and compare_exchange(ring + own + HEAD, at, at + count):
            return at
        spins = _wait(spins)


@inline
def _begin_rts(ring: int, mode: int, own: int, count: int) -> int:
    """One more has begun: the count in the high half says so."""
    spins = 0
    while True:
        word = load_acquire(ring + own + HEAD)
        if distance(word, load_acquire(ring + own + TAIL)) <= load64(ring + own + AHEAD):
            at = word & _LOW
            if spare(ring, mode, own, at, count) < count:
                return -1
            if compare_exchange(ring + own + HEAD, word, ((word >> 32) + 1) << 32 | ((at + count) & _LOW)):
                return at
        spins = _wait(spins)


@inline
def finish(ring: int, mode: int, own: int, at: int, count: int) -> None:
    """Show the other side the ``count`` elements from ``at``, all that :func:`begin` gave."""
    kind = kind_of(mode, own)
    tail = ring + own + TAIL
    if kind == RTS:
        _finish_rts(ring, own)
    else:
        if kind == MULTI and load_acquire(tail) != at:
            _await_tail(tail, at)
        if kind == SINGLE:
            store64(ring + own + HEAD, at + count)  # so that many may take over later
        store_release(tail, at + count)


@inline
def _finish_rts(ring: int, own: int) -> None:
    """One more has finished; the last of all that have begun moves the position to the head."""
    while True:
        word = load_acquire(ring + own + TAIL)
        head = load_acquire(ring + own + HEAD)
        finished = (word >> 32) + 1
        position = head if (finished ^ (head >> 32)) & _LOW == 0 else word
        if compare_exchange(ring + own + TAIL, word, finished << 32 | (position & _LOW)):
            return
        pause()


@inline
def finish_some(ring: int, mode: int, own: int, at: int, count: int) -> None:
    """:func:`finish` where ``count`` may be fewer than were reserved, of SINGLE and HTS; the rest is given back.

    HTS: the head goes first, it keeps the others out until the tail is the same; with nothing to show it lets them
    in by itself, and the tail is theirs.
    """
    if kind_of(mode, own) == HTS:
        store_release(ring + own + HEAD, at + count)
        if count == 0:
            return
    finish(ring, mode, own, at, count)
