"""How a worker that receives from memif rings goes to sleep and is woken.

Before it blocks it takes the ring's mask off: from then on the peer signals the ring's eventfd. Then it looks once
more, for what came in between. A peer whose store of the index is still on its way out of its core when it reads the
mask would not signal and not be seen either; the protocol has no fence there, so the last look comes after some
microseconds, by when every store is out.

The eventfd is never read: it stands, edge-triggered, in an epoll descriptor of ours, which is what the worker blocks
on. Whoever passed us something that is no eventfd, or makes it blocking, cannot hold a worker that way.
"""

from wirespeed.jit import cold, fence, inline, pause, store16
from wirespeed.jit.libc import epoll_wait
from wirespeed.ports.memif.ring import MASK_INTERRUPT, PIECES_AT, MemifQueue, look

_SETTLE = 64  # pauses: two microseconds or so
_EVENTS = 4  # more than stand in the epoll descriptor; the pieces of a packet are not needed meanwhile


@inline
def arm(queue, on):  # type: ignore[no-untyped-def]
    """See :mod:`wirespeed.ports.queue`."""
    return _arm(queue, on)


@cold
def _arm(queue, on):  # type: ignore[no-untyped-def]
    record = MemifQueue(queue)
    if on == 0:
        if record.live != 0:
            store16(record.flags, MASK_INTERRUPT)
        epoll_wait(record.epoll, queue + PIECES_AT, _EVENTS, 0)
        return 0
    if record.live == 0:
        return 0
    store16(record.flags, 0)
    fence()
    for _ in range(_SETTLE):
        pause()
    return 1 if record.limit != record.position or look(record) != 0 or record.hungry != 0 else 0


__all__ = ["arm"]
