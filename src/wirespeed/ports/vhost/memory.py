"""A guest's memory, mapped: the regions that the front end shares, and what is believed of them.

A region is a piece of a file whose descriptor came along. Believed is nothing: it must be a file in memory that is as
long as the region says, now (fstat), and regions may not overlap, neither in the guest's addresses nor in the front
end's. A front end that truncates the file later would make each access beyond the end a SIGBUS, so the file is sealed
against shrinking where that is possible (a memfd made with MFD_ALLOW_SEALING: QEMU's memory-backend-memfd is sealed by
itself). Files of DPDK and of hugetlbfs cannot be sealed, and into sealed huge pages holes can still be punched, which
nothing fills where no page is left. Such memory is guarded (:mod:`wirespeed.jit.guard`): what is taken away reads as
zeros, and who did that is disconnected; what cannot be guarded is refused.

References: vhost-user specification, "Memory regions description"; fcntl(2), "File Sealing"; memfd_create(2).
"""

import contextlib
import fcntl
import os
import stat
from bisect import insort
from dataclasses import dataclass, field

from wirespeed.eal.mapping import NORMAL_PAGE, map_file, unmap
from wirespeed.jit import register, store64, unregister
from wirespeed.jit.decorators import COMPILED
from wirespeed.jit.guard import guard, lost, unguard
from wirespeed.ports.vhost.messages import MemoryRegion, VhostError
from wirespeed.ports.vhost.ring import MOST_REGIONS, Region

_LARGEST_ADDRESS = 1 << 63  # of a guest; above, an int64 would be negative
_MOST_BYTES = 1 << 46  # of one region: half of what a process can address


@dataclass(frozen=True, order=True)
class Mapped:
    """A region that is mapped: what was said of it, where it is, and what is to be unmapped."""

    region: MemoryRegion = field(compare=False)
    guest: int
    address: int = field(compare=False)
    base: int = field(compare=False)
    size: int = field(compare=False)
    sealed: bool = field(compare=False)
    guard: int = field(compare=False)

    def close(self) -> None:
        """Unmap it; nobody may be using it."""
        unregister(self.address)
        unguard(self.guard)
        unmap(self.base, self.size)


def map_region(region: MemoryRegion, fd: int) -> Mapped:
    """Map one region; the descriptor stays the caller's.

    Raises:
        VhostError: it is not what it says.
    """
    what = f"a region of {region.size} bytes at {region.guest:#x}"
    if not 0 < region.size <= _MOST_BYTES or region.guest + region.size > _LARGEST_ADDRESS:
        raise VhostError(f"{what}: no machine has that")
    if region.user + region.size > 1 << 64:
        raise VhostError(f"{what}: it goes on beyond the front end's own addresses")
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise VhostError(f"{what}: its descriptor is no memory (use memory-backend-memfd or -file, share=on)")
        sealed = _seal(fd)
        if region.offset + region.size > os.fstat(fd).st_size:  # again: only now it can no longer shrink
            raise VhostError(f"{what} from byte {region.offset} of a file of {status.st_size} bytes")
        page = max(status.st_blksize, NORMAL_PAGE)  # hugetlbfs says its page size here
        start = region.offset // page * page
        size = -(-(region.offset + region.size - start) // page) * page
        base = map_file(fd, size, page, offset=start)
    except OSError as error:
        raise VhostError(f"{what} cannot be mapped: {error.strerror}") from None
    slot = -1
    if not sealed or page > NORMAL_PAGE:
        slot = guard(base, size, page)
        if slot < 0 and COMPILED:
            unmap(base, size)
            raise VhostError(f"{what} could be taken away at any time, and no more memory can be guarded")
    address = base + region.offset - start
    register(address, region.size, "guest memory")
    return Mapped(region, region.guest, address, base, size, sealed, slot)


def _seal(fd: int) -> bool:
    """Keep the file from being truncated, if it can be; whether it is now."""
    with contextlib.suppress(OSError):
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
    try:
        return bool(fcntl.fcntl(fd, fcntl.F_GET_SEALS) & fcntl.F_SEAL_SHRINK)
    except OSError:
        return False


class GuestMemory:
    """All regions of one guest, in the order of their addresses."""

    def __init__(self) -> None:
        self.regions: list[Mapped] = []

    def add(self, region: MemoryRegion, fd: int) -> None:
        """Map one more.

        Raises:
            VhostError: it is not what it says, overlaps another, or there are too many.
        """
        if len(self.regions) >= MOST_REGIONS:
            raise VhostError(f"more than {MOST_REGIONS} regions of memory")
        for other in (mapped.region for mapped in self.regions):
            if _overlap(region.guest, other.guest, region.size, other.size):
                raise VhostError(f"regions of memory at {region.guest:#x} and {other.guest:#x} overlap")
            if _overlap(region.user, other.user, region.size, other.size):
                raise VhostError(f"regions at {region.user:#x} and {other.user:#x} of the front end overlap")
        insort(self.regions, map_region(region, fd))

    def remove(self, region: MemoryRegion) -> None:
        """Unmap one.

        Raises:
            VhostError: there is no such region.
        """
        for mapped in self.regions:
            known = mapped.region
            if (known.guest, known.size, known.user) == (region.guest, region.size, region.user):
                self.regions.remove(mapped)
                mapped.close()
                return
        raise VhostError(f"there is no region of {region.size} bytes at {region.guest:#x} to remove")

    def address_of(self, user: int, size: int, alignment: int) -> int:
        """Where ``size`` bytes at the front end's own address ``user`` are in this process.

        Raises:
            VhostError: they are not in one region, or not aligned.
        """
        if user % alignment:
            raise VhostError(f"a ring at {user:#x} is not aligned to {alignment} bytes")
        for mapped in self.regions:
            region = mapped.region
            if region.user <= user and user + size <= region.user + region.size:
                found = mapped.address + user - region.user
                if found % alignment:
                    raise VhostError(f"a ring at {user:#x} is not aligned to {alignment} bytes in its file")
                return found
        raise VhostError(f"a ring of {size} bytes at {user:#x} does not lie in the guest's memory")

    def write_table(self, address: int) -> None:
        """Write the table that workers use (:class:`wirespeed.ports.vhost.ring.Region`); none may be using it."""
        for number, mapped in enumerate(self.regions):
            entry = Region(address + 64 + number * Region.SIZE)
            entry.low, entry.high = mapped.guest, mapped.guest + mapped.region.size
            entry.delta = mapped.address - mapped.guest
        store64(address, len(self.regions))

    @property
    def lost(self) -> int:
        """Pages that the front end took away, and that were touched since."""
        return sum(lost(mapped.guard) for mapped in self.regions)

    @property
    def sealed(self) -> bool:
        """Whether no region can shrink any more."""
        return all(mapped.sealed for mapped in self.regions)

    def close(self) -> None:
        """Unmap all; no worker may be using any."""
        while self.regions:
            self.regions.pop().close()


def _overlap(first: int, second: int, size: int, other: int) -> bool:
    return first < second + other and second < first + size


__all__ = ["GuestMemory", "Mapped", "map_region"]
