"""Write routes to a file that :mod:`wirespeed.tables.routes` reads back."""

import gzip
import os
from collections.abc import Iterable
from pathlib import Path

from wirespeed.errors import TableError


def save_prefixes(path: str | Path, routes: Iterable[tuple[str, str | int]]) -> None:
    """Write (prefix, next hop) as lines ``192.0.2.0/24 7``; gzip if the name ends in ``.gz``.

    Raises:
        TableError: the file cannot be written.
    """
    write(path, "".join(f"{prefix} {hop}\n" for prefix, hop in routes).encode())


def save_bgpdump(path: str | Path, routes: Iterable[tuple[str, str | int]]) -> None:
    """Write (prefix, next hop) as lines of ``bgpdump -m``, with nothing but these two and the marks of a table.

    Raises:
        TableError: the file cannot be written.
    """
    lines = (f"TABLE_DUMP2|0|B|0.0.0.0|0|{prefix}|0|IGP|{hop}|0|0||NAG||\n" for prefix, hop in routes)
    write(path, "".join(lines).encode())


def write(path: str | Path, data: bytes) -> None:
    """Write a file, whole or not at all; gzip if the name ends in ``.gz``. Raises TableError."""
    path = Path(path)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        fresh.write_bytes(gzip.compress(data, 6, mtime=0) if path.suffix == ".gz" else data)
        fresh.replace(path)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise TableError(f"{path}: cannot write routes: {error.strerror or error}") from error
