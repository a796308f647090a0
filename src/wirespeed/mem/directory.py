"""The directory of named memory: what other processes can attach, and who owns it.

A region is a memfd: it has no name in any file system and is gone with its last user, so nothing is left behind
by a process that was killed. What another process needs to find one is a small file beside those of its siblings::

    /dev/shm/wirespeed-0/4711/flows.json     directory of user 0, process 4711, object "flows"

It says what the memory holds, in which layout, and which descriptor of which process leads to it; the memory itself
is opened through ``/proc/4711/fd/9`` (proc(5)), which the kernel grants to the same user and to root. Names belong
to a process: two processes may both have an object "flows". What a dead process left here is swept by the next
look; a process that has the number of a dead one is told apart by its time of birth.

``WIRESPEED_RUN`` puts the directory elsewhere.
"""

import atexit
import contextlib
import os
import re
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from wirespeed.errors import ArenaError

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:+-]{0,62}")


class Entry(msgspec.Struct, frozen=True):
    """One object that can be attached.

    ``home`` is where its class is, ``module:name``; ``born`` is when its process started, in clock ticks since boot;
    ``inode`` tells the memory from whatever the descriptor number may lead to later; ``parameters`` is what its class
    needs to know beside the memory itself.
    """

    name: str
    kind: str
    version: int
    home: str
    pid: int
    born: int
    fd: int
    inode: int
    size: int
    pages: str
    parameters: dict[str, Any]


def folder() -> Path:
    """Where this user's processes list what they have."""
    return Path(os.environ.get("WIRESPEED_RUN") or f"/dev/shm/wirespeed-{os.geteuid()}")


def _own_folder() -> Path:
    """The same, once it is certain that nobody else can write there. Raises ArenaError."""
    place = folder()
    try:
        status = os.lstat(place)
    except FileNotFoundError:
        return place
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & 0o022:
        raise ArenaError(f"{place} can be written by others: remove it, or set WIRESPEED_RUN to a folder of yours")
    return place


def check_name(name: str) -> None:
    """Raises ArenaError: not something that other processes could ask for."""
    if not _NAME.fullmatch(name):
        raise ArenaError(
            f"memory cannot be called {name!r}: use 1 to 63 letters, digits and _ . : + -, the first a letter or digit"
        )


def birth(pid: int) -> int | None:
    """When a process started, in clock ticks since boot (proc(5), stat field 22); None if there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def publish(entry: Entry) -> None:
    """List an object of this process. An older one of the same name is not found any more: a cell of a notebook
    that is run twice makes the same table anew.

    Raises:
        ArenaError: a bad name, or the directory cannot be written.
    """
    check_name(entry.name)
    path = _own_folder() / str(entry.pid) / f"{entry.name}.json"
    try:
        try:
            _write(path, entry)
        except FileNotFoundError:  # the last listed object was closed meanwhile: by another thread, by the collector
            _write(path, entry)
    except OSError as error:
        raise ArenaError(
            f"cannot list {entry.name!r} in {path.parent}: {error.strerror}; set WIRESPEED_RUN to a folder of yours"
        ) from error


def _write(path: Path, entry: Entry) -> None:
    folder().mkdir(mode=0o700, parents=True, exist_ok=True)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    _sweep_own(path.parent, entry.born)
    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.encode(entry))
    fresh.rename(path)  # readers see the old one or the new one


def withdraw(pid: int, name: str, inode: int) -> None:
    """Take an object off the list, unless the name is another's by now."""
    path = folder() / str(pid) / f"{name}.json"
    entry = _read(path)
    if entry is not None and entry.inode == inode:
        path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # others are still listed
            path.parent.rmdir()


def entries() -> Iterator[Entry]:
    """What can be attached now, by process and name; what dead processes left is swept.

    Raises:
        ArenaError: others can write where this user's processes list what they have.
    """
    here = _own_folder()
    places = [place for place in here.iterdir() if place.name.isdigit()] if here.is_dir() else []
    for place in sorted(places, key=lambda place: int(place.name)):
        born = birth(int(place.name))
        listed: list[Path] = []
        with contextlib.suppress(OSError):  # gone meanwhile
            listed = sorted(place.glob("*.json"))
        for path in listed:
            entry = _read(path)
            if entry is None:
                continue
            if entry.born == born:
                yield entry
            else:
                path.unlink(missing_ok=True)
        if born is None:
            for path in place.glob("*.new"):  # killed while it wrote
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):
                place.rmdir()


def find(name: str, pid: int | None = None) -> Entry:
    """The object called ``name``, of process ``pid`` or of whichever has one.

    Raises:
        ArenaError: nobody has one, or several processes do.
    """
    every = list(entries())
    found = [entry for entry in every if entry.name == name and pid in (None, entry.pid)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ArenaError(
            f"{len(found)} processes have memory called {name!r}: say which, pid={found[0].pid} to {found[-1].pid}"
        )
    there = sorted({entry.name for entry in every if pid in (None, entry.pid)})
    whose = f"process {pid}" if pid is not None else "any running process"
    known = f"there is {', '.join(there[:8])}{', ...' if len(there) > 8 else ''}" if there else "there is none at all"
    raise ArenaError(f"no memory called {name!r} in {whose}: {known}; only objects that were given a name are listed")


def _read(path: Path) -> Entry | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Entry)
    except (OSError, msgspec.MsgspecError):  # withdrawn meanwhile, half written, or of another release
        return None


def _sweep_own(place: Path, born: int) -> None:
    """Remove what a dead process with our number left."""
    for path in place.glob("*.json"):
        entry = _read(path)
        if entry is not None and entry.born != born:
            path.unlink(missing_ok=True)


def _leave(pid: int) -> None:
    if os.getpid() == pid:  # not a child that inherited us
        shutil.rmtree(folder() / str(pid), ignore_errors=True)


atexit.register(_leave, os.getpid())
os.register_at_fork(after_in_child=lambda: atexit.register(_leave, os.getpid()))
