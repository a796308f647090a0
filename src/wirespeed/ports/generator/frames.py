"""The frames the generator sends, all fields and checksums filled in, many at a time.

::

    | base: the headers, or what a packet that was given has | stamp 18, if any | ... 0x2a 0x2b 0x2c |

A payload byte is its own distance from the start of the frame, modulo 256: what ends up in the wrong place
shows. Lengths here are those of the frame in memory, without the four bytes of FCS. A stamp's place is left
zero: what it holds later adds nothing to a checksum (:mod:`wirespeed.ports.stamp`).

References: RFC 791, 8200, 768, 9293, 792, 4443, 1071 (checksum).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wirespeed.ports.generator.flows import Column
from wirespeed.ports.generator.shape import Shape

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]

_AT_ONCE = 65536  # templates filled in one go: bounds the temporary arrays


@dataclass(frozen=True)
class Place:
    """Where a field is: ``size`` bytes at ``offset``, of which ``width`` bits, ``shift`` from the end; 0: all."""

    offset: int
    size: int
    shift: int = 0
    width: int = 0


Fields = Sequence[tuple[Place, Column]]


def body(size: int) -> Bytes:
    """``size`` bytes as a frame would hold them, were it all payload."""
    return np.arange(size, dtype=np.uint64).astype(np.uint8)


def tail(shape: Shape, size: int) -> Bytes:
    """``size`` bytes of a frame of that shape, of which those behind the templates are used."""
    made = body(size)
    given = np.frombuffer(shape.base, np.uint8)[:size]
    made[: len(given)] = given
    return made


def fill(templates: Bytes, shape: Shape, fields: Fields, lengths: NDArray[np.int64]) -> None:
    """Write the first bytes of each frame.

    Args:
        templates: what is written, a row for each frame; wide enough for all that differs, and for checksums.
        shape: what all frames have in common.
        fields: what differs: where, and the value of each frame.
        lengths: bytes of each frame.
    """
    for start in range(0, len(templates), _AT_ONCE):
        part = slice(start, start + _AT_ONCE)
        rows = [(place, Column(column.high[part], column.low[part])) for place, column in fields]
        _fill_part(templates[part], shape, rows, lengths[part].astype(np.uint64))


def _fill_part(rows: Bytes, shape: Shape, fields: Fields, lengths: Words) -> None:
    rows[:] = tail(shape, rows.shape[1])
    if shape.stamp:
        rows[:, shape.stamp : shape.stamp_end] = 0
    for place, column in fields:
        _put_field(rows, place, column)
    _put_lengths(rows, shape, lengths)
    if shape.version == 4:
        at = shape.network
        _put(rows, at + 10, 0, 2)
        _put(rows, at + 10, _checksum(_sum(rows, at, at + shape.network_bytes)), 2)
    if shape.sum:
        _put(rows, shape.sum, 0, 2)
        segment = lengths - np.uint64(shape.transport)
        split = min(shape.head, rows.shape[1])
        total = _sum(rows, shape.transport, split) + _body_sums(shape, split, lengths)
        if shape.covers_addresses:
            total += _sum(rows, shape.source, shape.source + 2 * shape.address_size)
            total += segment + np.uint64(shape.protocol)
        checksum = _checksum(total)
        if shape.is_udp:
            checksum[checksum == 0] = 0xFFFF  # RFC 768: zero would say "none"
        _put(rows, shape.sum, checksum, 2)


def _put_lengths(rows: Bytes, shape: Shape, lengths: Words) -> None:
    if shape.version == 4:
        _put(rows, shape.network + 2, lengths - np.uint64(shape.network), 2)
    elif shape.version == 6:
        _put(rows, shape.network + 4, lengths - np.uint64(shape.network + 40), 2)
    if shape.is_udp:
        _put(rows, shape.transport + 4, lengths - np.uint64(shape.transport), 2)


def _put_field(rows: Bytes, place: Place, column: Column) -> None:
    low = column.low
    if place.width:
        mask = ((1 << place.width) - 1) << place.shift
        old = _get(rows, place.offset, place.size)
        low = (old & np.uint64(~mask & (1 << 64) - 1)) | ((low << np.uint64(place.shift)) & np.uint64(mask))
    if place.size > 8:
        _put(rows, place.offset, column.high, place.size - 8)
    _put(rows, place.offset + max(0, place.size - 8), low, min(8, place.size))


def _get(rows: Bytes, at: int, size: int) -> Words:
    value = np.zeros(len(rows), np.uint64)
    for index in range(size):
        value = (value << np.uint64(8)) | rows[:, at + index]
    return value


def _put(rows: Bytes, at: int, value: int | Words, size: int) -> None:
    """Write the low ``size`` bytes of a value, or of one for each row, in network order."""
    for index in range(size):
        shift = 8 * (size - 1 - index)
        if isinstance(value, int):
            rows[:, at + index] = (value >> shift) & 0xFF
        else:
            rows[:, at + index] = (value >> np.uint64(shift)).astype(np.uint8)


def _sum(rows: Bytes, start: int, end: int) -> Words:
    """Sum of the 16-bit words of each row from ``start`` to ``end``, unfolded."""
    words = np.ascontiguousarray(rows[:, start:end]).view(">u2")
    total: Words = words.sum(axis=1, dtype=np.uint64)
    return total


def _body_sums(shape: Shape, start: int, lengths: Words) -> Words:
    """Sum of the words that all frames share, from ``start`` to each length; an odd last byte is padded (RFC 1071)."""
    known, which = np.unique(lengths, return_inverse=True)
    sums = []
    for length in known.tolist():
        data = tail(shape, length)[start:].tobytes()
        sums.append(int(np.frombuffer(data + b"\0" * (len(data) & 1), ">u2").sum(dtype=np.uint64)))
    return np.array(sums, np.uint64)[which]


def _checksum(total: Words) -> Words:
    """Fold and complement."""
    for _ in range(3):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    return total ^ np.uint64(0xFFFF)
