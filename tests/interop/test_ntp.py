"""``wirespeed ntp`` over a TAP, asked by chronyd, and by sockets as hostile as they come."""

import json
import re
import shutil
import signal
import subprocess
import sys

import pytest
from topology import COMPILE_S, SOURCE, WHY_NOT, Host, eventually

HERE, HERE6 = "10.7.0.1", "fd07::1"

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

ODD = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
    client.settimeout(10)
    client.connect((sys.argv[1], 123))
    for odd in (b"", b"x" * 47, bytes([0x16]) + bytes(47), bytes([0x17, 0, 3, 42]) + bytes(44), bytes([0x1c]) * 48):
        client.send(odd)
    client.send(bytes([0x23]) + bytes(39) + b"noncence")
    answer = client.recv(1000)
    print(len(answer), answer[0], answer[24:32])
"""


class Server:
    """The command, running; ``host`` is the namespace of its clients."""

    def __init__(self, folder):
        self.host = Host("ntp")
        self.out, self.errors = folder / "out", folder / "err"
        command = [
            "-m", "wirespeed", "ntp", f"tap:ws0,netns={self.host.name}", "--address", f"{HERE}/24", "--address",
            f"{HERE6}/64", "--local", "5", "--stratum", "5", "--interval", "0", "--json",
        ]  # fmt: skip
        with self.out.open("w") as out, self.errors.open("w") as errors:
            self.child = subprocess.Popen(
                [sys.executable, *command], stdout=out, stderr=errors,
                env={"PYTHONPATH": str(SOURCE), "PATH": "/usr/sbin:/usr/bin"},
            )  # fmt: skip
        try:
            eventually(self.ready, "the server answers", COMPILE_S)
            self.host.run("ip", "address", "add", "10.7.0.2/24", "dev", "ws0")
            self.host.run("ip", "address", "add", "fd07::2/64", "dev", "ws0", "nodad")
            self.host.run("ip", "link", "set", "dev", "ws0", "up")
            for address in (HERE, HERE6):
                eventually(lambda at=address: "1 received" in self.ping(at), f"a ping of {address}")
        except BaseException:
            self.stop()
            raise

    def ping(self, address):
        return self.host.run("ping", "-nc1", "-W1", address, check=False)

    def ready(self):
        assert self.child.poll() is None, self.errors.read_text()
        return "telling the time" in self.errors.read_text()

    def stop(self):
        self.child.send_signal(signal.SIGINT)
        try:
            return self.child.wait(30)
        finally:
            self.child.kill()
            self.child.wait()
            self.host.remove()


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    made = Server(tmp_path_factory.mktemp("ntp"))
    yield made
    if made.child.returncode is None:
        made.stop()


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_chronyd_follows(server, address, tmp_path):
    """chronyd -Q asks four times, selects the source, and says how wrong the clock is: it is the same clock."""
    assert shutil.which("chronyd", path="/usr/sbin:/usr/bin"), "chrony is not installed"
    directives = [f"server {address} iburst minpoll -5 maxpoll -5", f"pidfile {tmp_path}/pid", "cmdport 0"]
    said = server.host.run("chronyd", "-Q", "-u", "root", "-t", "20", *directives, "bindcmdaddress /")
    found = re.search(r"System clock wrong by (-?[0-9.]+) seconds", said)
    assert found, said
    assert abs(float(found[1])) < 0.01


def test_odd_requests_do_no_harm(server):
    said = server.host.run(sys.executable, "-c", ODD, HERE)
    assert said == "48 36 b'noncence'\n"


def test_what_it_counted(server):
    """The last of this server's tests."""
    assert server.stop() == 0, server.errors.read_text()
    counted = json.loads(server.out.read_text())["ntp"]
    assert counted["answered"] >= 3  # chronyd asks as often as it needs
    assert (counted["refused"], counted["stratum"]) == (5, 5)
