"""What keys of hash tables look like: integers, bytes, or a record with named fields.

::

    class Flow4(ws.Key):
        src = ws.be32(0)
        dst = ws.be32(4)
        sport = ws.be16(8)
        dport = ws.be16(10)
        protocol = ws.u8(12)

A declaration says where each field lies in the key's bytes, as for a header. In a node the fields are the arguments, in
their order; in Python a key is a tuple of them, and many keys are a NumPy array of :attr:`Key.dtype`. Bytes that no
field covers are zero.

A table holds keys as 64-bit words, least significant byte first, the last one filled with zeros.
"""

import ipaddress
import operator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, be16, be32, ipv6, mac, u8
from wirespeed.jit.fields import BitField, Field, MacField, PairField

MAX_KEY_BYTES: int = 64


def _dtype(fields: dict[str, Field], size: int) -> "np.dtype[Any]":
    formats = {name: _format(field) for name, field in fields.items()}
    return np.dtype({
        "names": list(formats), "formats": list(formats.values()),
        "offsets": [field.offset for field in fields.values()], "itemsize": size,
    })  # fmt: skip


def _format(field: Field) -> str:
    if isinstance(field, (MacField, PairField)):
        return f"V{field.size}"
    return f"{'>' if field.swap else '<'}u{field.size}"


class Key(View):
    """Base of key records: declare fields as class attributes; ``SIZE`` is the end of the last unless it is given."""

    dtype: ClassVar["np.dtype[Any]"]
    """The same bytes as a NumPy structured type: for arrays of keys."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.dtype = _dtype(cls.fields, cls.SIZE)


class FiveTuple4(Key):
    """An IPv4 flow."""

    src = be32(0)
    dst = be32(4)
    sport = be16(8)
    dport = be16(10)
    protocol = u8(12)


class FiveTuple6(Key):
    """An IPv6 flow; addresses are pairs (high, low) in nodes."""

    src = ipv6(0)
    dst = ipv6(16)
    sport = be16(32)
    dport = be16(34)
    protocol = u8(36)


class MacVlan(Key):
    """A station: its MAC address and VLAN."""

    mac = mac(0)
    vlan = be16(6)


@dataclass(frozen=True)
class KeyForm:
    """How a table's keys are given, and how they lie in words.

    Attributes:
        kind: ``int``, ``uint``, ``bytes`` or ``struct``.
        size: bytes of a key.
        fields: of a struct: (name, field); of an integer one field at 0.
        cls: of a struct.
    """

    kind: str
    size: int
    fields: tuple[tuple[str, Field], ...] = ()
    cls: type[Key] | None = None

    @property
    def words(self) -> int:
        """64-bit words of a key."""
        return -(-self.size // 8)

    @cached_property
    def dtype(self) -> "np.dtype[Any]":
        """NumPy's type of one key."""
        if self.cls is not None:
            return self.cls.dtype
        return np.dtype({"int": f"<i{self.size}", "uint": f"<u{self.size}"}.get(self.kind, f"V{self.size}"))

    def to_parameters(self) -> list[Any]:
        """Plain values that :func:`from_parameters` makes the same form of."""
        return [self.kind, self.size, *([self.cls.__name__, describe_fields(self.cls)] if self.cls else [])]

    # From what users give ------------------------------------------------------------------------------------

    def row(self, key: Any, name: str) -> bytes:
        """One key as the bytes of its words. Raises TableError."""
        if isinstance(key, (bytes, bytearray, memoryview)):
            data = bytes(key)
            if len(data) != self.size:
                raise TableError(f"{name}: a key of {len(data)} bytes, {data!r}, where keys have {self.size}")
        elif self.kind in ("int", "uint"):
            data = self._integer(key, name).to_bytes(self.size, "little")
        elif isinstance(key, np.void) and key.dtype.itemsize == self.size:
            data = key.tobytes()
        elif self.cls is not None and isinstance(key, (tuple, list, self.cls)):
            data = self._struct(key, name)
        else:
            raise TableError(f"{name}: {key!r} is not a key: give {self.said}")
        return data.ljust(8 * self.words, b"\0")

    def rows(self, keys: Any, name: str) -> NDArray[np.uint64]:
        """Many keys as an array (n, words). Raises TableError; names the first bad key."""
        array = keys if isinstance(keys, np.ndarray) else None
        if array is None and self.kind in ("int", "uint") and not isinstance(keys, (bytes, bytearray)):
            keys = list(keys)
            return self._pad(b"".join(self.row(key, name) for key in keys), len(keys), 8)
        if array is None:
            listed = [self.row(key, name) for key in keys]
            return self._pad(b"".join(listed), len(listed), 8 * self.words)
        if self.kind in ("int", "uint") and array.ndim == 1 and array.dtype.kind in "iu":
            return self._integers(array, name).reshape(-1, 1)
        if array.ndim == 2 and array.dtype == np.uint8 and array.shape[1] == self.size:
            pass
        elif (
            array.ndim == 1
            and (array.dtype == self.dtype or (self.kind != "struct" and array.dtype.kind == "V"))
            and (array.dtype.itemsize == self.size)
        ):
            array = np.ascontiguousarray(array).view(np.uint8).reshape(-1, self.size)
        else:
            raise TableError(
                f"{name}: an array of shape {array.shape} and type {array.dtype} are no keys: give {self.said_many}"
            )
        return self._pad(np.ascontiguousarray(array), len(array), self.size)

    def _pad(self, data: Any, count: int, size: int) -> NDArray[np.uint64]:
        given = np.frombuffer(data, np.uint8).reshape(count, size)
        if size == 8 * self.words:
            return given.view(np.uint64)
        padded = np.zeros((count, 8 * self.words), np.uint8)
        padded[:, :size] = given
        return padded.view(np.uint64)

    @property
    def said(self) -> str:
        """What one key may be, in words."""
        if self.cls is not None:
            return f"({', '.join(name for name, _ in self.fields)}) or {self.size} bytes"
        return f"{self.size} bytes" if self.kind == "bytes" else f"an integer of {self.size} bytes"

    @property
    def said_many(self) -> str:
        """What an array of keys may be, in words."""
        own = {"struct": f"{self.cls.__name__}.dtype" if self.cls else "", "bytes": f"V{self.size}"}
        return f"an array of {own.get(self.kind, 'integers')}, or of uint8 with {self.size} columns"

    def _bounds(self) -> tuple[int, int]:
        bits = 8 * self.size
        return (-(1 << bits - 1), (1 << bits - 1) - 1) if self.kind == "int" else (0, (1 << bits) - 1)

    def _integer(self, key: Any, name: str) -> int:
        try:
            value = operator.index(key if not isinstance(key, _ADDRESSES) else int(key))
        except TypeError:
            raise TableError(f"{name}: {key!r} is not a key: give {self.said}") from None
        low, high = self._bounds()
        if not low <= value <= high:
            raise TableError(f"{name}: key {value} is not {low} to {high}")
        return value & (1 << 8 * self.size) - 1

    def _integers(self, array: NDArray[Any], name: str) -> NDArray[np.uint64]:
        low, high = self._bounds()
        if len(array):
            least, most = int(array.min()), int(array.max())
            if least < low or most > high:
                raise TableError(f"{name}: key {least if least < low else most} is not {low} to {high}")
        return np.ascontiguousarray(array).astype(f"u{self.size}").astype(np.uint64)

    def _struct(self, key: Any, name: str) -> bytes:
        values = [getattr(key, field) for field, _ in self.fields] if isinstance(key, View) else key
        if len(values) != len(self.fields):
            raise TableError(f"{name}: {key!r} has {len(values)} fields: give {self.said}")
        data = bytearray(self.size)
        for (field, where), value in zip(self.fields, values, strict=True):
            data[where.offset : where.end] = _field_bytes(where, value, f"{name}: {field} of {key!r}")
        return bytes(data)

    # And back ------------------------------------------------------------------------------------------------

    def keys(self, rows: NDArray[np.uint64]) -> list[Any]:
        """Keys as Python has them, from an array (n, words)."""
        data = np.ascontiguousarray(rows.view(np.uint8)[:, : self.size])
        if self.kind in ("int", "uint"):
            return data.view(self.dtype).reshape(-1).tolist()  # type: ignore[no-any-return]
        if self.kind == "bytes":
            return [row.tobytes() for row in data]
        return [self._tuple(row.tobytes()) for row in data]

    def _tuple(self, data: bytes) -> tuple[Any, ...]:
        """A struct's fields; addresses of 16 bytes as one integer."""
        return tuple(
            int.from_bytes(data[field.offset : field.end], "big" if field.swap else "little")
            for _, field in self.fields
        )


_ADDRESSES = (ipaddress.IPv4Address, ipaddress.IPv6Address)


def _field_bytes(field: Field, value: Any, what: str) -> bytes:
    if isinstance(value, str):
        try:
            value = ipaddress.ip_address(value)
        except ValueError:
            raise TableError(f"{what}: {value!r} is not an address") from None
    if isinstance(value, _ADDRESSES):
        value = int(value)
    if isinstance(field, PairField) and isinstance(value, tuple):
        value = (value[0] & (1 << 64) - 1) << 64 | value[1] & (1 << 64) - 1
    try:
        number = operator.index(value)
    except TypeError:
        raise TableError(f"{what}: {value!r} is not an integer or address") from None
    limit = 1 << 8 * field.size
    if field.size == 8 and -(1 << 63) <= number < 0:  # as nodes have it
        number += limit
    if not 0 <= number < limit:
        raise TableError(f"{what}: {number} is not 0 to {limit - 1}")
    return number.to_bytes(field.size, "big" if field.swap else "little")


def form_of(key: Any, name: str) -> KeyForm:
    """The form of what a user says a table's keys are.

    Args:
        key: a class derived from :class:`Key`, ``int`` (64 bits), a NumPy type of integers or of structs, or a number:
            that many bytes.

    Raises:
        TableError: it is none of these, or not 1 to 64 bytes.
    """
    if isinstance(key, type) and issubclass(key, Key):
        form = KeyForm("struct", key.SIZE, tuple(key.fields.items()), key)
    elif key is int:
        form = KeyForm("int", 8, (("key", Field(0, 8, False)),))
    elif isinstance(key, int) and not isinstance(key, bool):
        form = KeyForm("bytes", key)
    else:
        try:
            kind = np.dtype(key)
        except TypeError:
            raise TableError(
                f"{name}: keys cannot be {key!r}: give a class derived from Key, int, a NumPy type or a number of bytes"
            ) from None
        if kind.kind in "iu":
            name_of = "int" if kind.kind == "i" else "uint"
            form = KeyForm(name_of, kind.itemsize, (("key", Field(0, kind.itemsize, False)),))
        elif kind.names:
            form = _from_dtype(kind, name)
        else:
            form = KeyForm("bytes", kind.itemsize)
    if not 1 <= form.size <= MAX_KEY_BYTES:
        raise TableError(f"{name}: keys of {form.size} bytes are not possible: 1 to {MAX_KEY_BYTES}")
    for field, where in form.fields:
        if isinstance(where, BitField):
            raise TableError(f"{name}: {field} is a field of bits: keys have whole bytes")
    return form


def _from_dtype(kind: "np.dtype[Any]", name: str) -> KeyForm:
    fields: dict[str, Any] = {"SIZE": kind.itemsize}
    for field in kind.names or ():
        part, offset = kind.fields[field][:2]  # type: ignore[index]
        if part.kind != "u" and part.kind != "i":
            raise TableError(f"{name}: field {field} of {kind} is no integer")
        fields[field] = Field(offset, part.itemsize, part.byteorder == ">")
    made: Any = type("Key", (Key,), fields)
    made.dtype = kind
    return KeyForm("struct", kind.itemsize, tuple(made.fields.items()), made)


def from_parameters(parameters: list[Any]) -> KeyForm:
    """The form of an attached table's keys."""
    kind, size, *struct = parameters
    if kind == "struct":
        name, described = struct
        made = view_like(name, Key, described)
        return KeyForm(kind, size, tuple(made.fields.items()), made)
    return KeyForm(kind, size, () if kind == "bytes" else (("key", Field(0, size, False)),))


_KINDS: dict[str, type[Field]] = {kind.__name__: kind for kind in (Field, BitField, MacField, PairField)}


def describe_fields(view: type[View]) -> list[Any]:
    """Plain values that say what fields a view has: its size, then each field."""
    told: list[Any] = [view.SIZE]
    for name, f in view.fields.items():
        bits = [f.shift, f.width] if isinstance(f, BitField) else []
        told.append([name, type(f).__name__, f.offset, f.size, f.swap, *bits])
    return told


def view_like(name: str, base: type[Any], described: list[Any]) -> type[Any]:
    """A class of views as :func:`describe_fields` says."""
    size, *told = described
    fields: dict[str, Any] = {"SIZE": size}
    for field, kind, offset, length, swap, *bits in told:
        more = dict(zip(("shift", "width"), bits, strict=False))
        fields[field] = _KINDS[kind](offset, length, swap, **more)
    return type(name, (base,), fields)


__all__ = [
    "MAX_KEY_BYTES", "FiveTuple4", "FiveTuple6", "Key", "KeyForm", "MacVlan", "describe_fields", "form_of",
    "from_parameters", "view_like",
]  # fmt: skip
