"""``wirespeed memcached`` over a TAP, asked by libmemcached's load generator, which checks all, and by a socket.

No client library on PyPI speaks memcached's UDP protocol (libmemcached's own refuses to get by it); ``memcaslap`` of
Debian's libmemcached-tools does.
"""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from topology import COMPILE_S, SOURCE, WHY_NOT, Host, eventually

HERE, HERE6 = "10.7.0.1", "fd07::1"

pytestmark = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")

TALK = """
import sys
sys.path.insert(0, sys.argv[1])
from memcached_peer import UdpClient
client = UdpClient(sys.argv[2], 11211)
ask = client.ask
assert ask(b"set k 5 0 3\\r\\nabc\\r\\n") == b"STORED\\r\\n"
assert ask(b"get k\\r\\n") == b"VALUE k 5 3\\r\\nabc\\r\\nEND\\r\\n"
assert ask(b"append k 0 0 3\\r\\ndef\\r\\n") == b"STORED\\r\\n"
assert ask(b"get k none k\\r\\n") == b"VALUE k 5 6\\r\\nabcdef\\r\\n" * 2 + b"END\\r\\n"
value = bytes(range(256)) * 5
assert ask(b"set large 0 0 1280\\r\\n" + value + b"\\r\\n") == b"STORED\\r\\n"
for times in (1, 2, 6, 40):
    wanted = (b"VALUE large 0 1280\\r\\n" + value + b"\\r\\n") * times + b"END\\r\\n"
    assert ask(b"get" + b" large" * times + b"\\r\\n") == wanted, times
several = b"set n 0 0 1 noreply\\r\\n9\\r\\nincr n 1\\r\\nget n\\r\\n"
assert ask(several) == b"10\\r\\nVALUE n 0 2\\r\\n10\\r\\nEND\\r\\n"
assert ask(b"set soon 0 1 1\\r\\n1\\r\\n") == b"STORED\\r\\n"
while ask(b"get soon\\r\\n") != b"END\\r\\n":
    pass
assert b"STAT reclaimed" in ask(b"stats\\r\\n")
assert ask(b"delete k\\r\\n") == b"DELETED\\r\\n"
print("all as it should be")
"""


class Server:
    """The command, running; ``host`` is the namespace of its clients."""

    def __init__(self, folder):
        self.host = Host("memcached")
        self.out, self.errors = folder / "out", folder / "err"
        command = [
            "-m", "wirespeed", "memcached", f"tap:ws0,netns={self.host.name}", "--address", f"{HERE}/24", "--address",
            f"{HERE6}/64", "--memory", "4M", "--workers", "2", "--json",
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
            for each in (HERE, HERE6):
                eventually(lambda to=each: "1 received" in self.host.run("ping", "-nc1", "-W1", to, check=False), each)
        except BaseException:
            self.stop()
            raise

    def ready(self):
        assert self.child.poll() is None, self.errors.read_text()
        return "storing" in self.errors.read_text()

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
    made = Server(tmp_path_factory.mktemp("memcached"))
    yield made
    if made.child.returncode is None:
        made.stop()


@pytest.mark.parametrize("address", [HERE, HERE6])
def test_a_client(server, address):
    said = server.host.run(sys.executable, "-c", TALK, str(Path(__file__).parent), address)
    assert said == "all as it should be\n"


def test_memcaslap_gets_what_it_has_set(server):
    """Nine gets to a set, 16 B to 32 B keys; each value is compared with what was set."""
    assert shutil.which("memcaslap"), "libmemcached-tools is not installed"
    said = server.host.run(
        "memcaslap", "-s", f"{HERE}:11211", "-U", "-T", "1", "-c", "4", "-x", "4000", "-v", "1.0", "-X", "100"
    )
    found = dict(re.findall(r"^(\w+): (\d+)$", said, re.M))
    assert found["cmd_get"] == "3600", said
    for fault in ("verify_misses", "verify_failed", "packet_drop", "udp_timeout"):
        assert found[fault] == "0", said


def test_what_it_counted(server):
    """The last of this server's tests."""
    assert server.stop() == 0, server.errors.read_text()
    report = json.loads(server.out.read_text())
    counted = report["memcached"]
    assert counted["cmd_get"] >= 3600 and counted["dropped"] == 0
    assert counted["limit_maxbytes"] == 4 << 20
