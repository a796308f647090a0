"""A virtual machine whose network card is the router: QEMU, an unmodified Linux guest, and a host in a namespace."""

import hashlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from machine import Machine, why_not
from topology import CONFIG, WHY_NOT, Router, eventually

REASON = WHY_NOT or why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "-")

CARDS = {"split": ",packed=off", "packed": ",packed=on", "split, no mergeable buffers": ",packed=off,mrg_rxbuf=off"}


@pytest.fixture(scope="module", params=CARDS)
def world(request, network, tmp_path_factory) -> Iterator[Any]:
    """(machine, router, host): 10.1.0.2 in the machine, 10.2.0.2 on the other side."""
    folder = tmp_path_factory.mktemp("qemu")
    socket = folder / "vm.sock"
    text = CONFIG.format(left=f"vhost_user:{socket}", right=network.spec("right"))
    router = Router(folder, text, "--json")
    try:
        with Machine(folder, socket, CARDS[request.param]) as machine:
            machine.address("10.1.0.2/24", "10.1.0.1")
            yield machine, router, network.right
    finally:
        code = router.stop()
    assert code == 0, router.err.read_text()
    report = router.report()
    assert report["in_use"] == 0
    assert report["faults"] == []


def test_ping_both_ways(world) -> None:
    machine, _, host = world
    assert "3 packets received" in machine.run("ping -c 3 -W 10 10.2.0.2")
    assert re.search(r"5 (packets )?received", host.run("ping", "-n", "-c", "5", "-i", "0.1", "-w", "60", "10.1.0.2"))
    assert "2 packets received" in machine.run("ping -c 2 -s 20000 -W 10 10.2.0.2")


def test_tcp_both_ways(world, tmp_path: Path) -> None:
    machine, _, host = world
    content = os.urandom(8 << 20)
    (tmp_path / "content").write_bytes(content)
    server = host.start(sys.executable, "-um", "http.server", "-d", str(tmp_path), "8000")
    eventually(lambda: host.listens(8000), "the server")
    digest = hashlib.sha256(content).hexdigest()
    assert digest in machine.run("wget -q -O /tmp/got http://10.2.0.2:8000/content; sha256sum /tmp/got")
    server.kill()
    server.wait()
    machine.run("mkdir -p /tmp/www; mv /tmp/got /tmp/www; httpd -p 8001 -h /tmp/www")
    host.run(
        sys.executable, "-c",
        "import urllib.request, sys; open(sys.argv[1], 'wb').write(urllib.request.urlopen("
        "'http://10.1.0.2:8001/got', timeout=60).read())", str(tmp_path / "back"),
    )  # fmt: skip
    assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == digest
    machine.run("killall httpd; rm -r /tmp/www")
