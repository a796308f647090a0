"""Two hosts and a router between them, in network namespaces of their own: real kernels talk through it.

::

    <pid>-l            <pid>-m (no addresses)            <pid>-r
    10.1.0.2  eth0 ------ left      right ------ eth0  10.2.0.2

Every name holds this process's number; what was made is always removed, what was started is ended by its number.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from wirespeed.jit import COMPILED

SOURCE = Path(__file__).parents[2] / "src"
DEADLINE_S = 60
COMPILE_S = 600  # on a busy machine with an empty cache


def _why_not() -> str:
    if os.geteuid() != 0:
        return "needs root: network namespaces"
    if not COMPILED:
        return "too much traffic for an interpreted run"
    for name in ("ip", "ping"):
        if not shutil.which(name):
            return f"needs {name}"
    name = f"wsi-{os.getpid()}-try"
    made = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    subprocess.run(["ip", "netns", "del", name], capture_output=True)
    return "" if made.returncode == 0 else f"no network namespaces here: {made.stderr.strip()}"


WHY_NOT = _why_not()


def eventually(condition: Callable[[], Any], what: str, deadline_s: float = DEADLINE_S) -> Any:
    """Ask until the answer is true; fails the test after a deadline."""
    until = time.monotonic() + deadline_s
    while time.monotonic() < until:
        if answer := condition():
            return answer
        time.sleep(0.01)
    raise AssertionError(f"not within {deadline_s} s: {what}")


class Host:
    """One namespace."""

    def __init__(self, suffix: str) -> None:
        self.name = f"wsi-{os.getpid()}-{suffix}"
        self.children: list[subprocess.Popen[Any]] = []
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        self.run("ip", "link", "set", "dev", "lo", "up")

    def inside(self, *command: str) -> list[str]:
        return ["ip", "netns", "exec", self.name, *command]

    def run(self, *command: str, check: bool = True) -> str:
        """A command's output; with ``check`` it must succeed."""
        done = subprocess.run(self.inside(*command), capture_output=True, text=True, timeout=DEADLINE_S)
        assert not check or done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[Any]":
        """A command that goes on until the namespace is removed."""
        child = subprocess.Popen(self.inside(*command), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options)
        self.children.append(child)
        return child

    def listens(self, port: int) -> bool:
        """Whether a TCP server is there."""
        listening = re.compile(rf":{port:04X} [0-9A-F]+:0000 0A ")
        return bool(listening.search(self.run("cat", "/proc/net/tcp", "/proc/net/tcp6")))

    def remove(self) -> None:
        for child in self.children:
            child.kill()
            child.wait()
        subprocess.run(["ip", "netns", "del", self.name], check=False, capture_output=True)


class Network:
    """The three namespaces."""

    def __init__(self) -> None:
        self.hosts: list[Host] = []
        for suffix in "lmr":
            self.hosts.append(Host(suffix))
        self.left, self.middle, self.right = self.hosts
        self.cable(self.left, "left", "10.1.0.2/24", "10.1.0.1")
        self.cable(self.right, "right", "10.2.0.2/24", "10.2.0.1")

    def cable(self, host: Host, end: str, address: str, gateway: str) -> None:
        subprocess.run(
            ["ip", "link", "add", "eth0", "netns", host.name, "type", "veth", "peer", "name", end, "netns",
             self.middle.name], check=True,
        )  # fmt: skip
        for space, name in ((host, "eth0"), (self.middle, end)):
            space.run("sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
        host.run("ip", "address", "add", address, "dev", "eth0")
        host.run("ip", "link", "set", "dev", "eth0", "up")
        self.middle.run("ip", "link", "set", "dev", end, "arp", "off", "up")
        host.run("ip", "route", "add", "default", "via", gateway)

    def spec(self, end: str) -> str:
        """The port's text of one end of the router."""
        return f"af_packet:{end},netns={self.middle.name}"

    def remove(self) -> None:
        for host in self.hosts:
            host.remove()


class Router:
    """``wirespeed run`` as a child process, from its ready line on."""

    def __init__(self, folder: Path, text: str, *options: str) -> None:
        file = folder / "router.toml"
        file.write_text(text)
        self.out, self.err = folder / "out", folder / "err"
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "COLUMNS": "200"}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "wirespeed", "run", str(file), *options], stdout=out, stderr=err, env=environment
            )
        try:
            eventually(self._ready, "the router forwards", COMPILE_S)
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    def _ready(self) -> bool:
        said = self.out.read_text() + self.err.read_text()
        assert self.process.poll() is None, f"the router ended: {said}"
        return "forwarding: " in said

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(DEADLINE_S)
        finally:
            self.process.kill()

    def report(self) -> dict[str, Any]:
        """What it printed with ``--json``."""
        return dict(json.loads(self.out.read_text()))


CONFIG = """
app = "router"
[[port]]
name = "left"
spec = "{left}"
addresses = ["10.1.0.1/24"]
[[port]]
name = "right"
spec = "{right}"
addresses = ["10.2.0.1/24"]
"""
