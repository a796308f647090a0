"""A vhost-user connection: whole messages over a Unix socket, with file descriptors, from a peer that may be hostile.

The socket never blocks. A message is put together over as many calls as its bytes take to come; a receive never asks
for more than the message that is under way has left, so that descriptors cannot be taken for another message's.

References: unix(7), "SCM_RIGHTS"; QEMU's docs/interop/vhost-user.rst, "Communication".
"""

import array
import os
import select
import socket
import time
from collections.abc import Iterable

from wirespeed.ports.vhost.messages import (
    HEADER,
    MOST_REGIONS,
    REPLY,
    Message,
    VhostError,
    VhostGone,
    parse_head,
)

TIMEOUT_S: float = 5.0
"""How long the other end may take for an answer, or to take what we send."""

_DESCRIPTOR = array.array("i").itemsize
_ROOM = socket.CMSG_SPACE(MOST_REGIONS * _DESCRIPTOR)


def close_all(fds: Iterable[int]) -> None:
    """Close file descriptors that nobody wants."""
    for fd in fds:
        os.close(fd)


class Channel:
    """One connection. Takes the socket over."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._head = b""
        self._payload = b""
        self._fds: list[int] = []

    def fileno(self) -> int:
        """The socket's descriptor: readable when :meth:`receive` has something to do."""
        return self._socket.fileno()

    def receive(self) -> Message | None:
        """The next message, or None when it is not whole yet.

        Raises:
            VhostError: what came is no message.
            VhostGone: the other end closed.
        """
        try:
            while len(self._head) < HEADER.size:
                data = self._read(HEADER.size - len(self._head))
                self._head += data
            request, flags, size = parse_head(self._head)
            while len(self._payload) < size:
                self._payload += self._read(size - len(self._payload))
        except BlockingIOError:
            return None
        except OSError as error:
            raise VhostGone(f"the connection broke: {error.strerror}") from None
        message = Message(request, self._payload, tuple(self._fds), flags)
        self._head, self._payload, self._fds = b"", b"", []
        return message

    def _read(self, size: int) -> bytes:
        data, ancillary, flags, _ = self._socket.recvmsg(size, _ROOM, socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                whole = len(content) // _DESCRIPTOR * _DESCRIPTOR
                self._fds += array.array("i", content[:whole])
        if not data:
            raise VhostGone("the other end closed the connection")
        if flags & socket.MSG_CTRUNC or len(self._fds) > MOST_REGIONS:
            raise VhostError(f"a message with more than {MOST_REGIONS} file descriptors")
        return data

    def send(self, message: Message) -> None:
        """Send a message; its descriptors stay the caller's.

        Raises:
            VhostGone: the other end is not there, or takes nothing for TIMEOUT_S.
        """
        data = message.head() + message.payload
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", message.fds))] if message.fds else []
        until = time.monotonic() + TIMEOUT_S
        while data:
            try:
                sent = self._socket.sendmsg([data], rights, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                self._wait(select.POLLOUT, until, f"to take {message.name}")
                continue
            except OSError as error:
                raise VhostGone(f"the connection broke: {error.strerror}") from None
            data, rights = data[sent:], []

    def ask(self, message: Message, timeout: float = TIMEOUT_S) -> Message:
        """Send a request and wait for its answer; for a front end, which has nothing else to do meanwhile.

        Raises:
            VhostError: it did not come in time, or was another one's.
        """
        self.send(message)
        until = time.monotonic() + timeout
        while (answer := self.receive()) is None:
            self._wait(select.POLLIN, until, f"to answer {message.name}")
        if answer.request != message.request or not answer.flags & REPLY:
            close_all(answer.fds)
            raise VhostError(f"{message.name} was answered by {answer.name}")
        if answer.fds:  # no answer to what we ask has any
            close_all(answer.fds)
            raise VhostError(f"{message.name} was answered with file descriptors")
        return answer

    def _wait(self, events: int, until: float, what: str) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0.0, until - time.monotonic()) * 1000):
            raise VhostGone(f"the other end takes too long {what}")

    def close(self) -> None:
        """Close the socket, and descriptors of a message that never became whole."""
        self._socket.close()
        close_all(self._fds)
        self._fds = []


__all__ = ["TIMEOUT_S", "Channel", "close_all"]
