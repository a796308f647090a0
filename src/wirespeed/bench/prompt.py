"""A child process with a prompt: write a line, read what it prints until the prompt comes again.

Its standard output is a pseudo terminal, so that the child's C library flushes every line (on a pipe it
would keep 4 KiB back); its standard input is a pipe, so that the child leaves when we are gone, and where
setpriv(1) is installed the kernel ends it with us, however busy it is. It runs in a session of its own:
Ctrl-C reaches us, and we end it.
"""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import time
from collections.abc import Callable
from types import TracebackType

from wirespeed.bench.errors import BenchError


class Prompt:
    """Start `command` and talk to it; a context manager that ends its child, and only that one.

    A child whose user was interrupted or has failed is terminated at once: it may be busy for minutes.

    Arguments:
        prompt: what it prints when it waits for a line.
        timeout: seconds that an answer may take.
        patience: seconds to leave in, before terminate, and before kill.
        environment: of the child; None: ours.
        progress: told each line that is complete, as it comes.
    """

    def __init__(
        self,
        command: list[str],
        prompt: str,
        timeout: float = 30.0,
        patience: float = 5.0,
        environment: dict[str, str] | None = None,
        progress: Callable[[str], None] | None = None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._progress = progress
        self._prompt = prompt
        self._timeout = timeout
        self._patience = patience
        self._text = ""
        self._told = ""
        self.child: subprocess.Popen[bytes]
        self._terminal = -1

    def __enter__(self) -> Prompt:
        self._terminal, theirs = pty.openpty()
        setpriv = shutil.which("setpriv")  # util-linux; sets prctl(PR_SET_PDEATHSIG) and executes the rest
        tied = [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []
        try:
            self.child = subprocess.Popen(
                [*tied, *self._command], stdin=subprocess.PIPE, stdout=theirs, stderr=theirs, start_new_session=True,
                env=self._environment,
            )  # fmt: skip
        except BaseException:
            os.close(self._terminal)
            raise
        finally:
            os.close(theirs)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(polite=kind is None)

    def read(self, until: re.Pattern[str] | None = None) -> str:
        """What the child prints until its prompt; raises BenchError if it ends or takes too long.

        With `until`, also what it printed when that pattern was found in whole lines: it is busy then, end it.
        """
        deadline = time.monotonic() + self._timeout
        while (at := self._text.find(self._prompt)) < 0:
            if until is not None and until.search(whole := self._text[: self._text.rfind("\n") + 1]):
                return whole
            if not self._more(deadline):
                raise BenchError(f"{self.name}: ended ({self.child.wait()}); it last said: {self._tail()}")
        said, self._text = self._text[:at], self._text[at + len(self._prompt) :]
        return said

    def rest(self) -> str:
        """What the child prints until it ends by itself; raises BenchError if it takes too long or fails."""
        deadline = time.monotonic() + self._timeout
        while self._more(deadline):
            pass
        if self.child.wait() != 0:
            raise BenchError(f"{self.name}: ended ({self.child.returncode}); it last said: {self._tail()}")
        return self._text

    def _more(self, deadline: float) -> bool:
        """Take what comes next; False when the child has closed its side."""
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._terminal], [], [], left)[0]:
            raise BenchError(f"{self.name}: not done after {self._timeout:g} s; it last said: {self._tail()}")
        try:
            chunk = os.read(self._terminal, 65536)
        except OSError:  # EIO: the child has closed its side
            return False
        came = chunk.decode(errors="replace").replace("\r", "")
        self._text += came
        if self._progress:
            *lines, self._told = (self._told + came).split("\n")
            for line in filter(None, (line.strip() for line in lines)):
                self._progress(line)
        return bool(chunk)

    def ask(self, line: str, until: re.Pattern[str] | None = None) -> str:
        """Type `line`; what is printed until the next prompt, or until a pattern is found."""
        assert self.child.stdin is not None
        try:
            self.child.stdin.write(line.encode() + b"\n")
            self.child.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: read() tells what it said last
        return self.read(until)

    def end(self, polite: bool = True) -> None:
        """Close its input, which is a polite good-bye; terminate, then kill, if that is not enough."""
        if self._terminal < 0:
            return
        assert self.child.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.child.stdin.close()
        os.set_blocking(self._terminal, False)
        if not (polite and self._ended()):
            self.child.terminate()
            if not self._ended():
                self.child.kill()
                self.child.wait()
        os.close(self._terminal)
        self._terminal = -1

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
