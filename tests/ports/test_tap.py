"""tap: interfaces of the kernel with wirespeed at the other end."""

import hashlib
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import (
    LEFT_ADDRESS,
    RIGHT_ADDRESS,
    Bridge,
    Hand,
    Space,
    bridge,
    eventually,
    hand,
    needs_compiler,
    needs_namespaces,
    needs_program,
    spaces,
)

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port

pytestmark = needs_namespaces

STATION, OTHER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
EXPERIMENTAL = b"\x88\xb5"  # IEEE 802 local experimental ethertype


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space]]:
    with spaces("tl", "tr") as (left, right):
        for space in (left, right):  # no router solicitations from interfaces to come
            space.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        yield left, right


@pytest.fixture
def end(hosts) -> Iterator[Hand]:
    with hand(f"tap:tap0,netns={hosts[0].name},address={LEFT_ADDRESS}/24") as made:
        yield made


@pytest.fixture
def between(hosts) -> Iterator[Bridge]:
    left, right = hosts
    ends = (
        f"tap:tap0,netns={left.name},address={LEFT_ADDRESS}/24",
        f"tap:tap0,netns={right.name},address={RIGHT_ADDRESS}/24",
    )
    with bridge(*ends) as made:
        yield made


def frame(payload: bytes, tag: bytes = b"") -> bytes:
    return STATION + OTHER + tag + EXPERIMENTAL + payload


def gathered(end: Hand, count: int) -> list[bytes]:
    """``count`` frames of our ethertype, in order."""
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(data for data, _ in end.receive() if EXPERIMENTAL in data[12:18])
        return len(found) >= count

    eventually(enough, f"{count} frames received")
    assert len(found) == count
    return found


def test_frames_arrive_as_they_were_sent(hosts, end: Hand) -> None:
    sent = [frame(bytes([i]) * size) for i, size in enumerate([0, 1, 46, 1000, 1500])]
    sent.append(frame(b"tagged", b"\x81\x00\x00\x05"))
    with hosts[0].raw("tap0") as wire:
        for data in sent:
            wire.send(data)
        assert gathered(end, len(sent)) == sent
        assert end.port.stats().rx_packets == hosts[0].statistic("tap0", "tx_packets")
        assert end.port.stats().rx_bytes == hosts[0].statistic("tap0", "tx_bytes")


@pytest.mark.parametrize("pieces", [1600, 700, 41])
def test_frames_are_given_to_the_host(hosts, end: Hand, pieces: int) -> None:
    sent = [frame(os.urandom(size)) for size in (0, 60, 700, 1400)]
    with hosts[0].raw("tap0") as wire:
        assert end.send(*sent, pieces=pieces) == len(sent)
        assert [wire.recv(2048) for _ in sent] == sent
        assert end.port.stats().tx_packets == hosts[0].statistic("tap0", "rx_packets") == len(sent)
        assert end.port.stats().tx_bytes == sum(map(len, sent))


def test_what_the_host_refuses_is_an_error_and_stops_nothing(hosts, end: Hand) -> None:
    runts = [b"", b"\x02\x00\x00", STATION + OTHER + b"\x88"]
    with hosts[0].raw("tap0") as wire:
        assert end.send(*runts, frame(b"good")) == 4
        assert end.send(frame(b"l" * 1000), frame(b"better"), pieces=2) == 2
        beyond = {"checksum_state": 1, "checksum_start": 2000, "checksum_offset": 16}
        assert end.send(frame(b"x" * 100), meta=beyond) == 1
        assert [wire.recv(2048) for _ in range(2)] == [frame(b"good"), frame(b"better")]
        assert end.port.stats().tx_errors == len(runts) + 2
        assert end.port.stats().tx_packets == 2


def test_room_is_respected(hosts, end: Hand) -> None:
    sent = [frame(struct.pack(">I", i) * 16) for i in range(50)]
    with hosts[0].raw("tap0") as wire:
        for data in sent:
            wire.send(data)
        found: list[bytes] = []
        while len(found) < len(sent):
            burst = eventually(lambda: end.receive(room=7), "more frames")
            assert len(burst) <= 7
            found += [data for data, _ in burst]
        assert found == sent


def test_a_super_packet_is_one_packet(hosts, end: Hand) -> None:
    """The host's own stack hands over a datagram whose segmentation (UDP_SEGMENT) is left to us."""
    hosts[0].run("ip", "neigh", "replace", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev", "tap0")
    with hosts[0].open_socket(2, 2) as udp:
        udp.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
        content = os.urandom(30000)
        udp.sendto(content, ("10.77.0.99", 9))
        (found,) = eventually(end.receive, "the super-packet")
    data, meta = found
    assert data[42:] == content
    assert meta == {
        "gso_size": 1000,
        "gso_type": 5,  # VIRTIO_NET_HDR_GSO_UDP_L4
        "checksum_state": 1,
        "checksum_start": 34,
        "checksum_offset": 6,
        "headers_length": 42,
    }


def test_settings(hosts) -> None:
    left, _ = hosts
    spec = f"tap:set0,netns={left.name},address=10.9.0.1/20,mac=02:12:34:56:78:9a,mtu=4000"
    with hand(spec) as end:
        assert (end.port.mac, end.port.mtu) == (0x02123456789A, 4000)
        shown = left.run("ip", "address", "show", "set0")
        for part in ("10.9.0.1/20", "02:12:34:56:78:9a", "mtu 4000", "UP"):
            assert part in shown
        assert end.port.index == int(left.run("cat", "/sys/class/net/set0/ifindex"))
    assert "set0" not in left.run("ip", "link")


def test_an_ipv6_address(hosts) -> None:
    left, _ = hosts
    left.run("sh", "-c", "echo 0 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
    try:
        with hand(f"tap:six0,netns={left.name},address=fd00:77::1/64"):
            assert "fd00:77::1/64" in left.run("ip", "address", "show", "six0")
    finally:
        left.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")


def test_a_persistent_interface_stays_and_is_taken_up_again(hosts) -> None:
    left, _ = hosts
    spec = f"tap:stay0,netns={left.name},persist=yes,address=10.8.0.1/24"
    for _ in range(2):
        with hand(spec):
            pass
        assert "stay0" in left.run("ip", "link")
    left.run("ip", "link", "del", "stay0")


def test_flows_are_spread_over_queues(hosts) -> None:
    left, _ = hosts
    with hand(f"tap:many0,netns={left.name},queues=2,address=10.6.0.1/24", queues=2) as end:
        left.run("ip", "neigh", "replace", "10.6.0.99", "lladdr", "02:00:00:00:00:99", "dev", "many0")
        with left.open_socket(2, 2) as udp:
            for number in range(64):
                udp.sendto(struct.pack(">I", number), ("10.6.0.99", 1000 + number))
        found: dict[int, list[bytes]] = {0: [], 1: []}

        def enough() -> bool:
            for queue, frames in found.items():
                frames += [data[42:] for data, _ in end.receive(queue) if data[23:24] == b"\x11"]
            return sum(map(len, found.values())) >= 64

        eventually(enough, "64 datagrams")
        assert sorted(found[0] + found[1]) == [struct.pack(">I", number) for number in range(64)]


def test_an_interface_that_goes_down_costs_a_count(hosts, end: Hand) -> None:
    hosts[0].run("ip", "link", "set", "tap0", "down")
    assert end.send(*[frame(b"x" * 64)] * 5) == 5
    assert end.port.stats().tx_dropped == 5
    assert end.receive() == []


# Real stacks at both ends --------------------------------------------------------------------------------


@needs_program("ping")
@needs_compiler
def test_ping(hosts, between: Bridge) -> None:
    for size in ("0", "56", "1472", "20000"):
        hosts[0].run("ping", "-q", "-c", "5", "-i", "0.01", "-W", "10", "-s", size, RIGHT_ADDRESS)


@needs_compiler
def test_tcp_keeps_every_byte_and_crosses_in_super_packets(hosts, between: Bridge) -> None:
    left, right = hosts
    content = os.urandom(1 << 20) * 50
    with right.open_socket(2, 1) as server, left.open_socket(2, 1) as client:
        server.settimeout(60)
        server.bind((RIGHT_ADDRESS, 7777))
        server.listen()
        client.settimeout(60)
        client.connect((RIGHT_ADDRESS, 7777))
        accepted, _ = server.accept()

        def send() -> None:
            client.sendall(content)
            client.shutdown(1)

        sender = threading.Thread(target=send)
        sender.start()
        digest = hashlib.sha256()
        with accepted:
            accepted.settimeout(60)
            while data := accepted.recv(1 << 20):
                digest.update(data)
        sender.join()
    assert digest.digest() == hashlib.sha256(content).digest()
    assert between.super_packets > 100
    assert between.longest > 30000
    for made in between.ports:
        assert made.stats().tx_errors == made.stats().rx_errors == 0


@needs_compiler
def test_udp_datagrams_of_every_size(hosts, between: Bridge) -> None:
    left, right = hosts
    with right.open_socket(2, 2) as server, left.open_socket(2, 2) as client:
        server.bind((RIGHT_ADDRESS, 7778))
        server.settimeout(30)
        for size in (0, 1, 100, 1472, 1473, 9000, 60000):  # the larger ones in fragments
            data = os.urandom(size)
            client.sendto(data, (RIGHT_ADDRESS, 7778))
            assert server.recv(65536) == data


@needs_program("curl")
@needs_compiler
def test_curl(hosts, between: Bridge, tmp_path: Path) -> None:
    left, right = hosts
    (tmp_path / "content").write_bytes(os.urandom(5_000_000))
    server = right.start(sys.executable, "-um", "http.server", "-d", str(tmp_path), "8000")
    assert server.stdout
    assert "Serving" in server.stdout.readline()
    left.run("curl", "-sf", "-o", str(tmp_path / "got"), f"http://{RIGHT_ADDRESS}:8000/content")
    assert (tmp_path / "got").read_bytes() == (tmp_path / "content").read_bytes()


# Errors --------------------------------------------------------------------------------------------------


def refused(spec: str) -> str:
    """What opening the port says."""
    pool = Pool(2048)
    try:
        with pytest.raises(PortError) as raised:
            port(spec).open(pool, 1, 1)
        return str(raised.value)
    finally:
        pool.close()


def test_an_interface_in_use(hosts, end: Hand) -> None:
    assert "tap0 is in use by another program" in refused(f"tap:tap0,netns={hosts[0].name}")


def test_an_interface_of_another_kind(hosts) -> None:
    left, _ = hosts
    subprocess.run(["ip", "-n", left.name, "link", "add", "veth9", "type", "veth"], check=True)
    assert "veth9 is there already, and no TAP" in refused(f"tap:veth9,netns={left.name}")
    left.run("ip", "link", "del", "veth9")


def test_no_such_namespace() -> None:
    assert "sudo ip netns add wst-nowhere" in refused("tap:tap0,netns=wst-nowhere")


@pytest.mark.parametrize(
    "bad",
    [
        "tap:a-name-that-is-too-long",
        "tap:a/b",
        "tap:tap0,queues=0",
        "tap:tap0,mtu=20",
        "tap:tap0,mac=nonsense",
        "tap:tap0,mac=01:00:00:00:00:01",
        "tap:tap0,address=10.0.0.300/24",
    ],
)
def test_options_out_of_range(bad: str) -> None:
    with pytest.raises(PortError, match="port 'tap:"):
        port(bad)


def test_nothing_stays_open(hosts) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with hand(f"tap:tap0,netns={hosts[0].name},queues=2", queues=2):
        pass
    refused("tap:tap0,netns=wst-nowhere")
    assert len(os.listdir("/proc/self/fd")) == before
