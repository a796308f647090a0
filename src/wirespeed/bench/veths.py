"""Two hosts and a machine between them, in network namespaces of their own: what benches of kernel interfaces run on.

::

    left host              middle                    right host
    10.1.0.2  eth0 ------ left      right ------ eth0  10.2.0.2
                      (10.1.0.1)  (10.2.0.1)

The middle one forwards: the kernel does (:meth:`Veths.forward_by_kernel`), or whoever opens ``left`` and ``right``.
Names hold this process's number; all of it goes when the context ends.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from types import TracebackType

from wirespeed.bench.errors import BenchError

LEFT, RIGHT, GATEWAYS = "10.1.0.2", "10.2.0.2", ("10.1.0.1", "10.2.0.1")

_numbers = itertools.count()


class Veths:
    """The three namespaces; a context manager.

    Attributes:
        left, middle, right: names of the namespaces.

    Raises:
        BenchError: no permission, or no ``ip`` command.
    """

    def __init__(self, mtu: int = 1500) -> None:
        if os.geteuid() != 0 or not shutil.which("ip"):
            raise BenchError("network namespaces need root and the ip command: sudo, apt-get install iproute2")
        self.mtu = mtu
        stem = f"wsb-{os.getpid()}-{next(_numbers)}"
        self.left, self.middle, self.right = self.names = tuple(f"{stem}-{each}" for each in "lmr")

    def __enter__(self) -> Veths:
        try:
            for name in self.names:
                run("ip", "netns", "add", name)
                self.inside(name, "ip", "link", "set", "lo", "up")
            self._cable(self.left, "left", LEFT, GATEWAYS[0])
            self._cable(self.right, "right", RIGHT, GATEWAYS[1])
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)

    def _cable(self, host: str, end: str, address: str, gateway: str) -> None:
        run("ip", "link", "add", "eth0", "netns", host, "type", "veth", "peer", "name", end, "netns", self.middle)
        for space, name in ((host, "eth0"), (self.middle, end)):
            self.inside(space, "sh", "-c", f"echo 1 > /proc/sys/net/ipv6/conf/{name}/disable_ipv6")
            self.inside(space, "ip", "link", "set", name, "mtu", str(self.mtu), "up")
        self.inside(host, "ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.inside(host, "ip", "route", "add", "default", "via", gateway)

    def forward_by_kernel(self) -> None:
        """Let the middle's kernel route between the two."""
        for gateway, end in zip(GATEWAYS, ("left", "right"), strict=True):
            self.inside(self.middle, "ip", "address", "add", f"{gateway}/24", "dev", end)
        self.inside(self.middle, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def mac(self, namespace: str, interface: str) -> str:
        """An interface's Ethernet address."""
        return self.inside(namespace, "cat", f"/sys/class/net/{interface}/address").strip()

    def inside(self, namespace: str, *command: str) -> str:
        """Run a command in one of them; what it printed."""
        return run("ip", "netns", "exec", namespace, *command)


def run(*command: str) -> str:
    """A command's output.

    Raises:
        BenchError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BenchError(f"{' '.join(command)}: {(done.stderr or done.stdout).strip()}")
    return done.stdout


__all__ = ["GATEWAYS", "LEFT", "RIGHT", "Veths", "run"]
