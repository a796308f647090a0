"""Read files of routes, plain, gzip or bzip2: prefixes, ``bgpdump -m`` lines, and MRT (RFC 6396).

::

    file = read_routes("rib.20260101.0000.bz2")
    fib.add_many((file.addresses, file.lengths), file.hops)          # IPv4
    fib6.add_many((file.addresses6, file.lengths6), file.hops6)
    file.next_hops[fib.lookup("192.0.2.1")]                          # "203.0.113.7"

A million routes take a second or so: kernels read the bytes (:mod:`wirespeed.tables.routes_text`,
:mod:`wirespeed.tables.routes_mrt`). What is wrong with a file is said with its line or offset.
"""

import bz2
import gzip
import ipaddress
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import lent
from wirespeed.tables.prefix import parse_prefix
from wirespeed.tables.prefix6 import parse_prefix6
from wirespeed.tables.routes_mrt import PEERS, TABLE_DUMP_V2, WHY, count_records, parse_records, read_peers
from wirespeed.tables.routes_text import HOP_BYTES_MAX, ROWS, hash_hop, parse_lines
from wirespeed.tables.seed import SEED

LIMIT_BYTES: int = 8 << 30
"""Larger files, unpacked, are refused."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class RouteFile:
    """What a file of routes holds.

    Attributes:
        form: ``"prefixes"``, ``"bgpdump"`` or ``"mrt"``.
        addresses, lengths, hops: of the IPv4 routes, in the file's order; ``addresses`` as uint32.
        addresses6, lengths6, hops6: of the IPv6 routes; ``addresses6`` as (n, 2) words, high and low.
        next_hops: their addresses or names; ``hops`` are numbers of this list. Empty if every next hop of the file is
            a number, as :meth:`Lpm6.save <wirespeed.tables.lpm6.Lpm6.save>` writes them: ``hops`` are these then; or if
            there are none: all ``hops`` are 0.
        skipped: records of an MRT file that are no unicast routes.
    """

    form: str
    addresses: NDArray[np.uint32]
    lengths: NDArray[np.uint8]
    hops: NDArray[np.int64]
    addresses6: NDArray[np.uint64]
    lengths6: NDArray[np.uint8]
    hops6: NDArray[np.int64]
    next_hops: list[str]
    skipped: int

    def __repr__(self) -> str:
        return (
            f"<{self.form}: {len(self.lengths)} IPv4 routes, {len(self.lengths6)} IPv6 routes, "
            f"{len(self.next_hops)} next hops>"
        )


def read_routes(path: str | Path) -> RouteFile:
    """Read a file of routes, whatever its form; told by its first bytes.

    Raises:
        TableError: the file cannot be read, or something in it is no route; names the line or offset.
    """
    data = _contents(path)
    try:
        if len(data) >= 8 and data[4:5] == b"\0":
            return _read_mrt(data)
        return _read_lines(data)
    except TableError as error:
        raise TableError(f"{path}, {error}") from None


def load_routes(path: str | Path) -> tuple[NDArray[np.uint32], NDArray[np.uint8], int]:
    """The IPv4 prefixes of a file, for when next hops do not matter.

    Returns:
        addresses, lengths, and how many IPv6 prefixes were skipped.

    Raises:
        TableError: as :func:`read_routes`.
    """
    file = read_routes(path)
    return file.addresses, file.lengths, len(file.lengths6)


def _contents(path: str | Path) -> bytes:
    try:
        with Path(path).open("rb") as file:
            magic = file.read(3)
            file.seek(0)
            if magic[:2] == b"\x1f\x8b":
                packed: Any = gzip.GzipFile(fileobj=file)
            else:
                packed = bz2.BZ2File(file) if magic == b"BZh" else file
            data: bytes = packed.read(LIMIT_BYTES + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise TableError(f"{path}: cannot read routes: it is broken ({error}): compress the file again") from error
    except OSError as error:
        raise TableError(
            f"{path}: cannot read routes: {error.strerror or error}: check the name and its permissions"
        ) from error
    if len(data) > LIMIT_BYTES:
        raise TableError(f"{path}: cannot read routes: it is larger than {LIMIT_BYTES} bytes unpacked")
    return data


def _read_lines(data: bytes) -> RouteFile:
    room = data.count(b"\n") + 1
    rows = np.empty((ROWS, room), np.int64)
    count = dumps = at = 0
    bytes_ = np.frombuffer(data, np.uint8)
    with lent(bytes_, rows) as (start, columns):
        while at < len(data):
            count, more, at, strange = parse_lines(start, at, len(data), columns, room, count, SEED[0])
            dumps += more
            if strange >= 0:
                *words, where = _read_line(data, strange, at)
                rows[:, count] = (*words, where, hash_hop(start, where, SEED[0]))
                count += 1
    return _collect("bgpdump" if dumps else "prefixes", data, rows[:, :count], 0)


def _read_line(data: bytes, at: int, after: int) -> tuple[int, ...]:
    """A line that the kernel does not understand: a rare form of an address, or nothing at all. Raises TableError."""
    line = data[at:after].decode("utf-8", "replace").strip()
    fields = line.split("|") if line.startswith("T") else line.split()
    text = (fields[5] if len(fields) > 8 else line) if line.startswith("T") else fields[0]
    try:
        if ":" in text:
            high, low, length = parse_prefix6(text)
        else:
            key = parse_prefix(text)
            high, low, length = key >> 6 << 32, 0, key & 63
        if "/" not in text:
            raise TableError(f"{text!r} is not a prefix: write it like 192.0.2.0/24")
        hop = (fields[8] if line.startswith("T") else "".join(fields[1:2])).encode()
        if len(hop) > HOP_BYTES_MAX:
            raise TableError(f"the next hop of {text} has {len(hop)} bytes: at most {HOP_BYTES_MAX}")
    except TableError as error:
        raise TableError(f"line {data.count(10, 0, at) + 1}: {error}") from None
    if hop == b"via":
        hop = "".join(fields[2:3]).encode()
    where = data.index(hop, at) if hop else 0
    words = np.array([high, low], np.uint64).view(np.int64).tolist()
    return (*words, length, 6 if ":" in text else 4, where << 8 | len(hop) if hop else 0)


def _read_mrt(data: bytes) -> RouteFile:
    kind = int.from_bytes(data[4:6], "big")
    if kind != TABLE_DUMP_V2:
        raise TableError(f"offset 0: an MRT record of type {kind}: only tables are read, TABLE_DUMP_V2, type 13")
    room = count_records(data)
    rows = np.empty((ROWS, room), np.int64)
    count = skipped = at = peers = 0
    with lent(np.frombuffer(data, np.uint8), rows) as (start, columns):
        while at < len(data):
            count, more, at, what = parse_records(start, at, len(data), columns, room, count, SEED[0], peers)
            skipped += more
            if what == PEERS:
                peers, at = read_peers(data, at)
            elif what in WHY:
                raise TableError(f"offset {at}: {WHY[what]}")
    return _collect("mrt", data, rows[:, :count], skipped)


def _collect(form: str, data: bytes, rows: Rows, skipped: int) -> RouteFile:
    highs, lows, lengths, families, where, hashes = rows
    hops, names = _number_hops(data, where, hashes, form == "mrt")
    four, six = families == 4, families == 6
    return RouteFile(
        form,
        (highs[four] >> 32).astype(np.uint32), lengths[four].astype(np.uint8), hops[four],
        np.stack([highs[six], lows[six]], axis=1).view(np.uint64), lengths[six].astype(np.uint8), hops[six],
        names, skipped,
    )  # fmt: skip


def _number_hops(data: bytes, where: Rows, hashes: Rows, binary: bool) -> tuple[Rows, list[str]]:
    """Next hops as numbers and what these stand for, in the order of their first use."""
    if not where.any():
        return np.zeros(len(where), np.int64), []
    _, first, which = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    names = []
    for place in where[first[order]].tolist():
        token = data[place >> 8 : (place >> 8) + (place & 255)]
        names.append(str(ipaddress.ip_address(token)) if binary and token else token.decode("utf-8", "replace"))
    if all(name.isascii() and name.isdigit() and len(name) < 10 for name in names):
        return np.array([int(name) for name in names], np.int64)[rank[which]], []
    return rank[which], names


__all__ = ["RouteFile", "load_routes", "read_routes"]
