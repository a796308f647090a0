"""A capture file as memory: mapped, read-only, from its first byte to its last.

A file that another program shortens while it is mapped kills the process that reads on (SIGBUS, mmap(2));
so does a disk that fails. Copy a file that is still being written before reading it.

Measured on 300 MB in the page cache: where the cache holds the file in large folios, mapping beats read(2)
into a buffer of 64 to 256 KiB by a factor of up to two (27 ms against 37 to 50); in single pages both cost the
same, some 50 ms. Filling the page table ahead of the reader (MADV_POPULATE_READ at once, by windows, or from a
thread) costs what the faults cost, and prefetching ahead by software gains nothing.
"""

import errno
import mmap
import os
import stat

import numpy as np

from wirespeed.errors import CaptureError
from wirespeed.jit import register, unregister
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
                self._map = mmap.mmap(fd, self.size, mmap.MAP_SHARED, mmap.PROT_READ)
            finally:
                os.close(fd)
        except OSError as error:
            remedy = _REMEDIES.get(error.errno or 0, "read a copy on a local disk")
            raise CaptureError(f"{path}: cannot be read: {error.strerror or error}: {remedy}") from error
        try:
            with memoryview(self._map) as data:
                self.layout: Layout = identify(path, data)
        except CaptureError:
            self._map.close()
            raise
        self._map.madvise(mmap.MADV_SEQUENTIAL)
        self._map.madvise(mmap.MADV_WILLNEED)
        bytes_of = np.frombuffer(self._map, dtype=np.uint8)
        self.address = int(bytes_of.ctypes.data)
        register(self.address, self.size, path)

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
            unregister(self.address)
            self.address = 0
            self._map.close()
