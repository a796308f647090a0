"""Memory at an address: mmap and its relatives, with addresses as plain integers.

Python's own ``mmap`` hides the address, may unmap when collected, and cannot place a mapping. Compiled
code holds addresses as int64, so here a mapping lives until someone says :meth:`Mapping.close`.

References: mmap(2), madvise(2), mbind(2); proc_pid_smaps(5).
"""

import ctypes
import os
import platform
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs
from wirespeed.errors import ArenaError

NORMAL_PAGE = os.sysconf("SC_PAGE_SIZE")
MADV_HUGEPAGE, MADV_POPULATE_WRITE, MADV_COLLAPSE = 14, 23, 25
_PROT_NONE, _PROT_READ, _PROT_READ_WRITE = 0x0, 0x1, 0x3
_MAP_SHARED, _MAP_PRIVATE, _MAP_FIXED, _MAP_ANONYMOUS, _MAP_NORESERVE, _MAP_POPULATE = (
    0x01,
    0x02,
    0x10,
    0x20,
    0x4000,
    0x8000,
)
_MPOL_PREFERRED = 1
_SYS_MBIND = {"x86_64": 237, "aarch64": 235}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
_libc.syscall.restype = ctypes.c_long


@dataclass(frozen=True)
class Mapping:
    """Shared memory that is mapped until :meth:`close`; losing the object does not unmap it.

    Attributes:
        fd: the memfd, to pass to another process; -1 after close.
        address: where it is in this process; aligned to ``page_size``; 0 after close.
        size: bytes mapped, what was asked for rounded up to whole pages.
        page_size: bytes of one page, as obtained.
        kind: ``hugetlb``, ``thp`` or ``normal``.
        why_not: why each better kind was not had; empty if nothing better was asked for.
    """

    fd: int
    address: int
    size: int
    page_size: int
    kind: str
    why_not: str

    def view(self) -> memoryview:
        """The memory as writable bytes. Do not touch it after :meth:`close`: that is a segmentation fault."""
        if self.fd < 0:
            raise ArenaError("this mapping is closed: map it again")
        return memoryview((ctypes.c_char * self.size).from_address(self.address)).cast("B")

    def close(self) -> None:
        """Unmap and close; a second call does nothing. No thread may use the memory any more."""
        if self.fd < 0:
            return
        fd, address = self.fd, self.address
        # Marked first: unmapping twice could take away what the kernel has put there since.
        object.__setattr__(self, "fd", -1)
        object.__setattr__(self, "address", 0)
        unmap(address, self.size)
        os.close(fd)

    def __enter__(self) -> "Mapping":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def map_file(fd: int, size: int, alignment: int = NORMAL_PAGE, writable: bool = True, offset: int = 0) -> int:
    """Map ``size`` bytes of ``fd`` from byte ``offset`` on, shared, at an address that is a multiple of ``alignment``.

    The kernel maps a huge page as one only where the address is a multiple of it, and aligns by itself
    only for hugetlb; so more is reserved, and trimmed.

    Raises:
        OSError: as mmap(2); nothing stays mapped.
    """
    protection = _PROT_READ_WRITE if writable else _PROT_READ
    if alignment <= NORMAL_PAGE:
        return _mmap(0, size, protection, _MAP_SHARED, fd, offset)
    start = _mmap(0, size + alignment, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1)
    address = -(-start // alignment) * alignment
    try:
        _mmap(address, size, protection, _MAP_SHARED | _MAP_FIXED, fd, offset)
    except OSError:
        unmap(start, size + alignment)
        raise
    if address > start:
        unmap(start, address - start)
    unmap(address + size, start + alignment - address)
    return address


def map_for_reading(fd: int, size: int) -> int:
    """Map ``size`` bytes of the file ``fd``, shared and read-only; returns the address.

    Raises:
        OSError: as mmap(2).
    """
    return _mmap(0, size, _PROT_READ, _MAP_SHARED, fd)


def map_file_at(fd: int, size: int, offset: int) -> int:
    """Map ``size`` bytes of ``fd`` from ``offset`` on, shared, with its pages at hand; returns the address.

    Raises:
        OSError: as mmap(2).
    """
    return _mmap(0, size, _PROT_READ_WRITE, _MAP_SHARED | _MAP_POPULATE, fd, offset)


def map_twice(fd: int, head: int, size: int) -> int:
    """Map ``head + size`` bytes of ``fd``, shared, and behind them its last ``size`` bytes once more.

    What runs over the end of a ring then goes on at its beginning, without a second piece.

    Args:
        head, size: multiples of a page.

    Returns:
        The address; ``head + 2 * size`` bytes are mapped there.

    Raises:
        OSError: as mmap(2); nothing stays mapped.
    """
    whole = head + 2 * size
    address = _mmap(0, whole, _PROT_NONE, _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_NORESERVE, -1)
    try:
        _mmap(address, head + size, _PROT_READ_WRITE, _MAP_SHARED | _MAP_FIXED, fd)
        _mmap(address + head + size, size, _PROT_READ_WRITE, _MAP_SHARED | _MAP_FIXED, fd, head)
    except OSError:
        unmap(address, whole)
        raise
    return address


def unmap(address: int, size: int) -> None:
    """Give the address range back."""
    _libc.munmap(address, size)


def advise(address: int, size: int, advice: int) -> bool:
    """madvise(2); true if the kernel agreed. Advice it does not know is refused, not an error."""
    return int(_libc.madvise(address, size, advice)) == 0


def prefer_node(address: int, size: int, node: int) -> bool:
    """Take the range's pages from ``node`` while it has some; true if the kernel agreed.

    Preferred, not bound: a node that runs out costs locality, a bound one would be a SIGBUS.
    """
    number = _SYS_MBIND.get(platform.machine())
    if number is None or not 0 <= node < 64:
        return False
    mask = ctypes.c_ulong(1 << node)
    bits = ctypes.c_ulong(65)  # the kernel looks at one bit less than it is told
    place = (ctypes.c_void_p(address), ctypes.c_ulong(size), ctypes.c_int(_MPOL_PREFERRED))
    return int(_libc.syscall(ctypes.c_long(number), *place, ctypes.byref(mask), bits, ctypes.c_uint(0))) == 0


def huge_bytes(address: int) -> int:
    """Bytes of the mapping at ``address`` that are mapped by transparent huge pages now (smaps)."""
    inside = False
    for line in sysfs.text(Path("/proc/self/smaps")).splitlines():
        key, _, value = line.partition(":")
        if "-" in key and " " in key:  # "7f63-7f64 rw-s 00000000 00" heads a mapping
            inside = int(key.split("-", 1)[0], 16) == address
        elif inside and key == "ShmemPmdMapped":
            return int(value.split()[0]) << 10
    return 0


def _mmap(address: int, size: int, protection: int, flags: int, fd: int, offset: int = 0) -> int:
    result = _libc.mmap(address, size, protection, flags, fd, offset)
    if result is None or result == ctypes.c_void_p(-1).value:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)
