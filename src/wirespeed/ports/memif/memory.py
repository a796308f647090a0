"""Regions: the memory that the two sides of memif share, made by the client and mapped by the server.

Ours (:class:`OwnRegion`), for a client's rings and buffers::

    rings     S2M 0, S2M 1, ..., M2S 0, ...; each 128 bytes and its slots, whole pages
    buffers   those of the first ring, of the second, ...; small ones where the pool is lent (:class:`Arena`)

Buffers are an odd number of cache lines apart. At a distance of 2048 bytes the first lines of all of them would share
two of an L1 cache's 64 sets, and a burst would push itself out.

A peer's (:class:`LentRegion`) is mapped only if it cannot be shrunk any more (fcntl(2), File Sealing): touching a page
that is gone is a SIGBUS, the end of the process. libmemif, VPP and DPDK seal theirs; one that is not sealed and lets
us seal it is sealed here. What can be taken away even so (holes punched into huge pages need not be filled again) is
guarded (:mod:`wirespeed.jit.guard`): it reads as zeros, and the peer is sent away. No other seal is set:
a client that lends its arena (F_SEAL_FUTURE_WRITE) could lend it to nobody else.
"""

import fcntl
import os
import stat
from typing import TypeAlias

from wirespeed.eal import mapping
from wirespeed.errors import ArenaError
from wirespeed.jit import COMPILED, register, unregister, write_bytes
from wirespeed.jit.guard import guard, lost, unguard
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.memif.messages import Refusal
from wirespeed.ports.memif.ring import COOKIE, RING_BYTES, SLOT_BYTES, Ring

MOST_REGIONS: int = 256
_MOST_BYTES = (1 << 32) + (1 << 30)  # offsets have 32 bits: what lies further on cannot be meant
_PAGE = 4096
_LINE = 64


def pitch_of(buffer: int) -> int:
    """Bytes from one buffer of ``buffer`` bytes to the next: an odd number of lines."""
    lines = -(-buffer // _LINE)
    return (lines | 1) * _LINE


class OwnRegion:
    """A client's region: ``rings`` rings of ``1 << log2`` slots with their buffers.

    Raises:
        ArenaError: there is not that much memory.
    """

    def __init__(self, rings: int, log2: int, buffer: int) -> None:
        self.log2, self.capacity = log2, buffer
        self.pitch = pitch_of(buffer)
        self._stride = -(-(RING_BYTES + (SLOT_BYTES << log2)) // _PAGE) * _PAGE
        self._buffers = rings * self._stride
        self._region = Region(self._buffers + rings * (self.pitch << log2), "wirespeed-memif")
        self.address, self.size, self.fd = self._region.address, self._region.size, self._region.fd
        for ring in range(rings):
            self._format(ring)

    def offset(self, ring: int) -> int:
        """Where in the region a ring is."""
        return ring * self._stride

    def first(self, ring: int) -> int:
        """Address of the buffer of a ring's first slot."""
        return self.address + self._buffers + ring * (self.pitch << self.log2)

    def _format(self, ring: int) -> None:
        at = self.address + self.offset(ring)
        Ring(at).cookie = COOKIE
        start = self.first(ring) - self.address
        slots = [
            (self.capacity << 32 | (start + index * self.pitch) << 64).to_bytes(SLOT_BYTES, "little")
            for index in range(1 << self.log2)
        ]
        write_bytes(at + RING_BYTES, b"".join(slots))

    def close(self) -> None:
        """Give the memory back, as far as this process is concerned."""
        self._region.close()


class Arena:
    """All of a pool's memory as a region, for a peer that reads and writes cells where they are."""

    def __init__(self, pool: Pool) -> None:
        region = pool.region
        self.address, self.size, self.fd = region.address, region.size, region.fd

    def close(self) -> None:
        """It is the pool's."""


class LentRegion:
    """``size`` bytes of the peer's descriptor ``fd``, which is ours from now on.

    Args:
        unsealed: take it even if the peer can shrink it.

    Raises:
        Refusal: it is not what it must be. The descriptor is closed.
    """

    def __init__(self, fd: int, size: int, unsealed: bool) -> None:
        self.fd, self._guard = fd, -1
        self.size = min(size, _MOST_BYTES)
        try:
            self.address = self._map(size, unsealed)
        except OSError as error:
            os.close(fd)
            raise Refusal(f"the region cannot be mapped: {error.strerror}") from None
        except Refusal:
            os.close(fd)
            raise
        register(self.address, self.size, "memif region of the peer")

    def _map(self, size: int, unsealed: bool) -> int:
        status = os.fstat(self.fd)
        if not stat.S_ISREG(status.st_mode):
            raise Refusal("the region is no memory file")
        seals = _seals(self.fd)
        if not seals & fcntl.F_SEAL_SHRINK:
            try:
                fcntl.fcntl(self.fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK)
            except OSError:
                if not unsealed:
                    raise Refusal("the region is not sealed against shrinking") from None
        status = os.fstat(self.fd)  # from here on it cannot become smaller
        if not RING_BYTES <= size <= status.st_size:
            raise Refusal(f"a region of {size} bytes in a file of {status.st_size}")
        huge = status.st_blksize > mapping.NORMAL_PAGE
        page = status.st_blksize if huge else mapping.NORMAL_PAGE
        self._mapped = -(-self.size // page) * page  # mmap rounds up by itself, and would map over what lies behind
        address = mapping.map_file(self.fd, self._mapped, page if huge else 2 << 20)
        if not huge:
            mapping.advise(address, self._mapped, mapping.MADV_HUGEPAGE)
        if huge or not _seals(self.fd) & fcntl.F_SEAL_SHRINK:
            self._guard = guard(address, self._mapped, page)
            if self._guard < 0 and COMPILED:
                mapping.unmap(address, self._mapped)
                raise Refusal("the region could be taken away, and no more memory can be guarded")
        return address

    @property
    def lost(self) -> int:
        """Pages that the peer took away, and that were touched since."""
        return lost(self._guard)

    def close(self) -> None:
        """Unmap it."""
        unguard(self._guard)
        unregister(self.address)
        mapping.unmap(self.address, self._mapped)
        os.close(self.fd)


def _seals(fd: int) -> int:
    try:
        return fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise Refusal("the region is no memfd") from None


Shareable: TypeAlias = OwnRegion | Arena | LentRegion
"""Any region."""

__all__ = ["MOST_REGIONS", "Arena", "ArenaError", "LentRegion", "OwnRegion", "Shareable", "pitch_of"]
