"""Read a file of prefixes: one a line, plain or gzip, as route collectors and ``ip route`` dumps give them.

Empty lines and lines that start with ``#`` are passed over; IPv6 prefixes are counted and passed over. What
follows a prefix after a space or tab is ignored. A million lines take well under a second: the bytes are
read by a kernel.
"""

import gzip
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import kernel
from wirespeed.tables.prefix import parse_prefix

_NEWLINE, _CR, _TAB, _SPACE, _HASH, _DOT, _SLASH, _ZERO, _COLON = 10, 13, 9, 32, 35, 46, 47, 48, 58


@kernel
def _parse(data: Any, addresses: Any, lengths: Any) -> tuple[int, int, int]:
    """(IPv4 prefixes found, IPv6 prefixes skipped, offset of the first bad line or -1)."""
    found = skipped = at = 0
    end = len(data)
    while at < end:
        line = at
        while at < end and (int(data[at]) == _SPACE or int(data[at]) == _TAB):
            at += 1
        start = at
        value = address = dots = digits = 0
        slash = 0
        bad = colon = False
        byte = int(data[at]) if at < end else _NEWLINE
        comment = byte == _HASH
        while at < end and byte != _NEWLINE and byte != _SPACE and byte != _TAB and byte != _CR:
            if byte == _COLON:
                colon = True
            elif _ZERO <= byte < _ZERO + 10:
                value = value * 10 + byte - _ZERO
                digits += 1
                bad |= digits > 3 or value > 255
            elif byte in (_DOT, _SLASH):
                bad |= digits == 0 or slash > 0
                address = address << 8 | value
                value = digits = 0
                if byte == _DOT:
                    dots += 1
                else:
                    slash = 1
            else:
                bad = True
            at += 1
            byte = int(data[at]) if at < end else _NEWLINE
        empty = at == start
        while at < end and int(data[at]) != _NEWLINE:
            at += 1
        at += 1
        if colon and not comment:
            skipped += 1
        elif not (empty or comment):
            if bad or dots != 3 or slash != 1 or digits == 0 or value > 32:
                return found, skipped, line
            if address & (0xFFFF_FFFF >> value):
                return found, skipped, line
            addresses[found] = address
            lengths[found] = value
            found += 1
    return found, skipped, -1


def load_routes(path: str | Path) -> tuple[NDArray[np.uint32], NDArray[np.uint8], int]:
    """The IPv4 prefixes of a file.

    Returns:
        addresses, lengths, and how many IPv6 prefixes were skipped.

    Raises:
        TableError: the file cannot be read, or a line is no prefix; names the line.
    """
    try:
        data = Path(path).read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
    except OSError as error:
        raise TableError(
            f"{path}: cannot read routes: {error.strerror or error}: check the name and its permissions"
        ) from error
    except (EOFError, zlib.error) as error:
        raise TableError(f"{path}: cannot read routes: broken gzip ({error}): compress the file again") from error
    lines = data.count(b"\n") + 1
    addresses, lengths = np.empty(lines, np.uint32), np.empty(lines, np.uint8)
    found, skipped, bad = _parse(np.frombuffer(data, np.uint8), addresses, lengths)
    if bad >= 0:
        text = data[bad:].split(b"\n", 1)[0][:60].decode("ascii", "replace").strip()
        number = data.count(b"\n", 0, bad) + 1
        raise TableError(f"{path}, line {number}: {_why(text)}")
    return addresses[:found].copy(), lengths[:found].copy(), skipped


def _why(text: str) -> str:
    try:
        parse_prefix(text.split()[0])
    except (TableError, IndexError) as error:
        return str(error) or f"{text!r} is not a prefix"
    return f"{text!r} is not a prefix: write it like 192.0.2.0/24"
