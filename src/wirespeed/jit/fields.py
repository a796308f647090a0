"""The kinds of field a header or a record is declared with.

A field knows where it lies and how its bytes read; nothing else. :mod:`wirespeed.jit.view` makes each one
an attribute twice: loads and stores in compiled code, and ``__get__``/``__set__`` here for plain Python.

Offsets are in bytes from the start of the view, except for :func:`bits`, which counts bits the way RFC
diagrams do: bit 0 is the most significant bit of the first byte.
"""

from dataclasses import dataclass
from typing import Any

from wirespeed.jit import memory
from wirespeed.jit.bits import bswap16, bswap32, bswap64, signed64

touched: list[tuple[str, str, str]] | None = None
"""While a trace runs: (view, field, "read" or "write") in order. None otherwise."""


@dataclass(frozen=True)
class Field:
    """A whole-byte integer field of 8, 16, 32 or 64 bits."""

    offset: int
    size: int
    swap: bool
    doc: str = ""
    name: str = ""
    owner: str = ""

    @property
    def end(self) -> int:
        """First byte after the field."""
        return self.offset + self.size

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "owner", owner.__name__)

    def __get__(self, view: Any, owner: type) -> Any:
        if view is None:
            return self
        if touched is not None:
            touched.append((self.owner, self.name, "read"))
        return self.read(view.address) if view.address else self.absent()

    def __set__(self, view: Any, value: Any) -> None:
        if touched is not None:
            touched.append((self.owner, self.name, "write"))
        if view.address:
            self.write(view.address, value)

    def absent(self) -> Any:
        """What the field of an absent header reads as."""
        return 0

    def read(self, address: int) -> Any:
        """The field of the view at ``address``."""
        value = _LOAD[self.size](address + self.offset)
        return _SWAP[self.size](value) if self.swap else value

    def write(self, address: int, value: Any) -> None:
        """Set the field of the view at ``address``; the value is truncated."""
        _STORE[self.size](address + self.offset, _SWAP[self.size](value) if self.swap else value)


@dataclass(frozen=True)
class BitField(Field):
    """Some bits of the big-endian word of ``size`` bytes at ``offset``."""

    shift: int = 0
    width: int = 0

    def read(self, address: int) -> int:
        """The bits, as a small integer."""
        return (super().read(address) >> self.shift) & ((1 << self.width) - 1)

    def write(self, address: int, value: int) -> None:
        """Replace the bits, leaving their neighbours."""
        mask = ((1 << self.width) - 1) << self.shift
        word = super().read(address)
        super().write(address, (word & ~mask) | ((value << self.shift) & mask))


@dataclass(frozen=True)
class MacField(Field):
    """A 48-bit Ethernet address as one integer."""

    def read(self, address: int) -> int:
        """``0x020000000001`` for 02:00:00:00:00:01."""
        high = bswap16(memory.load16(address + self.offset))
        return (high << 32) | bswap32(memory.load32(address + self.offset + 2))

    def write(self, address: int, value: int) -> None:
        """Set all six bytes."""
        memory.store16(address + self.offset, bswap16(value >> 32))
        memory.store32(address + self.offset + 2, bswap32(value))


@dataclass(frozen=True)
class PairField(Field):
    """A 128-bit value as a pair (high, low) of int64: IPv6 addresses."""

    def absent(self) -> tuple[int, int]:
        """Zero."""
        return (0, 0)

    def read(self, address: int) -> tuple[int, int]:
        """The two halves, most significant first."""
        at = address + self.offset
        return (bswap64(memory.load64(at)), bswap64(memory.load64(at + 8)))

    def write(self, address: int, value: tuple[int, int]) -> None:
        """Set all sixteen bytes."""
        memory.store64(address + self.offset, bswap64(value[0]))
        memory.store64(address + self.offset + 8, bswap64(value[1]))


_LOAD = {1: memory.load8, 2: memory.load16, 4: memory.load32, 8: memory.load64}
_STORE = {1: memory.store8, 2: memory.store16, 4: memory.store32, 8: memory.store64}
_SWAP = {1: lambda value: value & 0xFF, 2: bswap16, 4: bswap32, 8: bswap64}


# The declarations return Any: to a type checker, a field is what reading it gives.
def u8(offset: int, doc: str = "") -> Any:
    """One byte."""
    return Field(offset, 1, False, doc)


def be16(offset: int, doc: str = "") -> Any:
    """16 bits in network order."""
    return Field(offset, 2, True, doc)


def be32(offset: int, doc: str = "") -> Any:
    """32 bits in network order."""
    return Field(offset, 4, True, doc)


def be64(offset: int, doc: str = "") -> Any:
    """64 bits in network order; reads as int64."""
    return Field(offset, 8, True, doc)


def le16(offset: int, doc: str = "") -> Any:
    """16 bits, little endian: the machine's own order, for records not on the wire."""
    return Field(offset, 2, False, doc)


def le32(offset: int, doc: str = "") -> Any:
    """32 bits, little endian."""
    return Field(offset, 4, False, doc)


def le64(offset: int, doc: str = "") -> Any:
    """64 bits, little endian; reads as int64."""
    return Field(offset, 8, False, doc)


def mac(offset: int, doc: str = "") -> Any:
    """A 48-bit Ethernet address, as one integer."""
    return MacField(offset, 6, True, doc)


def ipv6(offset: int, doc: str = "") -> Any:
    """A 128-bit address, as a pair (high, low) of int64."""
    return PairField(offset, 16, True, doc)


def bits(first: int, width: int, doc: str = "") -> Any:
    """``width`` bits from bit ``first`` of an RFC diagram: ``bits(0, 4)`` is the version of IPv4.

    The bits must lie within eight bytes. The word that is loaded never starts before the view.
    """
    start, last = first // 8, (first + width - 1) // 8
    size = next((size for size in (1, 2, 4, 8) if size > last - start), 0)
    if not size or width < 1:
        raise ValueError(f"bits({first}, {width}): a bit field has 1 to 57 bits within 8 bytes")
    start = max(0, last + 1 - size)
    shift = (start + size) * 8 - (first + width)
    return BitField(start, size, True, doc, shift=shift, width=width)


__all__ = [
    "BitField", "Field", "MacField", "PairField", "be16", "be32", "be64", "bits", "ipv6", "le16", "le32", "le64",
    "mac", "signed64", "u8",
]  # fmt: skip
