"""A capture file as memory: mapped, read-only, from its first byte to its last.

A file that another program shortens while it is mapped kills the process that reads on (SIGBUS, mmap(2));
so does a disk that fails. Copy a file that is still being written before reading it, or read it through a pipe.

What cannot be mapped (a pipe, compressed data) is a :class:`wirespeed.ports.pcap.stream.CaptureStream` instead;
:func:`open_capture` looks which it is.

Measured on 300 MB in the page cache: where the cache holds the file in large folios, mapping beats read(2)
into a buffer of 64 to 256 KiB by a factor of up to two (27 ms against 37 to 50); in single pages both cost the
same, some 50 ms. Filling the page table costs the worker what the faults cost, so another thread does it
(:mod:`wirespeed.ports.pcap.ahead`); prefetching ahead by software gains nothing.
"""

import ctypes
import errno
import mmap
import os
import stat

from wirespeed.eal.mapping import advise, map_for_reading, unmap
from wirespeed.errors import CaptureError
from wirespeed.jit import register, unregister
from wirespeed.ports.pcap.ahead import WINDOW, Ahead
from wirespeed.ports.pcap.format import Layout, identify
from wirespeed.ports.pcap.packing import packing_of
from wirespeed.ports.pcap.read import FileQueue
from wirespeed.ports.pcap.stream import CaptureStream

_REMEDIES = {
    errno.ENOENT: "check the name",
    errno.EACCES: "allow this user to read it (chmod +r)",
    errno.EPERM: "allow this user to read it (chmod +r)",
    errno.ENOTDIR: "check the folders in the name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


def open_capture(path: str) -> "CaptureFile | CaptureStream":
    """The capture at ``path``, by its content, whatever it is called; ``-`` is the standard input.

    Returns when the capture's header is there, which a pipe's writer decides.

    Raises:
        CaptureError: it cannot be opened, or is not a capture of Ethernet.
    """
    fd = -1
    try:
        fd = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise CaptureError(f"{path}: is a folder, not a capture file: give the name of a file")
        packing = packing_of(os.pread(fd, 4, 0)) if stat.S_ISREG(mode) else None
        if packing == "":
            return CaptureFile(path, fd)
        theirs, fd = fd, -1
        return CaptureStream(path, theirs, packing)
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0, "read a copy on a local disk")
        raise CaptureError(f"{path}: cannot be read: {error.strerror or error}: {remedy}") from error
    finally:
        if fd >= 0:
            os.close(fd)


class CaptureFile:
    """The capture that is open as ``fd``, which may be closed then, until :meth:`close`.

    Args:
        path: for messages.

    Attributes:
        layout: how to walk it.
        fault: why it ends early, if not for what is in it.
    """

    fault = ""

    def __init__(self, path: str, fd: int) -> None:
        self._size = os.fstat(fd).st_size
        if not self._size:
            identify(path, b"")
        self._address = map_for_reading(fd, self._size)
        try:
            with memoryview((ctypes.c_char * self._size).from_address(self._address)).cast("B") as data:
                self.layout: Layout = identify(path, data)
        except CaptureError:
            unmap(self._address, self._size)
            raise
        advise(self._address, self._size, mmap.MADV_SEQUENTIAL)
        advise(self._address, self._size, mmap.MADV_WILLNEED)
        register(self._address, self._size, path)
        self._ahead: Ahead | None = None

    def attach(self, record: FileQueue) -> None:
        """Let ``record`` stand at the first packet, from the beginning or once more."""
        record.position = self.layout.first
        record.at, record.end = self._address + self.layout.first, self._address + self._size

    def read_ahead(self, record: FileQueue) -> None:
        """Fill page tables ahead of a reader, if the file is worth it."""
        if self._size > WINDOW:
            self._ahead = Ahead(self._address, self._size, lambda: int(record.position))

    def descriptors(self) -> list[int]:
        """What to wait for: nothing, all of it is there."""
        return []

    def close(self) -> None:
        """Unmap; a second call does nothing. No worker may read any more."""
        if self._address:
            if self._ahead is not None:
                self._ahead.stop()
            unregister(self._address)
            unmap(self._address, self._size)
            self._address = 0


__all__ = ["CaptureFile", "open_capture"]
