"""The memory of a ring port: a ring of packets with a bell, for the graphs that share a pool.

::

    0      armed, and room to empty the bell into
    128    the ring (:mod:`wirespeed.sync.ring`)

The bell is a pipe. Unlike an eventfd it has an end that another process can open, at ``/proc/PID/fd`` (proc(5)), by the
same right by which it opens the memory. It holds a word for each time that the receiver was asleep; a full one says
enough, and nobody blocks on it.
"""

import contextlib
import os
import stat
from typing import Self

from wirespeed.errors import ArenaError
from wirespeed.jit import View, le64
from wirespeed.mem import directory
from wirespeed.mem.shared import Shared, hold_byte
from wirespeed.sync.ring import RingView, format_ring

_RING = 128


class Bell(View):
    """Whether the receiver sleeps."""

    armed = le64(0, "1: the receiver sleeps, or is about to")
    SIZE = _RING


class PacketRing(Shared):
    """A ring of descriptors, its bell, and a lock that says who receives.

    Args:
        size: packets it holds, a power of two.
        name: what guests find it by; None if the pool takes none.

    Attributes:
        ring: address of the ring.
        bell: descriptor of the pipe, both ends.
    """

    KIND = "packets"
    bell: int = -1

    def __init__(self, size: int, name: str | None) -> None:
        ends = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            self.bell = _open_pipe(os.getpid(), ends[0], os.fstat(ends[0]).st_ino)
        finally:
            for end in ends:
                os.close(end)
        try:
            self._create(
                _RING + RingView.bytes_needed(size), name, huge=False, packets=size,
                bell=self.bell, inode=os.fstat(self.bell).st_ino,
            )  # fmt: skip
        except BaseException:
            os.close(self.bell)
            self.bell = -1
            raise
        format_ring(self.ring, size)

    @property
    def ring(self) -> int:
        """Address of the ring."""
        return self.address + _RING

    @property
    def size(self) -> int:
        """Packets it holds."""
        return int(self.parameters["packets"])

    @classmethod
    def join(cls, name: str, pid: int) -> Self:
        """That of another process.

        Raises:
            ArenaError: there is none, or it cannot be opened.
        """
        made = cls._attach(name, pid, True)
        try:
            made.bell = _open_pipe(pid, made.parameters["bell"], made.parameters["inode"])
        except OSError as error:
            Shared.close(made)
            raise ArenaError(f"cannot open the bell of {name!r} of process {pid}: {error.strerror}") from error
        return made

    def claim(self) -> bool:
        """Be the one that receives, until :meth:`unclaim` or the end of the process; False if another is."""
        return hold_byte(self.region.fd, 0)

    def unclaim(self) -> None:
        """Let another receive."""
        hold_byte(self.region.fd, 0, hold=False)

    def close(self) -> None:
        """Let go of memory and bell; a second call does nothing."""
        bell, self.bell = self.bell, -1
        if bell >= 0:
            os.close(bell)
        super().close()


def _open_pipe(pid: int, descriptor: int, inode: int) -> int:
    """Both ends of a pipe of process ``pid`` in one descriptor."""
    opened = os.open(f"/proc/{pid}/fd/{descriptor}", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    found = os.fstat(opened)
    if found.st_ino != inode or not stat.S_ISFIFO(found.st_mode):
        os.close(opened)
        raise FileNotFoundError(2, "it was closed just now")
    return opened


def rings_of(name: str, pid: int) -> list[str]:
    """Which rings guests of the pool ``name`` of process ``pid`` can join."""
    with contextlib.suppress(ArenaError):
        mine = [e.name for e in directory.entries() if e.pid == pid and e.kind == PacketRing.KIND]
        return sorted(each.removeprefix(f"{name}.") for each in mine if each.startswith(f"{name}."))
    return []


__all__ = ["Bell", "PacketRing", "rings_of"]
