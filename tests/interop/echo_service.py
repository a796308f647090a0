"""examples/echo.py as a process of its own, on a port whose other end is the kernel, or DPDK before the kernel."""

import shutil
from pathlib import Path

import pytest
from child import HERE, HERE6, Child, pings
from topology import COMPILE_S, eventually

from wirespeed.bench.testpmd import Setting, Testpmd

EXAMPLE = Path(__file__).parents[2] / "examples" / "echo.py"
THERE, THERE6 = "10.7.0.2", "fd07::2"
WORKERS = {"tap": ["--workers", "2"]}


def cable(host, beyond):
    """A veth between the client and where the service's port is."""
    host.run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "wire", "netns", beyond.name)
    for where, name in ((host, "eth0"), (beyond, "wire")):
        where.run("ip", "link", "set", "dev", name, "up")
    host.run("ethtool", "-K", "eth0", "tx", "off")


class EchoService(Child):
    """The example, running; ``host`` is the namespace of its only client."""

    def __init__(self, kind, host, beyond, folder):
        self.host, self.kind, self.bridge = host, kind, None
        self.device, spec = "ws0", f"tap:ws0,netns={host.name}"
        if kind == "memif":
            self.path = folder / "socket"
            spec = f"memif:{self.path},role=server"
        elif kind != "tap":
            cable(host, beyond)
            self.device, spec = "eth0", f"{kind}:wire,netns={beyond.name}"
        super().__init__(folder, str(EXAMPLE), spec, f"{HERE}/24", f"{HERE6}/64", *WORKERS.get(kind, []))
        try:
            if kind == "memif":
                self.join(self.path)
            self.address()
        except BaseException:
            self.end()
            raise

    def address(self):
        """The kernel's end gets its addresses, and is answered."""
        host, shown = self.host, ("ip", "-br", "link")
        eventually(lambda: self.runs() and self.device in host.run(*shown), "the device", COMPILE_S)
        host.run("ip", "address", "add", f"{THERE}/24", "dev", self.device)
        host.run("ip", "address", "add", f"{THERE6}/64", "dev", self.device, "nodad")
        host.run("ip", "link", "set", "dev", self.device, "up")
        eventually(self.answers, "an answer", COMPILE_S)

    def join(self, path):
        """The other end of the memif is a testpmd, which passes packets on to the kernel by a tap of its own."""
        eventually(lambda: self.runs() and path.exists(), "the socket", COMPILE_S)
        devices = [f"net_memif0,role=client,socket={path},socket-abstract=no", f"net_tap0,iface={self.device}"]
        self.bridge = Testpmd(None, Setting("io"), vdevs=devices, netns=self.host.name)
        self.bridge.__enter__()
        self.bridge.start()

    def answers(self):
        return self.runs() and pings(self.host, HERE) and pings(self.host, HERE6)

    def leave(self):
        """The testpmd of a memif ends."""
        self.bridge.__exit__(None, None, None)
        self.bridge = None

    def end(self):
        """Nothing of it runs any more."""
        if self.bridge is not None:
            self.leave()
        super().end()


def need(kind):
    """Skip the test where DPDK is missing that it needs."""
    if kind == "memif" and not shutil.which("dpdk-testpmd"):
        pytest.skip("needs dpdk-testpmd: apt-get install dpdk")
