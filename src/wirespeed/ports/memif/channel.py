"""A memif connection's socket: whole messages with at most one descriptor each; nothing of what it does can block."""

import array
import contextlib
import os
import socket
import struct

from wirespeed.ports.memif.messages import (
    MESSAGE_BYTES,
    AddRegion,
    AddRing,
    Disconnect,
    Message,
    Refusal,
    decode,
    encode,
)

_MOST_DESCRIPTORS = 8  # that we care to close; the kernel closes what does not fit
_INT = array.array("i").itemsize


class Gone(Exception):
    """The peer has closed its end. Never leaves the driver."""


class Channel:
    """One connection.

    Args:
        sock: a connected SOCK_SEQPACKET socket; it is ours from now on.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._socket = sock
        self.fd = sock.fileno()

    def send(self, message: Message, descriptor: int | None = None) -> None:
        """Send one message.

        Raises:
            Gone: nobody is there, or nobody reads.
        """
        control = []
        if descriptor is not None:
            control = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
        try:
            self._socket.sendmsg([encode(message)], control, socket.MSG_NOSIGNAL)
        except OSError as error:
            raise Gone("it does not read what it is sent" if isinstance(error, BlockingIOError) else "") from None

    def receive(self) -> tuple[Message, int] | None:
        """The next message and its descriptor, which is the caller's to close (-1 for none); None if none is there.

        Raises:
            Gone: the peer has left.
            Refusal: what came is no message, or has not the descriptors that it must have.
        """
        try:
            data, control, flags, _ = self._socket.recvmsg(
                MESSAGE_BYTES + 1, socket.CMSG_SPACE(_MOST_DESCRIPTORS * _INT), socket.MSG_CMSG_CLOEXEC
            )
        except (BlockingIOError, InterruptedError):
            return None
        except OSError as error:
            raise Gone(error.strerror or "") from None
        found = array.array("i")
        for level, kind, payload in control:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found.frombytes(payload[: len(payload) // _INT * _INT])
        try:
            if not data:
                raise Gone("")
            message = decode(data)
            wanted = int(isinstance(message, AddRegion | AddRing))
            if len(found) != wanted or flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                raise Refusal(f"{type(message).__name__} with {len(found)} descriptors, not {wanted}")
        except (Refusal, Gone):
            for descriptor in found:
                os.close(descriptor)
            raise
        return message, found[0] if wanted else -1

    def peer(self) -> str:
        """Who is at the other end, as far as the kernel knows."""
        pid, uid = self._credentials()
        return f"process {pid} of user {uid}" if pid else "unknown process"

    def is_one_of_us(self) -> bool:
        """Whether the other end could look into this process anyway: one of the same user, or root, not in another
        container (a process of another PID or user namespace)."""
        pid, uid = self._credentials()
        if not pid or uid not in (os.geteuid(), 0):
            return False
        try:
            return all(os.path.samefile(f"/proc/self/ns/{kind}", f"/proc/{pid}/ns/{kind}") for kind in ("pid", "user"))
        except OSError:
            return False

    def _credentials(self) -> tuple[int, int]:
        """Process and user of the other end, as when it connected or listened; 0, -1 if nobody knows."""
        try:
            pid, uid, _ = struct.unpack("3i", self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        except OSError:
            return 0, -1
        return pid, uid

    def close(self, reason: str = "") -> None:
        """Say why, if there is a reason, and hang up."""
        if self.fd < 0:
            return
        if reason:
            with contextlib.suppress(Gone):
                self.send(Disconnect(0, reason.encode("ascii", "replace")[:95]))
        self._socket.close()
        self.fd = -1


__all__ = ["Channel", "Gone"]
