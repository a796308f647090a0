"""A stream: bytes from one thread to another, through a ring that is mapped twice in a row.

One side is a worker, the other a thread of control code, whichever way the bytes go. A piece that runs over the end
of the ring goes on at its beginning because that is what is mapped there, so whoever lays out or walks records needs
no second piece::

    0        head (:class:`StreamView`), one page
    4096     the ring, ``size`` bytes
    + size   the same bytes once more

Positions count bytes since the beginning. The producer publishes with a release store what it has laid out, the
consumer what it has done with; each remembers what it last saw of the other, so that a burst costs no cache miss
while there is room. Nobody waits here: who finds no room drops or comes again.
"""

import ctypes
import os

from wirespeed.eal.mapping import MADV_POPULATE_WRITE, NORMAL_PAGE, advise, map_twice, unmap
from wirespeed.errors import ArenaError
from wirespeed.jit import View, inline, le64, load_acquire, register, store_release, unregister


class StreamView(View):
    """The head of a stream; the ring follows at :attr:`SIZE`."""

    produced = le64(0, "bytes ever put in; the producer's")
    consumed_seen = le64(8, "`consumed` as the producer last saw it")
    consumed = le64(128, "bytes ever taken out; the consumer's")
    produced_seen = le64(136, "`produced` as the consumer last saw it")
    asleep = le64(256, "1 while the consumer wants to be woken")
    over = le64(384, "1 once nothing more will be put in")
    size = le64(512, "bytes of the ring, a power of two")
    SIZE = 4096


_CONSUMED: int = StreamView.consumed.offset
_ASLEEP: int = StreamView.asleep.offset
_OVER: int = StreamView.over.offset


@inline
def place_of(stream: int, position: int) -> int:
    """Address of the byte at ``position``; the ring's size from there on is in one piece."""
    return stream + 4096 + (position & (StreamView(stream).size - 1))


@inline
def produced(stream: int) -> int:
    """How far the producer is; what it laid out before is there to be read."""
    return load_acquire(stream)


@inline
def consumed(stream: int) -> int:
    """How far the consumer is; what lies before may be written over."""
    return load_acquire(stream + _CONSUMED)


@inline
def produce(stream: int, position: int) -> None:
    """Everything before ``position`` is laid out."""
    store_release(stream, position)


@inline
def consume(stream: int, position: int) -> None:
    """Everything before ``position`` is done with."""
    store_release(stream + _CONSUMED, position)


@inline
def is_over(stream: int) -> bool:
    """Whether nothing more will be put in. Ask before :func:`produced`: what it then says is the end."""
    return load_acquire(stream + _OVER) != 0


@inline
def wants_waking(stream: int) -> bool:
    """Whether the consumer said that it sleeps."""
    return load_acquire(stream + _ASLEEP) != 0


@inline
def set_asleep(stream: int, asleep: int) -> None:
    """The consumer sleeps (1), or has been woken (0)."""
    store_release(stream + _ASLEEP, asleep)


class Stream:
    """The memory of a stream.

    Args:
        size: bytes of the ring, a power of two and at least a page.
        name: shown in /proc/self/maps.

    Attributes:
        address: of the head.
        view: the head.

    Raises:
        ArenaError: there is not that much memory, or ``size`` is no power of two.
    """

    def __init__(self, size: int, name: str) -> None:
        if size < NORMAL_PAGE or size & (size - 1):
            raise ArenaError(f"a stream of {size} bytes is not possible: use a power of two from {NORMAL_PAGE} on")
        self.size = size
        fd = os.memfd_create(name, os.MFD_CLOEXEC)
        try:
            os.ftruncate(fd, StreamView.SIZE + size)
            self.address = map_twice(fd, StreamView.SIZE, size)
        except OSError as error:
            raise ArenaError(f"no memory for a stream of {size} bytes: {error.strerror}: ask for less") from error
        finally:
            os.close(fd)
        self._bytes = StreamView.SIZE + 2 * size
        self._populated = 0
        register(self.address, self._bytes, name)
        self.view = StreamView(self.address)
        self.view.size = size

    def populate(self, step: int = 1 << 20) -> bool:
        """Take the pages of the next ``step`` bytes, so that the first lap does not pay for them; False: all taken.

        Any thread may, also while the stream is used.
        """
        size = min(step, self.size - self._populated)
        if size:
            advise(place_of(self.address, self._populated), size, MADV_POPULATE_WRITE)
            self._populated += size
        return size > 0

    def between(self, start: int, end: int) -> memoryview:
        """The bytes from position ``start`` to ``end``, which are within one ring's size; writable."""
        at = place_of(self.address, start)
        return memoryview((ctypes.c_char * (end - start)).from_address(at)).cast("B")

    def close(self) -> None:
        """Unmap; a second call does nothing. No thread may use the memory any more."""
        if self.address:
            unregister(self.address)
            unmap(self.address, self._bytes)
            self.address = 0


__all__ = [
    "Stream",
    "StreamView",
    "consume",
    "consumed",
    "is_over",
    "place_of",
    "produce",
    "produced",
    "set_asleep",
    "wants_waking",
]
