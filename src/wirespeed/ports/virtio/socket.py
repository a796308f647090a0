"""Where a front end and a back end of vhost-user meet: a Unix socket that one makes and the other connects to."""

import contextlib
import errno
import os
import socket
import stat

from wirespeed.errors import PortError

_LONGEST_PATH = 107
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.01, 0.5


class Rendezvous:
    """A socket's path, and which side of it we are.

    Raises:
        PortError: the path cannot be used; for a server also: somebody else is there.
    """

    def __init__(self, spec: str, path: str, server: bool) -> None:
        self.path = path
        self.server = server
        self.pause_s = _FIRST_PAUSE_S
        self._spec = spec
        self._listener: socket.socket | None = None
        self._identity = (0, 0)
        self._last: socket.socket | None = None
        folder = os.path.dirname(path) or "."
        if not path or len(os.fsencode(path)) > _LONGEST_PATH:
            raise PortError(f"port {spec!r}: a socket's path has 1 to {_LONGEST_PATH} bytes")
        if not os.path.isdir(folder):
            raise PortError(f"port {spec!r}: there is no folder {folder}: mkdir -p {folder}")
        if os.path.exists(path) and not stat.S_ISSOCK(os.stat(path).st_mode):
            raise PortError(f"port {spec!r}: {path} is there and no socket: choose another path")
        if server:
            self._listen()

    def _listen(self) -> None:
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            self._bind(listener)
            listener.listen(4)
        except OSError as error:
            listener.close()
            raise PortError(f"port {self._spec!r}: {self.path}: {error.strerror}") from None
        except PortError:
            listener.close()
            raise
        found = os.stat(self.path)
        self._identity = (found.st_dev, found.st_ino)
        self._listener = listener

    def _bind(self, listener: socket.socket) -> None:
        try:
            listener.bind(self.path)
            return
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.setblocking(False)
            if probe.connect_ex(self.path) != errno.ECONNREFUSED:
                raise PortError(
                    f"port {self._spec!r}: another program listens on {self.path}: end it, choose another path, "
                    "or say role=client"
                )
        os.unlink(self.path)  # left by a process that is gone
        listener.bind(self.path)

    def fileno(self) -> int:
        """A server's descriptor, readable when somebody connects."""
        assert self._listener is not None
        return self._listener.fileno()

    def meet(self) -> socket.socket | None:
        """A connection; None if nobody is there now: a client tries again in ``pause_s``."""
        if self._listener is not None:
            try:
                self._last = self._listener.accept()[0]
            except OSError:  # gone again
                return None
            return self._last
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)  # a full backlog is no wait
        if made.connect_ex(self.path):
            made.close()
            self.pause_s = min(self.pause_s * 2, _LONGEST_PAUSE_S)
            return None
        self.pause_s = _FIRST_PAUSE_S
        self._last = made
        return made

    def interrupt(self) -> None:
        """End a wait for an answer on the latest connection, from another thread."""
        if self._last is not None:
            with contextlib.suppress(OSError):
                self._last.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Listen no more, and take our socket away."""
        if self._listener is None:
            return
        self._listener.close()
        self._listener = None
        with contextlib.suppress(OSError):
            found = os.stat(self.path)
            if (found.st_dev, found.st_ino) == self._identity:
                os.unlink(self.path)


__all__ = ["Rendezvous"]
