"""Shared memory from huge pages, with an honest fall-back.

A table of 64 MiB in 4 KiB pages needs 16,384 address translations, far more than a core remembers;
in 2 MiB pages it needs 32. So memory that packets are looked up in comes from huge pages, and from a
file descriptor, so that another process can map the very same memory:

    what                     how                                        ``kind``   needs
    reserved huge pages      memfd_create(MFD_HUGETLB | size)           hugetlb    vm.nr_hugepages
    transparent huge pages   memfd, aligned, madvise(MADV_COLLAPSE)     thp        Linux 6.1, no reservation
    normal pages             memfd                                      normal     nothing

Taking is all or nothing, and it happens here, not on first touch: hugetlb memory that turns out to be
missing later is a SIGBUS in the middle of a worker. mmap() reserves (ENOMEM), fallocate() takes (ENOSPC),
MADV_POPULATE_WRITE fills the page tables; a failure of any falls to the next kind and is told in
``Mapping.why_not``. The descriptor is then sealed against resizing, so that no peer can truncate it
under our feet.

MADV_COLLAPSE makes huge pages of a memfd even where ``shmem_enabled`` is "never", and cheaply if only one
byte of each was written before (measured on 6.18, a GiB: 0.12 s, against 0.8 s for normal pages and
3 s for normal pages that are collapsed afterwards). What was obtained is read back from smaps, not believed.

References: memfd_create(2), madvise(2), fcntl(2) "File Sealing"; Documentation/admin-guide/mm/
hugetlbpage.rst and transhuge.rst.
"""

import errno
import fcntl
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import mapping, sysfs
from wirespeed.eal.mapping import Mapping as Mapping
from wirespeed.errors import ArenaError

_MFD_HUGE_SHIFT = 26
_MAP_ALIGNMENT = 2 << 20  # lets transparent huge pages be mapped as such
_UNITS = {"K": 10, "M": 20, "G": 30}


@dataclass(frozen=True)
class PageSize:
    """Reserved huge pages of one size: counts of pages, ``size`` in bytes."""

    size: int
    total: int
    free: int

    @property
    def name(self) -> str:
        """As in ``prefer``: ``2M``, ``1G``."""
        return _size_name(self.size)


def page_sizes(root: Path = sysfs.ROOT, node: int | None = None) -> tuple[PageSize, ...]:
    """Huge page sizes this CPU and kernel know, smallest first; of one memory node if ``node`` is given.

    ``free`` leaves out pages that are promised to someone who has not touched them yet (on a node, the
    kernel does not say which those are).
    """
    where = "sys/kernel/mm/hugepages" if node is None else f"sys/devices/system/node/node{node}/hugepages"
    found = []
    for name in sysfs.names(root / where, "hugepages-*kB"):
        folder = root / where / name
        size = int(name.removeprefix("hugepages-").removesuffix("kB")) << 10
        free = sysfs.number(folder / "free_hugepages", 0) - sysfs.number(folder / "resv_hugepages", 0)
        found.append(PageSize(size, sysfs.number(folder / "nr_hugepages", 0), max(free, 0)))
    return tuple(sorted(found, key=lambda page: page.size))


def shmem_policy(root: Path = sysfs.ROOT) -> str:
    """When a memfd gets transparent huge pages unasked: always, within_size, advise, never, deny, ..."""
    base = root / "sys/kernel/mm/transparent_hugepage"
    own = sysfs.chosen(base / "hugepages-2048kB/shmem_enabled")
    return sysfs.chosen(base / "shmem_enabled") if own in ("", "inherit") else own


def map_shared(
    size_bytes: int,
    name: str,
    prefer: tuple[str, ...] = ("1G", "2M"),
    node: int | None = None,
    populate: bool = True,
) -> Mapping:
    """Map shared memory of zeros, from the best pages there are.

    Args:
        size_bytes: at least 1; rounded up to whole pages.
        name: shown in /proc/self/maps as ``memfd:name``.
        prefer: huge page sizes to try in order. A size of 1 GiB or more is passed over for smaller memory.
            ``()`` asks for normal pages.
        node: memory node to take it from if it has enough (a preference: never fails).
        populate: take normal pages now too, and try to make them huge. Reserved ones are always taken now.

    Raises:
        ArenaError: bad arguments, or not even normal pages suffice.
    """
    if size_bytes < 1:
        raise ArenaError(f"memory {name!r} of {size_bytes} bytes makes no sense: ask for at least 1")
    reasons = []
    for page in [_page_bytes(wanted) for wanted in prefer]:
        if page >= 1 << 30 and size_bytes < page:
            continue
        try:
            return _map_hugetlb(size_bytes, name, page, node)
        except OSError as error:
            reasons.append(_why_not(error, size_bytes, page))
    huge = sysfs.number(Path("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size"), 0)
    try:
        if prefer and populate and 0 < huge <= size_bytes:
            return _map_transparent(size_bytes, name, huge, node, reasons)
        return _map_normal(size_bytes, name, node, populate, reasons)
    except OSError as error:
        raise ArenaError(
            f"cannot map {sysfs.bytes_text(size_bytes)} for {name!r}: {error.strerror}; "
            f"{sysfs.bytes_text(_available())} are available: ask for less or free memory"
        ) from error


def map_existing(fd: int) -> Mapping:
    """Map all of the memory behind ``fd``, made by :func:`map_shared` here or in another process.

    The descriptor is copied: the caller keeps and closes its own. Pages are mapped as they are touched, so
    ``kind`` only tells ``hugetlb`` from ``normal``.

    Raises:
        ArenaError: the descriptor cannot be mapped, or is empty.
    """
    try:
        status = os.fstat(fd)
        hugetlb = status.st_blksize in {pages.size for pages in page_sizes()}
        size, page = status.st_size, status.st_blksize if hugetlb else mapping.NORMAL_PAGE
        address = mapping.map_file(fd, size, page if hugetlb else _MAP_ALIGNMENT)
        return Mapping(os.dup(fd), address, size, page, "hugetlb" if hugetlb else "normal", "")
    except OSError as error:
        raise ArenaError(f"cannot map descriptor {fd}: {error.strerror}; pass one that map_shared() made") from error


def _map_hugetlb(size_bytes: int, name: str, page: int, node: int | None) -> Mapping:
    """All of it from reserved pages, or OSError and nothing taken."""

    def take(fd: int, address: int, size: int) -> None:
        os.posix_fallocate(fd, 0, size)

    flags = os.MFD_HUGETLB | (page.bit_length() - 1) << _MFD_HUGE_SHIFT
    fd, address, size = _make(name, flags, size_bytes, page, node, take)
    return Mapping(fd, address, size, page, "hugetlb", "")


def _map_transparent(size_bytes: int, name: str, huge: int, node: int | None, reasons: list[str]) -> Mapping:
    """Normal pages that the kernel is asked to make huge; ``kind`` is thp only if it did so with all."""

    def take(fd: int, address: int, size: int) -> None:
        mapping.advise(address, size, mapping.MADV_HUGEPAGE)
        for offset in range(0, size, huge):  # a huge page is not made of nothing: one byte each
            os.pwrite(fd, b"\0", offset)
        mapping.advise(address, size, mapping.MADV_COLLAPSE)  # refusal is seen in smaps
        os.posix_fallocate(fd, 0, size)

    _check_available(size_bytes)
    fd, address, size = _make(name, 0, size_bytes, huge, node, take)
    got = mapping.huge_bytes(address)
    if got >= size:
        return Mapping(fd, address, size, huge, "thp", "; ".join(reasons))
    refused = (
        f"transparent: {sysfs.bytes_text(got)} of {sysfs.bytes_text(size)} became huge "
        f"(shmem_enabled is {shmem_policy() or 'absent'}; Linux 6.1 or later can do it on request)"
    )
    return Mapping(fd, address, size, mapping.NORMAL_PAGE, "normal", "; ".join([*reasons, refused]))


def _map_normal(size_bytes: int, name: str, node: int | None, populate: bool, reasons: list[str]) -> Mapping:
    """From normal pages, taken now or on first touch."""

    def take(fd: int, address: int, size: int) -> None:
        if populate:
            os.posix_fallocate(fd, 0, size)

    if populate:
        _check_available(size_bytes)
    fd, address, size = _make(name, 0, size_bytes, mapping.NORMAL_PAGE, node, take, populate)
    return Mapping(fd, address, size, mapping.NORMAL_PAGE, "normal", "; ".join(reasons))


def _make(
    name: str,
    flags: int,
    size_bytes: int,
    page: int,
    node: int | None,
    take: Callable[[int, int, int], None],
    populate: bool = True,
) -> tuple[int, int, int]:
    """A sealed memfd in whole pages, mapped and taken: descriptor, address, size. On OSError, nothing."""
    size = -(-size_bytes // page) * page
    fd = os.memfd_create(name[:200], os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING | flags)
    address = 0
    try:
        os.ftruncate(fd, size)
        address = mapping.map_file(fd, size, page)
        if node is not None:
            mapping.prefer_node(address, size, node)
        take(fd, address, size)
        if populate:
            mapping.advise(address, size, mapping.MADV_POPULATE_WRITE)  # Linux 5.14; only saves faults
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError:
        if address:
            mapping.unmap(address, size)
        os.close(fd)
        raise
    return fd, address, size


def _check_available(size_bytes: int) -> None:
    """Refuse what would invite the out-of-memory killer. Raises OSError (ENOMEM)."""
    if size_bytes > _available():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))


def _available() -> int:
    """Bytes that programs can still take without swapping (MemAvailable)."""
    for line in sysfs.text(Path("/proc/meminfo")).splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) << 10
    return 1 << 62  # not known: let the kernel decide


def _why_not(error: OSError, size_bytes: int, page: int) -> str:
    """Reason and remedy, one line. The caller's pages are all back by now, so ``free`` is what it was."""
    name, needed = _size_name(page), -(-size_bytes // page)
    pool = next((pool for pool in page_sizes() if pool.size == page), None)
    if pool is None:
        return f"{name}: this CPU or kernel has no such huge pages"
    if error.errno in (errno.ENOMEM, errno.ENOSPC):
        more = pool.total + max(needed - pool.free, 1)
        knob = f"/sys/kernel/mm/hugepages/hugepages-{page >> 10}kB/nr_hugepages"
        return f"{name}: {needed} pages needed, {pool.free} of {pool.total} free (echo {more} > {knob})"
    return f"{name}: {error.strerror}"


def _page_bytes(name: str) -> int:
    digits, unit = name[:-1], name[-1:].upper()
    if not digits.isdecimal() or unit not in _UNITS or int(digits).bit_count() != 1:
        raise ArenaError(f"huge page size {name!r} is not one: use a power of two like '2M' or '1G'")
    return int(digits) << _UNITS[unit]


def _size_name(size: int) -> str:
    unit = next(unit for unit in ("G", "M", "K") if size >= 1 << _UNITS[unit])
    return f"{size >> _UNITS[unit]}{unit}"
