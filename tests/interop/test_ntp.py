"""``wirespeed ntp`` over a TAP, asked by chronyd, and by sockets as hostile as they come."""

import re
import shutil
import sys

import pytest
from child import HERE, HERE6, Command
from topology import WHY_NOT

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


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    options = ("--local", "5", "--stratum", "5", "--interval", "0")
    made = Command(tmp_path_factory.mktemp("ntp"), "ntp", *options, ready="telling the time")
    yield made
    made.end()


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
    counted = server.report()["ntp"]
    assert counted["answered"] >= 3  # chronyd asks as often as it needs
    assert (counted["refused"], counted["stratum"]) == (5, 5)
