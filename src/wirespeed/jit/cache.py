"""Where compiled code is kept between runs, and when it goes stale.

Numba's own cache key is one function's signature, byte code and file: an edit in a file that function
imports goes unseen. So everything compiled here is stored under a directory named by a digest of *all*
of wirespeed's sources, the versions of Numba and llvmlite, and the processor; another version of any of
them simply looks somewhere else. Old directories are removed, newest kept.

This module must be imported before any decorator runs: Numba reads the directory when it decorates.
"""

import contextlib
import hashlib
import os
import platform
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
import numba

_KEEP = 6  # digests kept on disk; the rest, oldest first, are deleted
_IN_USE_S = 3600  # but none that was opened so recently


def _sources() -> Path:
    return Path(__file__).resolve().parent.parent


def _digest() -> str:
    """Digest of our sources, the compilers and the processor, as 16 hex digits."""
    digest = hashlib.sha256()
    for path in sorted(_sources().rglob("*.py")):
        digest.update(str(path.relative_to(_sources())).encode())
        digest.update(path.read_bytes())
    for part in (numba.__version__, llvmlite.__version__, sys.version, platform.machine()):
        digest.update(part.encode())
    digest.update(llvm.get_host_cpu_name().encode())
    digest.update(llvm.get_host_cpu_features().flatten().encode())
    return digest.hexdigest()[:16]


def _candidates() -> list[Path]:
    chosen = os.environ.get("WIRESPEED_CACHE")
    if chosen:
        return [Path(chosen)]
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return [Path(home) / "wirespeed", Path(tempfile.gettempdir()) / f"wirespeed-{os.getuid()}"]


def _open() -> Path:
    """The first directory that can be written; created, and pruned of old digests."""
    digest = _digest()
    for root in _candidates():
        place = root / digest
        try:
            place.mkdir(parents=True, exist_ok=True)
            (place / "stamp").write_text("the time of this file is the time of last use\n")
        except OSError:
            continue
        _prune(root)
        return place
    place = Path(tempfile.mkdtemp(prefix="wirespeed-"))
    return place


def _used(stamp: Path) -> float:
    """When a directory was used last; 0 if another process has just pruned it."""
    try:
        return stamp.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _prune(root: Path) -> None:
    stamps = sorted(root.glob("*/stamp"), key=_used, reverse=True)
    for stamp in stamps[_KEEP:]:
        if _used(stamp) > time.time() - _IN_USE_S:
            continue  # a program that runs may still write there
        shutil.rmtree(stamp.parent, ignore_errors=True)


def forgive(kept: Any) -> None:
    """Let a kernel's cache do without its directory: a process that gave its privileges up may not write there."""
    load, save = kept.load_overload, kept.save_overload

    def load_overload(*arguments: Any) -> Any:
        try:
            return load(*arguments)
        except OSError:
            return None

    def save_overload(*arguments: Any) -> None:
        with contextlib.suppress(OSError):
            save(*arguments)

    kept.load_overload, kept.save_overload = load_overload, save_overload


DIRECTORY: Path = _open()
"""The directory of this version's machine code and generated modules."""

numba.config.CACHE_DIR = str(DIRECTORY)
