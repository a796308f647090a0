"""A program of ours as a process of its own, and a command of ours that answers at a TAP of the kernel's."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from topology import COMPILE_S, SOURCE, Host, eventually

HERE, HERE6 = "10.7.0.1", "fd07::1"
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(SOURCE)}


class Child:
    """``python *arguments``, running; what it says is in the files ``out`` and ``errors``."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.out, self.errors = folder / "out", folder / "errors"
        with self.out.open("w") as out, self.errors.open("w") as errors:
            self.process = subprocess.Popen([sys.executable, *arguments], stdout=out, stderr=errors, env=ENVIRONMENT)

    def runs(self) -> bool:
        """True; fails the test if it has ended."""
        assert self.process.poll() is None, self.out.read_text() + self.errors.read_text()
        return True

    def said(self) -> str:
        """All that it has said until now, when it should still run."""
        self.runs()
        return self.out.read_text() + self.errors.read_text()

    def stop(self, deadline_s: float = 60) -> str:
        """Ended as by Ctrl-C, without an error; what it has printed."""
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(deadline_s) == 0, self.errors.read_text()
        return self.out.read_text()

    def end(self) -> None:
        """It runs no more, whatever happened."""
        self.process.kill()
        self.process.wait()


def pings(host: Host, address: str) -> bool:
    """Whether one ping from there is answered."""
    return "1 received" in host.run("ping", "-n", "-c", "1", "-W", "1", address, check=False)


class Command(Child):
    """``wirespeed NAME tap:ws0 --json`` at HERE and HERE6, from when ``host``, its clients' namespace, can reach it.

    Args:
        ready: what the command says when it serves.
    """

    def __init__(self, folder: Path, name: str, *options: str, ready: str) -> None:
        self.host = Host(name)
        own = [word for address in (f"{HERE}/24", f"{HERE6}/64") for word in ("--address", address)]
        super().__init__(folder, "-m", "wirespeed", name, f"tap:ws0,netns={self.host.name}", *own, *options, "--json")
        try:
            eventually(lambda: ready in self.said(), f"{ready!r} is said", COMPILE_S)
            self.host.run("ip", "address", "add", "10.7.0.2/24", "dev", "ws0")
            self.host.run("ip", "address", "add", "fd07::2/64", "dev", "ws0", "nodad")
            self.host.run("ip", "link", "set", "dev", "ws0", "up")
            for address in (HERE, HERE6):
                eventually(lambda to=address: pings(self.host, to), f"{address} answers a ping")
        except BaseException:
            self.end()
            raise

    def report(self) -> Any:
        """What it prints at its end, which this is."""
        return json.loads(self.stop())

    def end(self) -> None:
        super().end()
        self.host.remove()
