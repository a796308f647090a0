"""A child process with a prompt: write a line, read what it prints until the prompt comes again.

Its standard output is a pseudo terminal, so that the child's C library flushes every line (on a pipe it
would keep 4 KiB back); its standard input is a pipe, so that the child leaves when we are gone. It runs in
a session of its own: Ctrl-C reaches us, and we end it.
"""

from __future__ import annotations

import contextlib
import os
import pty
import select
import subprocess
import time
from types import TracebackType

from wirespeed.bench.errors import BenchError


class Prompt:
    """Start `command` and talk to it; a context manager that ends its child, and only that one."""

    def __init__(self, command: list[str], prompt: str, timeout: float = 30.0, patience: float = 5.0) -> None:
        self._command = command
        self._prompt = prompt
        self._timeout = timeout
        self._patience = patience  # seconds to leave in, before terminate, and before kill
        self._text = ""
        self.child: subprocess.Popen[bytes]
        self._terminal = -1

    def __enter__(self) -> Prompt:
        self._terminal, theirs = pty.openpty()
        try:
            self.child = subprocess.Popen(
                self._command, stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, start_new_session=True
            )
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(theirs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def read(self) -> str:
        """What the child prints until its prompt; raises BenchError if it ends or falls silent."""
        deadline = time.monotonic() + self._timeout
        while (at := self._text.find(self._prompt)) < 0:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
                raise BenchError(f"{self.name}: silent for {self._timeout:g} s; it last said: {self._tail()}")
            try:
                chunk = os.read(self._terminal, 65536)
            except OSError:  # EIO: the child has closed its side
                chunk = b""
            if not chunk:
                raise BenchError(f"{self.name}: ended ({self.child.wait()}); it last said: {self._tail()}")
            self._text += chunk.decode(errors="replace").replace("\r", "")
        said, self._text = self._text[:at], self._text[at + len(self._prompt) :]
        return said

    def ask(self, line: str) -> str:
        """Type `line`; what is printed until the next prompt."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: read() tells what it said last
        return self.read()

    def end(self) -> None:
        """Close its input, which is a polite good-bye; terminate, then kill, if that is not enough."""
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        os.set_blocking(self._terminal, False)
        if not self._ended():
            self.child.terminate()
            if not self._ended():
                self.child.kill()
                self.child.wait()
        os.close(self._terminal)

    def _ended(self) -> bool:
        """Wait for the end, reading on: a child blocked on a full terminal could not leave."""
        deadline = time.monotonic() + self._patience
        while self.child.poll() is None and time.monotonic() < deadline:
            try:
                select.select([self._terminal], [], [], 0.02)
                os.read(self._terminal, 65536)
            except OSError:  # nothing to read yet, or EIO just before it ends
                time.sleep(0.005)
        return self.child.poll() is not None

    @property
    def name(self) -> str:
        """The program, for messages."""
        return os.path.basename(self._command[0])

    def _tail(self) -> str:
        return " | ".join(line.strip() for line in self._text.splitlines()[-6:] if line.strip()) or "nothing"
