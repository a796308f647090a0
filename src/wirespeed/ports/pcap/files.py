"""The file that a capture is written to, or the files one after the other: opened, compressed, rotated, removed.

Without rotation there is one, of the name given. With ``rotate`` (bytes of capture, before compression) or ``every``
(seconds from the first packet of a file) they are numbered: ``out-00001.pcap``, ``out-00002.pcap``; with ``files``
only the last so many stay. A file never exceeds ``rotate`` unless one packet alone does.

Nothing is lost when the disk is full: what was not taken is offered again, in the middle of a record if need be. A
pipe nobody reads from is offered it again too; one whose reader is gone has failed for good.
"""

import contextlib
import errno
import os
import stat
import time
from collections.abc import Callable

from wirespeed.errors import CaptureError
from wirespeed.ports.pcap.packing import Compressor, compressor, packing_named, without_packing

_NO_LIMIT = 1 << 62
_PIECE = 512 << 10  # bytes of one write: on ext4, 256 KiB and 1 MiB were twice as fast as 4 MiB
_PACKED_PIECE = 1 << 20  # bytes to compress at once
_FLUSH_S = 1.0  # a compressed file is complete up to a second ago
_FOR_GOOD = (errno.EPIPE, errno.EBADF, errno.EIO, errno.ENODEV)


class Files:
    """Where the bytes of a capture go.

    Args:
        path: the name; ``-`` is the standard output.
        rotate, every: see above; 0: no rotation.
        keep: how many files stay; 0: all.

    Attributes:
        error: why the last write failed, until one succeeds.
        started: when the first packet of this file was written, by ``clock``; 0: it has none.
        reserved: bytes that :meth:`end` will write, which ``left`` does not offer to packets.
        clock: what tells the time, in seconds.

    Raises:
        CaptureError: it cannot be written.
    """

    def __init__(self, path: str, rotate: int = 0, every: float = 0.0, keep: int = 0) -> None:
        self.path, self.rotate, self.every, self.keep = path, rotate, every, keep
        self.packing = packing_named(path)
        self.error: OSError | None = None
        self.started = 0.0
        self.reserved = 0
        self.clock: Callable[[], float] = time.monotonic
        self._number = int(self.rotates)
        self._packer: Compressor | None = None
        self._flush_mode = 0
        self._unflushed, self._flushed = False, 0.0
        self._pending = memoryview(b"")  # bytes that the file must get before anything else
        self._held = 0  # bytes of capture that are compressed, but not written yet
        self._written = 0  # bytes of capture in this file
        self._new = self._ended = False
        if self.packing:
            compressor(path, self.packing)  # is the package there?
        if self.rotates and (path == "-" or (os.path.exists(path) and not os.path.isfile(path))):
            raise CaptureError(f"{path}: is no file, and cannot be rotated: leave rotate and every out")
        try:
            self._fd = self._open()
        except OSError as error:
            raise self.refusal(error) from error

    @property
    def rotates(self) -> bool:
        """Whether there may be more than one file."""
        return bool(self.rotate or self.every)

    @property
    def regular(self) -> bool:
        """Whether this is a file, no pipe and no device."""
        return stat.S_ISREG(os.fstat(self._fd).st_mode)

    @property
    def name(self) -> str:
        """Of the file that is written now."""
        return self._name(self._number)

    def _name(self, number: int) -> str:
        if not self.rotates:
            return self.path
        root, ending = os.path.splitext(without_packing(self.path))
        return f"{root}-{number:05}{ending}{self.path[len(without_packing(self.path)) :]}"

    def refusal(self, error: OSError) -> CaptureError:
        """The error to raise when it cannot be written from the start."""
        return CaptureError(f"{self.name}: cannot be written: {error.strerror}: name a file where you may write")

    def _open(self) -> int:
        if self.path == "-":
            return os.dup(1)
        self._new = not os.path.exists(self.name)
        fd = os.open(self.name, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            os.set_blocking(fd, False)  # ours alone, unlike the standard output
        return fd

    # Writing -----------------------------------------------------------------------------------------------

    def begin(self, header: bytes) -> None:
        """Empty the file and write its beginning.

        Raises:
            OSError: it cannot be done.
        """
        if self.regular:
            os.ftruncate(self._fd, 0)
        self._begin(header)
        if not self._push():
            raise self.error or OSError(errno.EAGAIN, "nobody reads from it")

    def _begin(self, header: bytes) -> None:
        self._written, self.started, self._ended = len(header), 0.0, False
        if self.packing:
            self._packer, self._flush_mode = compressor(self.path, self.packing)
            header = self._packer.compress(header)
        self._pending = memoryview(header)
        self._unflushed, self._flushed = True, self.clock()

    @property
    def left(self) -> int:
        """Bytes of capture that this file may still take."""
        return max(self.rotate - self.reserved - self._written, 0) if self.rotate else _NO_LIMIT

    @property
    def due(self) -> bool:
        """Whether this file has lasted long enough."""
        return bool(self.every and self.started and self.clock() - self.started >= self.every)

    @property
    def piece(self) -> int:
        """The most bytes to offer at once."""
        return _PACKED_PIECE if self.packing else _PIECE

    def write(self, data: memoryview) -> int:
        """Write from the front of ``data``; how many bytes were taken, 0 if none can be now (``error`` says why)."""
        if not self._held and not self._push():
            return 0
        done = self._write(data) if self._packer is None else self._compress(self._packer, data)
        if done and not self.started:
            self.started = self.clock()
        self._written += done
        return done

    def _compress(self, packer: Compressor, data: memoryview) -> int:
        """All of it through the compressor; it is taken once the file has what it became.

        So what is given up in between was whole records: half a one could not be taken out of the file again.
        """
        if not self._held:
            self._held = len(data)
            self._pending = memoryview(packer.compress(data))
            self._unflushed = True
        if not self._push():
            return 0
        done, self._held = self._held, 0
        return done

    def flush(self) -> None:
        """Let the file have what the compressor kept, now and then."""
        if self._packer is not None and self._unflushed and self.clock() - self._flushed >= _FLUSH_S and self._push():
            self._pending = memoryview(self._packer.flush(self._flush_mode))
            self._unflushed, self._flushed = False, self.clock()
            self._push()

    def _push(self) -> bool:
        """Write what must come first; whether all of it is written."""
        while self._pending:
            done = self._write(self._pending)
            if not done:
                return False
            self._pending = self._pending[done:]
        return True

    def _write(self, data: memoryview) -> int:
        try:
            done = os.write(self._fd, data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self.error = error
            return 0
        self.error = None
        return done

    @property
    def failed(self) -> bool:
        """Whether it is no use to try again."""
        return self.error is not None and self.error.errno in _FOR_GOOD

    # From one to the next, and the end ------------------------------------------------------------------------

    def end(self, trailer: bytes) -> bool:
        """Write the end of this file; False if the disk does not take all of it now: ask again."""
        if not self._ended and self._push():
            self._pending = memoryview(
                self._packer.compress(trailer) + self._packer.flush() if self._packer else trailer
            )
            self._packer, self._ended = None, True
        return self._ended and self._push()

    def next(self, header: bytes) -> None:
        """Go on in another file; an :meth:`end` was written to this one.

        Raises:
            OSError: it cannot be made; this one stays.
        """
        self._number += 1
        try:
            fd = self._open()
            os.ftruncate(fd, 0)
        except OSError:
            self._number -= 1
            raise
        os.close(self._fd)
        self._fd = fd
        self._begin(header)
        if self.keep and self._number > self.keep:
            with contextlib.suppress(OSError):
                os.unlink(self._name(self._number - self.keep))

    def cut(self, back: int) -> None:
        """Take the last ``back`` bytes away: the part of a record whose rest is given up, compressed or not."""
        self._held = 0
        with contextlib.suppress(OSError):
            if back and self.regular and not self.packing:
                os.ftruncate(self._fd, os.lseek(self._fd, -back, os.SEEK_CUR))  # what comes next must leave no hole
                self._written -= back

    def close(self) -> str:
        """Close; what the kernel says about it, empty if nothing. NFS and quotas tell it here."""
        fd, self._fd = self._fd, -1
        try:
            if fd >= 0:
                os.close(fd)
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def give_up(self) -> None:
        """Nothing was written: leave things as they were."""
        self.close()
        if self._new and self.path != "-":
            with contextlib.suppress(OSError):
                os.unlink(self.name)


__all__ = ["Files"]
