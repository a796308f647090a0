"""Many reads or writes in one system call: an io_uring whose operations all end before the call returns.

For devices that have no call for several packets (a TAP). Operations are asked for with RWF_NOWAIT, so none waits and
none outlives its call; the answers stand in the order of the questions. Nothing here polls and no thread of the kernel
is involved: it saves the way in and out of the kernel, which costs as much as a third of a small packet.

References: io_uring(7), io_uring_setup(2), io_uring_enter(2); include/uapi/linux/io_uring.h.
"""

import ctypes
import errno
import os
import struct

from wirespeed.eal.mapping import map_file_at, unmap
from wirespeed.jit import (
    View,
    cold,
    inline,
    le32,
    le64,
    load32,
    load_acquire32,
    register,
    store32,
    store64,
    store_release32,
    unregister,
)
from wirespeed.jit.libc import syscall

WRITEV, READ, WRITE = 2, 22, 23
"""IORING_OP_*."""

_SETUP, _ENTER = 425, 426
_RINGS, _ENTRIES = 0, 0x1000_0000  # IORING_OFF_SQ_RING, IORING_OFF_SQES
_SINGLE_MMAP = 1
_NO_WAIT = 8  # RWF_NOWAIT
_GET_EVENTS = 1  # IORING_ENTER_GETEVENTS
_ENTRY, _ANSWER = 64, 16

_libc = ctypes.CDLL(None, use_errno=True)


class Uring(View):
    """What the packet path knows of one."""

    fd = le64(0)
    tail = le64(8, "address of the submission ring's tail")
    answered = le64(16, "address of the completion ring's tail")
    seen = le64(24, "address of the completion ring's head")
    entries = le64(32, "the first submission")
    answers = le64(40, "the first completion")
    mask = le64(48, "of a submission's number")
    answer_mask = le64(56, "of a completion's number")
    SIZE = 64


class Entry(View):
    """struct io_uring_sqe."""

    operation = le32(0, "the operation; flags and priority are 0")
    fd = le32(4)
    offset = le64(8)
    place = le64(16, "address of the buffer")
    size = le32(24)
    flags = le32(28)
    label = le64(32, "comes back with the answer")
    SIZE = _ENTRY


@inline
def ask(uring, number, operation, fd, place, size):  # type: ignore[no-untyped-def]
    """Write down operation ``number`` (from 0) of the next :func:`enter`; for WRITEV ``size`` is of the vector."""
    ring = Uring(uring)
    entry = Entry(ring.entries + ((load32(ring.tail) + number) & ring.mask) * _ENTRY)
    entry.operation = operation
    entry.fd = fd
    entry.offset = 0
    entry.place = place
    entry.size = size
    entry.flags = _NO_WAIT
    entry.label = number


@cold
def enter(uring, count, results):  # type: ignore[no-untyped-def]
    """Carry out the ``count`` operations written down.

    Args:
        results: where to put what each returned, 8 bytes each: as the system call does, or the negative errno.

    Returns:
        How many were carried out, from the front: all, unless the kernel has no memory.
    """
    ring = Uring(uring)
    head = load32(ring.seen)
    store_release32(ring.tail, load32(ring.tail) + count)
    got = 0
    left = count
    while got < count:
        done = syscall(_ENTER, ring.fd, left, left if left else count - got, _GET_EVENTS, 0, 0)
        if done < 0:
            break
        left -= done
        while got < count and load_acquire32(ring.answered) != head & 0xFFFF_FFFF:
            answer = ring.answers + (head & ring.answer_mask) * _ANSWER
            number, result = load32(answer), load32(answer + 8)
            if number < count:
                store64(results + (number << 3), (result ^ 0x8000_0000) - 0x8000_0000)
            head += 1
            got += 1
    if left:
        store32(ring.tail, load32(ring.tail) - left)
    store_release32(ring.seen, head)
    return got


class Made:
    """An io_uring for up to ``count`` operations at once, whose :class:`Uring` is laid out at ``record``.

    Raises:
        OSError: the kernel has none, or does not allow it.
    """

    def __init__(self, count: int, record: int) -> None:
        parameters = ctypes.create_string_buffer(120)
        self.fd = int(_libc.syscall(ctypes.c_long(_SETUP), ctypes.c_uint(count), parameters))
        if self.fd < 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code))
        self._maps: list[tuple[int, int]] = []
        try:
            self._lay_out(parameters.raw, record)
        except BaseException:
            self.close()
            raise

    def _lay_out(self, parameters: bytes, record: int) -> None:
        entries, answers, _, _, _, features = struct.unpack_from("=6I", parameters)
        _, tail, mask, _, _, _, array = struct.unpack_from("=7I", parameters, 40)
        seen, answered, answer_mask, _, _, first = struct.unpack_from("=6I", parameters, 80)
        if not features & _SINGLE_MMAP:
            raise OSError(errno.ENOSYS, "an io_uring of Linux before 5.4")
        rings = self._map(max(array + entries * 4, first + answers * _ANSWER), _RINGS)
        for number in range(entries):
            store32(rings + array + number * 4, number)
        ring = Uring(record)
        ring.fd, ring.tail, ring.answered, ring.seen = self.fd, rings + tail, rings + answered, rings + seen
        ring.entries, ring.answers = self._map(entries * _ENTRY, _ENTRIES), rings + first
        ring.mask, ring.answer_mask = load32(rings + mask), load32(rings + answer_mask)

    def _map(self, size: int, offset: int) -> int:
        address = map_file_at(self.fd, size, offset)
        register(address, size, "io_uring")
        self._maps.append((address, size))
        return address

    def close(self) -> None:
        """Unmap and close; a second call does nothing."""
        for address, size in self._maps:
            unregister(address)
            unmap(address, size)
        self._maps = []
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


__all__ = ["READ", "WRITE", "WRITEV", "Entry", "Made", "Uring", "ask", "enter"]
