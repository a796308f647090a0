"""A capture that comes bit by bit: from a pipe, the standard input, or out of compressed data.

A thread of control code reads and decompresses it into a stream (:mod:`wirespeed.mem.stream`), and the worker walks
the records in there as it walks a mapped file. So packets of a large compressed file come at once, nothing is unpacked
to a disk, and a pipe may go on for ever. The thread waits while the stream is full; an idle worker sleeps and is woken.

What cannot be decompressed ends the data; packets before it are read (:attr:`CaptureStream.fault`).
"""

import contextlib
import os
import select
import stat
import threading
from collections.abc import Iterator

from wirespeed.errors import CaptureError
from wirespeed.jit import fence, store_release
from wirespeed.mem.stream import Stream, StreamView, consumed, set_asleep
from wirespeed.ports.pcap.format import Layout, identify
from wirespeed.ports.pcap.packing import Damaged, packing_of, unpacked
from wirespeed.ports.pcap.read import FileQueue, publish

RING: int = 16 << 20
"""Bytes between the thread and the worker; no record can be longer."""

_HEAD = 64 << 10  # bytes of a file to look for interfaces in
_LEAST = {
    True: 28,
    False: 24,
}  # of a pcapng, of a pcap: so many bytes a pipe must give before it can be said what it is
_CHUNK = 1 << 20
_LOOK_S = 0.001
_OVER: int = StreamView.over.offset


class CaptureStream:
    """The capture that comes out of ``fd``, which it closes, until :meth:`close`.

    Args:
        path: for messages.
        packing: of a regular file; None: a pipe, whose first bytes show it.

    Attributes:
        layout: how to walk it.
        fault: why it ends early, if not for what is in it.

    Raises:
        CaptureError: not a capture of Ethernet.
    """

    def __init__(self, path: str, fd: int, packing: str | None) -> None:
        self.path = path
        self.fault = ""
        self._fd, self._packing = fd, packing
        self._stopped = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._known = threading.Event()  # enough of it is there to say what it is, or it is over
        self._stream: Stream | None = None
        try:
            self._stream = stream = Stream(RING, "wirespeed-pcap-stream")
            self._start()
            self._known.wait()
            head = stream.view.produced
            if not head and self.fault:
                raise CaptureError(f"{path}: {self.fault}: compress it again")
            if self._failure is not None:
                raise self._failure
            with stream.between(0, min(head, stream.size)) as data:
                self.layout: Layout = identify(path, data)
        except BaseException:
            self.close()
            raise

    def attach(self, record: FileQueue) -> None:
        """Let ``record`` stand at the first packet, from the beginning or once more.

        Raises:
            CaptureError: a pipe does not come twice.
        """
        assert self._stream is not None
        if consumed(self._stream.address):
            self._again()
        record.stream, record.bell = self._stream.address, self._bell
        record.position, record.growing = self.layout.first, 1

    def _again(self) -> None:
        """Read the file from its beginning."""
        assert self._stream is not None
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise CaptureError(f"{self.path}: comes only once, so it cannot be looped over: save it to a file")
        self._stop()
        os.lseek(self._fd, 0, os.SEEK_SET)
        view = self._stream.view
        view.produced = view.consumed = view.over = 0
        self._start()

    def read_ahead(self, record: FileQueue) -> None:
        """The thread does."""

    def descriptors(self) -> list[int]:
        """What to wait for."""
        return [self._bell]

    def close(self) -> None:
        """Stop the thread and give the memory back; a second call does nothing. No worker may read any more."""
        if self._fd < 0:
            return
        if self._stream is not None:
            self._stop()
            self._stream.close()
        for fd in (self._fd, self._stopped, self._bell):
            os.close(fd)
        self._fd = -1

    # The thread --------------------------------------------------------------------------------------------

    def _start(self) -> None:
        self.fault = ""
        self._failure: BaseException | None = None
        self._position = 0
        self._thread = threading.Thread(target=self._run, name="wirespeed-pcap-stream", daemon=True)
        self._thread.start()

    def _stop(self) -> None:
        os.eventfd_write(self._stopped, 1)
        self._thread.join()
        os.eventfd_read(self._stopped)

    def _run(self) -> None:
        assert self._stream is not None
        try:
            pieces = self._pieces()
            if self._packing is None:
                first = next(pieces, b"")
                while 0 < len(first) < 4 and (more := next(pieces, b"")):
                    first += more
                self._packing = packing_of(first)
                pieces = _before(first, pieces)
            if self._packing:
                pieces = unpacked(self.path, self._packing, pieces)
            for piece in pieces:
                if not self._put(piece):
                    break
        except Damaged as damage:
            self.fault = f"its compressed data {damage}, after {self._position} bytes of capture"
        except OSError as error:
            self.fault = f"reading it fails ({error.strerror}), after {self._position} bytes"
        except CaptureError as error:
            self._failure = error
        store_release(self._stream.address + _OVER, 1)
        fence()
        if self._stream.view.asleep:
            self._wake()
        self._known.set()

    def _pieces(self) -> Iterator[bytes]:
        """What the descriptor gives, until its end or ours."""
        poll = select.poll()
        poll.register(self._stopped, select.POLLIN)
        poll.register(self._fd, select.POLLIN)
        while all(fd != self._stopped for fd, _ in poll.poll()):
            try:
                piece = os.read(self._fd, _CHUNK)
            except BlockingIOError:
                continue
            if not piece:
                return
            yield piece

    def _put(self, piece: bytes) -> bool:
        """Give the worker a piece, in parts if there is no room; False when we are to stop."""
        stream = self._stream
        assert stream is not None
        rest = memoryview(piece)
        while rest:
            room = stream.size - (self._position - consumed(stream.address))
            part = rest[:room]
            if not part:
                if self._must_stop():
                    return False
                continue
            with stream.between(self._position, self._position + len(part)) as target:
                target[:] = part
            rest = rest[len(part) :]
            self._position += len(part)
            if publish(stream.address, self._position):
                self._wake()
            if not self._known.is_set():
                self._tell_whether_known(stream)
        return True

    def _must_stop(self) -> bool:
        poll = select.poll()
        poll.register(self._stopped, select.POLLIN)
        return bool(poll.poll(_LOOK_S * 1000))

    def _tell_whether_known(self, stream: Stream) -> None:
        """A file is looked into a little further than a pipe, which may not give more for a while."""
        with stream.between(0, min(self._position, 4)) as start:
            pcapng = bytes(start) == b"\x0a\x0d\x0d\x0a"
        live = not stat.S_ISREG(os.fstat(self._fd).st_mode)
        if self._position >= (_LEAST[pcapng] if live or not pcapng else _HEAD):
            self._known.set()

    def _wake(self) -> None:
        assert self._stream is not None
        set_asleep(self._stream.address, 0)
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._bell, 1)


def _before(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest


__all__ = ["RING", "CaptureStream"]
