"""gzip on both sides of a capture: out of one into an unlinked file, and into one from a pipe.

Reading: compressed data cannot be walked by address, so it is decompressed at open into a temporary file
without a name (in ``$TMPDIR``, ``/tmp`` or ``/var/tmp``), which is mapped like any other. A file, not
memory: the page cache keeps it in memory while there is room, and the disk takes what is too much. What
cannot be decompressed ends the data, and the packets before it are read (:attr:`Unpacked.fault`).

Writing: the worker writes into a pipe, and a thread of its own compresses what comes out. zlib works without
the interpreter lock; a full pipe holds the worker, which is the same as a slow disk does. If the thread
fails it closes its end, and the worker's next write fails as on a full disk.

Reference: RFC 1952.
"""

import contextlib
import errno
import fcntl
import os
import tempfile
import threading
import zlib

from wirespeed.errors import CaptureError

_CHUNK = 1 << 20
_LEVEL = 1  # the fastest, because packets wait for it
_GZIP = 31  # zlib's sign for "with gzip's header and trailer"
_PIPE_BYTES = 1 << 20


class Unpacked:
    """``source``, decompressed: an open descriptor without a name, and what was wrong, if anything.

    Args:
        name: the file, for messages.
        source: a descriptor at the beginning of the gzip data.
        limit: the most bytes it may become; -1: what the disk holds.

    Raises:
        CaptureError: no room for it, or more than ``limit``.
    """

    def __init__(self, name: str, source: int, limit: int = -1) -> None:
        self.size = 0
        self.fault = ""
        with tempfile.TemporaryFile(prefix="wirespeed-", buffering=0) as file:
            try:
                self._unpack(source, file.fileno(), name, limit)
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                    raise
                raise CaptureError(
                    f"{name}: no room to decompress it in {tempfile.gettempdir()} ({error.strerror} after "
                    f"{self.size} bytes): free some, or set TMPDIR to a larger disk"
                ) from error
            self.fd = os.dup(file.fileno())

    def _unpack(self, source: int, target: int, name: str, limit: int) -> None:
        member = zlib.decompressobj(_GZIP)
        data = b""
        try:
            while True:
                data = member.unconsumed_tail or os.read(source, _CHUNK)
                if not data:
                    break
                self._write(target, member.decompress(data, _CHUNK))
                if limit >= 0 and self.size > limit:
                    raise CaptureError(
                        f"{name}: decompresses to more than memory={limit} bytes: allow more (memory=1Gi)"
                    )
                while member.eof:  # another member may follow, or padding
                    rest = member.unused_data.lstrip(b"\0") or os.read(source, _CHUNK).lstrip(b"\0")
                    if not rest:
                        return
                    member = zlib.decompressobj(_GZIP)
                    self._write(target, member.decompress(rest, _CHUNK))
        except zlib.error as error:
            self.fault = f"its compressed data is damaged ({error}) after {self.size} bytes of capture"
            return
        self.fault = f"its compressed data ends early, after {self.size} bytes of capture"

    def _write(self, target: int, data: bytes) -> None:
        view = memoryview(data)
        while view:
            done = os.write(target, view)
            self.size += done
            view = view[done:]


class Packer:
    """Compresses what is written to :attr:`fd` into the descriptor ``target``, until :meth:`close`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._source, self.fd = os.pipe2(os.O_CLOEXEC)
        self.error: OSError | None = None
        with contextlib.suppress(OSError):  # unprivileged users have a limit; 64 KiB work too
            fcntl.fcntl(self.fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        self._thread = threading.Thread(target=self._run, name="wirespeed-gzip", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
        try:
            while data := os.read(self._source, _PIPE_BYTES):
                self._write(packer.compress(data))
            self._write(packer.flush())
        except OSError as error:
            self.error = error
        finally:
            os.close(self._source)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[os.write(self._target, view) :]

    def close(self) -> None:
        """End the data and wait until all of it is written. :attr:`error` says if that failed."""
        os.close(self.fd)
        self._thread.join()
