"""A capture file as memory: mapped, read-only, from its first byte to its last.

A file that another program shortens while it is mapped kills the process that reads on (SIGBUS, mmap(2));
so does a disk that fails. Copy a file that is still being written before reading it.

Measured on 300 MB in the page cache: where the cache holds the file in large folios, mapping beats read(2)
into a buffer of 64 to 256 KiB by a factor of up to two (27 ms against 37 to 50); in single pages both cost the
same, some 50 ms. Filling the page table costs the worker what the faults cost, so another thread does it
(:mod:`wirespeed.ports.pcap_ahead`); prefetching ahead by software gains nothing.
"""

import ctypes
import errno
import mmap
import os
import stat
from collections.abc import Callable

from wirespeed.eal.mapping import advise, map_for_reading, unmap
from wirespeed.errors import CaptureError
from wirespeed.jit import register, unregister
from wirespeed.ports.pcap_ahead import WINDOW, Ahead
from wirespeed.ports.pcap_format import GZIP_MAGIC, Layout, identify
from wirespeed.ports.pcap_gzip import Unpacked

_REMEDIES = {
    errno.ENOENT: "check the name",
    errno.EACCES: "allow this user to read it (chmod +r)",
    errno.EPERM: "allow this user to read it (chmod +r)",
    errno.ENOTDIR: "check the folders in the name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}


class CaptureFile:
    """The capture at ``path``, decompressed if need be, until :meth:`close`.

    Args:
        path: pcap or pcapng, perhaps in gzip (by its content, whatever it is called).
        limit: the most bytes it may become when decompressed; -1: any.

    Attributes:
        layout: how to walk it.
        address, size: where it is mapped.
        fault: why it ends early, if decompressing says so.

    Raises:
        CaptureError: it cannot be opened, or is not a capture of Ethernet.
    """

    def __init__(self, path: str, limit: int = -1) -> None:
        self.fault = ""
        self.address = 0
        try:
            fd = self._open(path, limit)
            try:
                self.size = os.fstat(fd).st_size
                if not self.size:
                    if self.fault:
                        raise CaptureError(f"{path}: {self.fault}: compress it again")
                    identify(path, b"")
                self.address = map_for_reading(fd, self.size)
            finally:
                os.close(fd)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "read a copy on a local disk")
            raise CaptureError(f"{path}: cannot be read: {error.strerror or error}: {remedy}") from error
        try:
            with memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B") as data:
                self.layout: Layout = identify(path, data)
        except CaptureError:
            unmap(self.address, self.size)
            raise
        advise(self.address, self.size, mmap.MADV_SEQUENTIAL)
        advise(self.address, self.size, mmap.MADV_WILLNEED)
        register(self.address, self.size, path)
        self._ahead: Ahead | None = None

    def read_ahead(self, position: Callable[[], int]) -> None:
        """Fill page tables ahead of a reader, if the file is worth it; ``position`` tells where the reader is."""
        if self.size > WINDOW:
            self._ahead = Ahead(self.address, self.size, position)

    def _open(self, path: str, limit: int) -> int:
        """A descriptor of the bytes to map."""
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        mode = os.fstat(fd).st_mode
        if not stat.S_ISREG(mode):
            os.close(fd)
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise CaptureError(f"{path}: is {what}, not a capture file: give the name of a file")
        if os.pread(fd, 2, 0) != GZIP_MAGIC:
            return fd
        try:
            unpacked = Unpacked(path, fd, limit)
        finally:
            os.close(fd)
        self.fault = unpacked.fault
        return unpacked.fd

    def close(self) -> None:
        """Unmap; a second call does nothing. No worker may read any more."""
        if self.address:
            if self._ahead is not None:
                self._ahead.stop()
            unregister(self.address)
            unmap(self.address, self.size)
            self.address = 0
