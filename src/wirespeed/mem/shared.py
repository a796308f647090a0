"""Shared: an object that is nothing but its memory, so that a second process can attach it by name.

::

    flows = ws.Counter("flows")            # this process: creates, and lists it under its name
    ...
    theirs = ws.Counter.attach("flows")    # another process: the same bytes, read-only
    theirs.value, theirs.alive

Each table, ring, pool and counter derives from :class:`Shared`. It keeps everything it knows in one region, at
offsets from the region's start (never an address: the other process maps it elsewhere), and what cannot be seen in
the memory, few plain values, in ``parameters``. Attached, it reads the same bytes while their owner changes them;
what changes something is refused unless it was attached ``writable``, which kinds with a single writer do not allow.

The memory lives until its last user closes it: whoever has attached it goes on reading after the owner's death, and
:attr:`Shared.alive` says that nobody keeps it up to date any more.
"""

import ctypes
import fcntl
import importlib
import operator
import os
import select
import stat
import struct
import weakref
from types import TracebackType
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from wirespeed.eal import mapping
from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import View, register, unregister
from wirespeed.mem import directory
from wirespeed.mem.region import Region


class Attached:
    """A region of another process: the same bytes, until :meth:`close`.

    Raises:
        ArenaError: it cannot be opened, or is gone.
    """

    def __init__(self, entry: directory.Entry, writable: bool) -> None:
        self.name, self.size, self.kind, self.why_not = entry.name, entry.size, entry.pages, ""
        path = f"/proc/{entry.pid}/fd/{entry.fd}"
        try:
            self.fd = os.open(path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise ArenaError(
                f"cannot attach {entry.name!r} of process {entry.pid}: {error.strerror}; "
                "only its own user and root may, while it runs"
            ) from error
        try:
            found = os.fstat(self.fd)
            if found.st_ino != entry.inode or not stat.S_ISREG(found.st_mode) or found.st_size < entry.size:
                raise ArenaError(f"{entry.name!r} of process {entry.pid} was closed just now")
            page = max(found.st_blksize, mapping.NORMAL_PAGE) if entry.pages == "hugetlb" else 2 << 20
            self.address = mapping.map_file(self.fd, entry.size, page, writable=writable)
        except OSError as error:
            os.close(self.fd)
            raise ArenaError(f"cannot map {entry.name!r} of process {entry.pid}: {error.strerror}") from error
        except ArenaError:
            os.close(self.fd)
            raise
        register(self.address, self.size, entry.name)

    def close(self) -> None:
        """Unmap; a second call does nothing."""
        if self.fd >= 0:
            unregister(self.address)
            mapping.unmap(self.address, self.size)
            os.close(self.fd)
            self.fd = -1


class Shared:
    """Base of what lives in one region. A class derives from it, says its ``KIND``, and calls :meth:`_create`.

    Attributes:
        name: what it is called in errors, /proc/self/maps, and by other processes if it was given by the user.
        address: of its first byte in this process; nodes get it.
        parameters: plain values that an attached copy needs beside the memory.
        owner: process that made it; this one unless it was attached.
        writable: whether it may be changed from here.
    """

    View: ClassVar[type[View]]
    KIND: ClassVar[str]
    """What it is: ``"lpm4"``. One kind, one class."""
    VERSION: ClassVar[int] = 1
    """Of its layout in memory; attaching another version is refused."""
    ATTACH_WRITABLE: ClassVar[bool] = False
    """Whether several processes may change it at a time."""

    name: str
    address: int
    region: Region | Attached
    parameters: dict[str, Any]
    owner: int
    writable: bool
    _finalizer: "weakref.finalize[Any, Any]"

    def _create(self, size: int, name: str | None, *, huge: bool | None = None, **parameters: Any) -> None:
        """Get ``size`` bytes of zeros; list them if there is a ``name``. ``huge``: from 1 MiB on, unless said."""
        if name is not None:
            directory.check_name(name)
        self.name = name or self.KIND
        self.parameters = parameters
        self.owner, self.writable = os.getpid(), True
        self._pidfd = -1
        region = Region(size, f"wirespeed-{self.name}", huge=size >= 1 << 20 if huge is None else huge)
        self.region, self.address = region, region.address
        self._finalizer = weakref.finalize(self, region.close)
        if name is not None:
            entry = self._entry()
            try:
                directory.publish(entry)
            except ArenaError:
                self._finalizer()
                raise
            self._finalizer.detach()
            self._finalizer = weakref.finalize(self, _retire, region, entry)

    def _entry(self) -> directory.Entry:
        born = directory.birth(self.owner)
        assert born is not None  # this process runs
        region, inode = self.region, os.fstat(self.region.fd).st_ino
        home = f"{type(self).__module__}:{type(self).__qualname__}"
        return directory.Entry(
            self.name, self.KIND, self.VERSION, home, self.owner, born, region.fd, inode, region.size, region.kind,
            self.parameters,
        )  # fmt: skip

    @classmethod
    def attach(cls, name: str, pid: int | None = None, writable: bool = False) -> Self:
        """The object called ``name`` of a running process.

        Args:
            name: as it was created.
            pid: whose, if several processes have one.
            writable: to change it too; only kinds that take many writers allow it.

        Raises:
            ArenaError: there is none, it is of another kind or layout version, or it cannot be opened.
        """
        if writable and not cls.ATTACH_WRITABLE:
            raise ArenaError(f"{name!r}: a {cls.KIND} has one writer, its own process: attach it without writable=True")
        return cls._attach(name, pid, writable)

    @classmethod
    def _attach(cls, name: str, pid: int | None, writable: bool) -> Self:
        """:meth:`attach`, for kinds that know by themselves who writes what."""
        entry = directory.find(name, pid)
        if entry.kind != cls.KIND:
            raise ArenaError(
                f"{name!r} of process {entry.pid} is of kind {entry.kind}, not {cls.KIND}: attach it as what it is"
            )
        if entry.version != cls.VERSION:
            raise ArenaError(
                f"{name!r} of process {entry.pid} has layout {entry.version} of {cls.KIND}, this is wirespeed with "
                f"layout {cls.VERSION}: run the same release in both"
            )
        self = cls.__new__(cls)
        self.name, self.parameters, self.owner, self.writable = name, entry.parameters, entry.pid, writable
        try:
            self._pidfd = os.pidfd_open(entry.pid)
        except OSError:
            raise ArenaError(f"cannot attach {name!r}: process {entry.pid} has just ended") from None
        try:
            region = Attached(entry, writable)
        except ArenaError:
            os.close(self._pidfd)
            raise
        self.region, self.address = region, region.address
        self._finalizer = weakref.finalize(self, _detach, region, self._pidfd)
        self._attached()
        return self

    def _attached(self) -> None:
        """What an attached copy sets up; the memory is at ``self.address``, ``self.parameters`` are there."""

    def _check_writable(self) -> None:
        """Call first in whatever changes the memory. Raises TableError."""
        if not self.writable:
            raise TableError(
                f"{self.name} belongs to process {self.owner} and is attached read-only: change it in that process"
            )

    def _words(self, dtype: Any, offset: int, count: int) -> NDArray[Any]:
        """``count`` elements of the memory, ``offset`` bytes into it, as an array that is the memory."""
        kind = np.dtype(dtype)
        memory = (ctypes.c_char * (kind.itemsize * count)).from_address(self.address + offset)
        return np.frombuffer(memory, dtype=kind, count=count)

    @property
    def alive(self) -> bool:
        """Whether the process that made it still runs; if not, what is read here will not change any more."""
        if self._pidfd < 0:
            return True
        poll = select.poll()
        poll.register(self._pidfd, select.POLLIN)
        return not poll.poll(0)

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory it takes."""
        return self.region.size

    @property
    def pages(self) -> str:
        """Kind of its memory: ``hugetlb``, ``thp`` or ``normal``."""
        return self.region.kind

    def close(self) -> None:
        """Give the memory back; no worker may use it any more. A second call does nothing."""
        self._finalizer()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def hold_byte(fd: int, at: int, hold: bool = True) -> bool:
    """Lock byte ``at`` of a file for whoever opened ``fd``, or let it go; False if another has it (fcntl(2)).

    The lock belongs to the open file, so the kernel takes it back when its last descriptor goes, however that happens.
    """
    wanted = struct.pack("hhqqi4x", fcntl.F_WRLCK if hold else fcntl.F_UNLCK, 0, at, 1, 0)  # struct flock
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, wanted)
    except BlockingIOError:
        return False
    return True


def attach(name: str, pid: int | None = None, writable: bool = False) -> Any:
    """The object called ``name`` of a running process, whatever it is. Made by ``ws.attach()``.

    Args:
        name: as it was created.
        pid: whose, if several processes have one.
        writable: to change it too; only kinds that take many writers allow it.

    Raises:
        ArenaError: there is none, its class is not known here, or it cannot be opened.
    """
    entry = directory.find(name, pid)
    return class_of(entry).attach(name, entry.pid, writable)


def class_of(entry: directory.Entry) -> type[Shared]:
    """The class of a listed object. Raises ArenaError: it cannot be imported, or is no such class."""
    module, _, path = entry.home.partition(":")
    try:
        found = operator.attrgetter(path)(importlib.import_module(module))
    except (Exception, SystemExit):  # whatever a module of somebody's does when it is imported
        found = None
    if not (isinstance(found, type) and issubclass(found, Shared)):
        raise ArenaError(
            f"{entry.name!r} of process {entry.pid} is a {entry.kind}, and {entry.home} cannot be imported here: "
            "run the same program or release in both"
        )
    return found


def _retire(region: Region, entry: directory.Entry) -> None:
    if os.getpid() == entry.pid:  # not a child that inherited it
        directory.withdraw(entry.pid, entry.name, entry.inode)
    region.close()


def _detach(region: Attached, pidfd: int) -> None:
    region.close()
    os.close(pidfd)


__all__ = ["Attached", "Shared", "attach", "class_of", "hold_byte"]
