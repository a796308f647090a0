"""The large capture that the reading benches read: real packets, repeated up to a gigabyte.

All Ethernet frames of all captures of a folder, in order, over and over up to the target size; written
as one pcap (Ethernet, microseconds, snap length 262144), one microsecond between packets. Without a
folder of captures the frames are synthetic, and :attr:`Capture.source` says so. The file is kept in the
cache folder under a name made of its content's digest: the second run finds it.

Memory map of a record: seconds (4), microseconds (4), captured length (4), wire length (4), frame; all
little-endian. The records of one round are laid out once; each further round only changes the times.

Reference: draft-ietf-opsawg-pcap.
"""

from __future__ import annotations

import os
import shutil
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import numpy as np

from wirespeed.bench.errors import BenchError
from wirespeed.bench.frames import LINKTYPE_ETHERNET, MAX_SNAPLEN, Frame, read_frames
from wirespeed.bench.synthetic import mixed_frames

GIGABYTE = 1_000_000_000
FILE_HEADER = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, MAX_SNAPLEN, LINKTYPE_ETHERNET)
_RECORD_SIZE = 16
_FIRST_SECOND = 1_767_225_600  # 2026-01-01 00:00:00 UTC, when the first packet "arrived"

Progress = Callable[[int, int], None]
"""Called with (bytes written, bytes wanted)."""


@dataclass(frozen=True, slots=True)
class Capture:
    """A capture on disk, and where its packets come from (a sentence for the report)."""

    path: Path
    size: int
    packets: int
    source: str


def write_capture(path: Path, frames: Iterable[Frame]) -> None:
    """Write `frames` as a pcap, once each, a microsecond apart."""
    records = _Records(list(frames))
    with path.open("wb") as file:
        file.write(FILE_HEADER)
        file.write(records.round(0))


def build_capture(
    target: int = GIGABYTE,
    captures: Path | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Capture:
    """The capture of about `target` bytes (the last whole packet below it), built unless it is there.

    Arguments:
        captures: a folder searched with its sub-folders; None takes the project's ``../shared`` folder
            if it is there, else synthetic frames.
        cache: where the file is kept; None is ``$XDG_CACHE_HOME/wirespeed/bench``.

    Raises BenchError for a folder without Ethernet packets or a disk without space.
    """
    frames, source = _frames(captures, target)
    records = _Records(frames)
    rounds, rest = divmod(max(target - len(FILE_HEADER), 0), records.size)
    tail = records.fitting(rest)
    size = len(FILE_HEADER) + rounds * records.size + records.end(tail)
    packets = rounds * records.count + tail
    cache = cache or default_cache()
    path = cache / f"{size}-{blake2b(records.round(0), digest_size=8).hexdigest()}.pcap"
    if not (path.exists() and path.stat().st_size == size):
        cache.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(cache).free
        if free < size + size // 10:
            raise BenchError(
                f"{cache}: {free / 1e9:.1f} GB free, the capture needs {size / 1e9:.1f} GB; "
                "free some, give another cache folder (XDG_CACHE_HOME) or a smaller target size"
            )
        part = path.with_suffix(f".part{os.getpid()}")
        try:
            with part.open("wb") as file:
                file.write(FILE_HEADER)
                for n in range(rounds + 1):
                    file.write(records.round(n) if n < rounds else records.round(n)[: records.end(tail)])
                    if progress:
                        progress(file.tell(), size)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return Capture(path, size, packets, f"{source}, repeated to {size / 1e6:,.0f} MB, {packets:,} packets")


def default_cache() -> Path:
    """``$XDG_CACHE_HOME/wirespeed/bench``, by default below ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "wirespeed" / "bench"


def default_captures() -> Path | None:
    """The folder ``shared/data/captures`` beside the project, seen from its source or from here."""
    for root in (Path(__file__).resolve().parents[3], Path.cwd()):
        folder = root.parent / "shared" / "data" / "captures"
        if folder.is_dir():
            return folder
    return None


def _frames(captures: Path | None, target: int) -> tuple[list[Frame], str]:
    """The frames of one round, and the sentence that says whose they are."""
    folder = captures or default_captures()
    if folder is None:
        frames = mixed_frames()
        return frames, f"{len(frames):,} synthetic frames (no captures at hand: --captures DIR)"
    if not folder.is_dir():
        raise BenchError(f"{folder}: no such folder; give one with captures, or none for synthetic frames")
    found: list[Frame] = []
    size, files = 0, 0
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".pcap", ".pcapng", ".cap") and p.is_file()):
        if size >= target:
            break
        before = len(found)
        found.extend(read_frames(path))
        size += sum(_RECORD_SIZE + len(frame.data) for frame in found[before:])
        files += len(found) > before
    if not found:
        raise BenchError(f"{folder}: no Ethernet packets in it; give a folder with .pcap or .pcapng files")
    return found, f"{len(found):,} Ethernet frames of {files} captures in {folder}"


class _Records:
    """The records of one round, laid out as in the file."""

    def __init__(self, frames: list[Frame]) -> None:
        lengths = np.array([len(frame.data) for frame in frames], dtype=np.int64)
        ends = np.cumsum(lengths + _RECORD_SIZE)
        starts = ends - lengths - _RECORD_SIZE
        parts = (struct.pack("<IIII", 0, 0, len(f.data), f.wire_length) + f.data for f in frames)
        self._bytes = np.frombuffer(bytearray(b"".join(parts)), dtype=np.uint8)
        self._ends = ends
        self._times = starts[:, None] + np.arange(8)  # where the seconds and microseconds of each record are
        self.count = len(frames)
        self.size = int(ends[-1])

    def round(self, n: int) -> bytes:
        """The records of round `n`, with the times of its packets."""
        microseconds = np.arange(n * self.count, (n + 1) * self.count, dtype=np.int64)
        stamps = np.empty((self.count, 2), dtype="<u4")
        stamps[:, 0] = _FIRST_SECOND + microseconds // 1_000_000
        stamps[:, 1] = microseconds % 1_000_000
        self._bytes[self._times] = stamps.view(np.uint8)
        return self._bytes.tobytes()

    def fitting(self, size: int) -> int:
        """How many records, from the first on, fit in `size` bytes."""
        return int(np.searchsorted(self._ends, size, side="right"))

    def end(self, count: int) -> int:
        """How many bytes the first `count` records take."""
        return int(self._ends[count - 1]) if count else 0
