"""An echo service whose port, peer or process goes away comes back by itself; its other end is the kernel's."""

import pytest
from echo_service import HERE, EchoService, cable, need
from topology import Host, eventually

pytestmark = pytest.mark.long


@pytest.fixture
def made(tmp_path, network):
    """Makes services; all they made goes when the test ends."""
    host, beyond = Host("fault-client"), Host("fault-server")
    services = []

    def make(kind):
        need(kind)
        folder = tmp_path / str(len(services))
        folder.mkdir()
        services.append(EchoService(kind, host, beyond, folder))
        return services[-1]

    make.beyond = beyond
    try:
        yield make
    finally:
        for service in services:
            service.end()
        host.remove()
        beyond.remove()


def answered(service, count=20):
    """How many of so many pings are answered."""
    said = service.host.run("ping", "-n", "-c", str(count), "-i", "0.01", "-w", "20", HERE, check=False)
    return f"{count} received" in said


@pytest.mark.parametrize("kind", ["tap", "af_xdp"])
def test_killed_and_started_again(made, kind):
    """kill -9 leaves nothing behind that the next start would trip over."""
    first = made(kind)
    first.end()
    if kind == "tap":
        eventually(lambda: "ws0" not in first.host.run("ip", "-br", "link"), "the interface is gone")
    else:
        first.host.run("ip", "link", "del", "eth0")
    assert answered(made(kind))


def test_the_peer_of_a_memif_ends_and_another_comes(made):
    service = made("memif")
    for _ in range(3):
        flood = service.host.start("ping", "-n", "-f", "-w", "60", HERE)
        service.leave()
        flood.kill()
        flood.wait()
        service.join(service.path)
        service.address()
        assert answered(service)
    assert "leak" not in service.stop()


def test_the_interface_goes_and_returns(made):
    service = made("af_packet")
    for _ in range(2):
        service.host.run("ip", "link", "del", "eth0")
        cable(service.host, made.beyond)
        service.address()
        assert answered(service)
    assert "leak" not in service.stop()
