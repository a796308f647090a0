"""gzip and zstd, on both sides of a capture: which one a file is in, out of it, and into it.

A file that is read shows by its first bytes what it is in, whatever it is called; one that is written, by its name.
zstd needs the package ``zstandard``; only who has such a file must install it. All of this runs in threads of control
code (:mod:`pcap_stream`, :mod:`pcap_writer`): both libraries work without the interpreter lock.

A file may consist of several members (gzip) or frames (zstd), one after the other, and end in padding of zeros.

References: RFC 1952, RFC 8878.
"""

import importlib
import zlib
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from wirespeed.errors import CaptureError

MAGICS: dict[bytes, str] = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}
SUFFIXES: dict[str, str] = {".gz": "gzip", ".zst": "zstd"}

_GZIP = 31  # zlib's sign for "with gzip's header and trailer"
_LEVEL = 1  # the fastest, because packets wait for it
_PIECE = 1 << 16  # bytes of one piece that comes out of gzip; where data is damaged, so much before it is lost
_SIP = 1 << 12  # bytes of zstd at once, since what comes out has no other bound: 4 bytes may become 128 KiB


class Damaged(Exception):
    """Compressed data that is none, or that ends early; says which."""


class Compressor(Protocol):
    """What zlib and zstandard have in common."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Compressed bytes, of this data or of some before."""

    def flush(self, mode: int = ..., /) -> bytes:
        """The rest; with a mode of the library's, up to here."""


def packing_of(start: bytes) -> str:
    """``gzip``, ``zstd`` or empty, by the first four bytes of a file."""
    return next((name for magic, name in MAGICS.items() if start.startswith(magic)), "")


def packing_named(path: str) -> str:
    """``gzip``, ``zstd`` or empty, by the end of a file's name."""
    return next((name for suffix, name in SUFFIXES.items() if path.endswith(suffix)), "")


def without_packing(path: str) -> str:
    """The name without the ending that :func:`packing_named` looks at."""
    for suffix in SUFFIXES:
        path = path.removesuffix(suffix)
    return path


def zstandard(path: str) -> Any:
    """The module.

    Raises:
        CaptureError: it is not installed.
    """
    try:
        return importlib.import_module("zstandard")
    except ImportError:
        raise CaptureError(f"{path}: zstd needs a package: pip install zstandard, or use gzip") from None


def compressor(path: str, packing: str) -> tuple[Compressor, int]:
    """Something that compresses, and the mode that makes it flush up to here.

    Raises:
        CaptureError: the package for it is missing.
    """
    if packing == "zstd":
        module = zstandard(path)
        return module.ZstdCompressor(level=_LEVEL).compressobj(), module.COMPRESSOBJ_FLUSH_BLOCK
    return zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP), zlib.Z_SYNC_FLUSH


def unpacked(path: str, packing: str, pieces: Iterator[bytes]) -> Iterator[bytes]:
    """What the compressed ``pieces`` hold, piece by piece.

    Raises:
        Damaged: after everything before the damage came out.
        CaptureError: the package for it is missing.
    """
    if packing == "zstd":
        return _frames(zstandard(path), pieces)
    return _members(pieces)


def _members(pieces: Iterator[bytes]) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP)
    begun = False
    try:
        for piece in pieces:
            data = piece if begun else piece.lstrip(b"\0")
            full = False  # the piece that came out last: then more may be inside
            while data or full:
                begun = True
                out = member.decompress(data, _PIECE)
                yield out
                data, full = member.unconsumed_tail, len(out) == _PIECE
                if member.eof:
                    data, full, begun = member.unused_data.lstrip(b"\0"), False, False
                    member = zlib.decompressobj(_GZIP)
    except zlib.error as error:
        raise Damaged(f"is damaged ({error})") from None
    if begun:
        raise Damaged("ends early")


def _frames(module: Any, pieces: Iterator[bytes]) -> Iterator[bytes]:
    fresh: Callable[[], Any] = module.ZstdDecompressor(max_window_size=1 << 27).decompressobj
    frame, begun = fresh(), False
    try:
        for piece in pieces:
            data = piece if begun else piece.lstrip(b"\0")
            for at in range(0, len(data), _SIP):
                part = data[at : at + _SIP]
                while part:
                    begun = True
                    yield frame.decompress(part)
                    part = b""
                    if frame.eof:
                        part, frame, begun = frame.unused_data.lstrip(b"\0"), fresh(), False
    except module.ZstdError as error:
        raise Damaged(f"is damaged ({error})") from None
    if begun:
        raise Damaged("ends early")


__all__ = [
    "Compressor",
    "Damaged",
    "compressor",
    "packing_named",
    "packing_of",
    "unpacked",
    "without_packing",
    "zstandard",
]
