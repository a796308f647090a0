"""Zone: memory by name, laid out by its user, that a second process attaches (rte_memzone).

::

    zone = ws.Zone(1 << 20, "prices")                  # this process
    zone.array("int64")[:] = 0                         # as NumPy

    @ws.node
    def look(pkt):
        zone.store(pkt.ipv4.src & 1023, pkt.length)    # a word, by index

    theirs = ws.Zone.attach("prices")                  # another process, read-only
    theirs.array("int64")[7]

For tables, counters, rings there are better things; a zone is for what has no name yet. Nothing is locked: one word is
read and written whole, a record of several is not (see :mod:`wirespeed.sync.seqlock`).

    offset  bytes  what
    0       8      words of data
    128     size   data, zeros at first; :attr:`Zone.data` is its address here, to lay a View over it
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, le64, load64, store64
from wirespeed.mem.shared import Shared

_HEAD = 128
MAX_SIZE: int = 1 << 40


class ZoneView(View):
    """The head of a zone; the data follows at 128."""

    words = le64(0, "words of data")
    SIZE = _HEAD

    def load(self, index: int) -> int:
        """A 64-bit word; 0 if there is no such word."""
        return int(load64(self.address + 128 + index * 8)) if 0 <= index < self.words else 0

    def store(self, index: int, value: int) -> int:
        """Change a word; 1, or 0 if there is no such word."""
        if 0 <= index < self.words:
            store64(self.address + 128 + index * 8, value)
            return 1
        return 0


class Zone(Shared):
    """Memory by name.

    Args:
        size: bytes, rounded up to 8.
        name: by which other processes attach it; None keeps it to this one.
        huge: from huge pages; None takes them from 1 MiB on.

    Raises:
        TableError: the size is out of range.
        ArenaError: no memory, or the name is taken.
    """

    View = ZoneView
    KIND = "zone"
    ATTACH_WRITABLE = True

    def __init__(self, size: int, name: str | None = None, huge: bool | None = None) -> None:
        if not 1 <= size <= MAX_SIZE:
            raise TableError(f"{name or self.KIND}: {size} bytes are not possible: 1 to {MAX_SIZE}")
        words = -(-size // 8)
        self._create(_HEAD + words * 8, name, huge=huge)
        ZoneView(self.address).words = words

    @property
    def data(self) -> int:
        """Address of the data in this process; aligned to 128."""
        return self.address + _HEAD

    def __len__(self) -> int:
        """Bytes of data."""
        return int(ZoneView(self.address).words) * 8

    def array(self, dtype: DTypeLike = "uint8") -> NDArray[Any]:
        """The data as a NumPy array, not a copy; read-only if it was attached so. Not to be used after ``close()``."""
        kind = np.dtype(dtype)
        if kind.hasobject or not kind.itemsize:
            raise TableError(f"{self.name}: memory cannot hold {kind}: use numbers or structures of numbers")
        memory = (ctypes.c_uint8 * len(self)).from_address(self.data)
        found = np.ctypeslib.as_array(memory)[: len(self) // kind.itemsize * kind.itemsize].view(kind)
        found.flags.writeable = self.writable
        return found

    def load(self, index: int) -> int:
        """A 64-bit word; 0 if there is no such word."""
        return ZoneView(self.address).load(index)

    def store(self, index: int, value: int) -> int:
        """Change a word; 1, or 0 if there is no such word."""
        self._check_writable()
        return ZoneView(self.address).store(index, value)

    def __repr__(self) -> str:
        return f"<zone {self.name}: {len(self)} bytes>"
