"""``wirespeed memcached`` over a TAP, asked by libmemcached's load generator, which checks all, and by a socket.

No client library on PyPI speaks memcached's UDP protocol (libmemcached's own refuses to get by it); ``memcaslap`` of
Debian's libmemcached-tools does.
"""

import re
import shutil
import sys
from pathlib import Path

import pytest
from child import HERE, HERE6, Command
from topology import WHY_NOT

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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--memory", "4M", "--workers", "2")
    made = Command(tmp_path_factory.mktemp("memcached"), "memcached", *options, ready="storing")
    yield made
    made.end()


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
    counted = server.report()["memcached"]
    assert counted["cmd_get"] >= 3600 and counted["dropped"] == 0
    assert counted["limit_maxbytes"] == 4 << 20
