"""af_packet between network namespaces: real stacks at both ends, and literal frames."""

import hashlib
import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import (
    LEFT_ADDRESS,
    RIGHT_ADDRESS,
    Space,
    bridge,
    cable,
    eventually,
    hand,
    needs_compiler,
    needs_namespaces,
    needs_program,
    spaces,
)

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports.af_packet import socket as af_packet_socket
from wirespeed.ports.port import port

pytestmark = needs_namespaces

STATION, OTHER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
EXPERIMENTAL = b"\x88\xb5"  # IEEE 802 local experimental ethertype


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space, Space]]:
    """Two hosts and, between them, a namespace with the other ends of their cables."""
    with spaces("l", "m", "r") as (left, middle, right):
        cable(left, middle, "left", LEFT_ADDRESS)
        cable(right, middle, "right", RIGHT_ADDRESS)
        yield left, middle, right


def frame(payload: bytes, *tags: bytes) -> bytes:
    return STATION + OTHER + b"".join(tags) + EXPERIMENTAL + payload


def specs(middle: Space, more: str = "") -> tuple[str, str]:
    return f"af_packet:left,netns={middle.name}{more}", f"af_packet:right,netns={middle.name}{more}"


WAYS = ["", ",send=call", ",ring=v3"]


def gathered(ends, count: int) -> list[bytes]:  # type: ignore[no-untyped-def]
    """``count`` frames of our ethertype, in order."""
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(data for data, _ in ends.receive() if EXPERIMENTAL in data[12:22])
        return len(found) >= count

    eventually(enough, f"{count} frames received")
    assert len(found) == count
    return found


@pytest.mark.parametrize("way", WAYS)
def test_frames_arrive_as_they_were_sent(hosts, way: str) -> None:
    left, middle, _ = hosts
    sent = [frame(bytes([i]) * size) for i, size in enumerate([0, 1, 46, 100, 1000, 1499, 1500])]
    with hand(specs(middle, way)[0]) as ends, left.raw() as wire:
        before = middle.statistic("left", "rx_packets"), middle.statistic("left", "rx_bytes")
        for data in sent:
            wire.send(data)
        assert gathered(ends, len(sent)) == sent
        after = middle.statistic("left", "rx_packets"), middle.statistic("left", "rx_bytes")
        stats = ends.port.stats()
        assert (stats.rx_packets, stats.rx_bytes) == (after[0] - before[0], after[1] - before[1])
        assert stats.rx_errors == stats.rx_dropped == 0


def test_plain_frames_leave_the_header_line_alone(hosts) -> None:
    left, middle, _ = hosts
    with hand(specs(middle)[0]) as ends, left.raw() as wire:
        wire.send(frame(b"plain"))
        (found,) = eventually(ends.receive, "one frame")
        assert found == (frame(b"plain"), {})


@pytest.mark.parametrize(
    "tags",
    [
        [b"\x81\x00\x00\x05"],
        [b"\x81\x00\xef\xff"],  # priority 7, DEI clear, VLAN 4095
        [b"\x88\xa8\x00\x07"],
        [b"\x81\x00\x00\x00"],  # priority-tagged: VLAN 0
        [b"\x88\xa8\x00\x07", b"\x81\x00\x00\x05"],
    ],
    ids=["802.1Q", "4095", "802.1ad", "zero", "QinQ"],
)
@pytest.mark.parametrize("way", ["", ",ring=v3"])
def test_tags_are_put_back(hosts, tags, way: str) -> None:
    left, middle, _ = hosts
    with hand(specs(middle, way)[0]) as ends, left.raw() as wire:
        wire.send(frame(b"tagged", *tags))
        assert gathered(ends, 1) == [frame(b"tagged", *tags)]
        assert ends.port.stats().rx_bytes == len(frame(b"tagged", *tags))


@pytest.mark.parametrize("way", ["", ",send=call"])
@pytest.mark.parametrize("pieces", [1600, 700, 41])
def test_chains_are_sent_whole(hosts, pieces: int, way: str) -> None:
    left, middle, _ = hosts
    sent = [frame(os.urandom(size)) for size in (0, 60, 700, 1400)]
    with hand(specs(middle, way)[0]) as ends, left.raw() as wire:
        assert ends.send(*sent, pieces=pieces) == len(sent)
        found = []
        while len(found) < len(sent):
            data = wire.recv(2048)
            if data[12:14] == EXPERIMENTAL:
                found.append(data)
        assert found == sent
        stats = ends.port.stats()
        assert (stats.tx_packets, stats.tx_bytes) == (len(sent), sum(map(len, sent)))


@pytest.mark.parametrize("way", ["", ",send=call"])
def test_what_cannot_be_sent_is_an_error_and_stops_nothing(hosts, way: str) -> None:
    left, middle, _ = hosts
    runts = [b"", b"\x02\x00\x00", STATION + OTHER + b"\x88"]
    with hand(specs(middle, way)[0]) as ends, left.raw() as wire:
        before = middle.statistic("left", "tx_packets")
        jumbo = frame(b"j" * 1501)
        too_long = frame(b"l" * 1000)  # in 507 segments
        assert ends.send(*runts, jumbo, frame(b"good"), jumbo) == 6
        assert ends.send(too_long, frame(b"better"), pieces=2) == 2
        while wire.recv(2048) != frame(b"better"):
            pass
        assert ends.port.stats().tx_errors == len(runts) + 3
        assert ends.port.stats().tx_packets == 2 == middle.statistic("left", "tx_packets") - before


@pytest.mark.parametrize("way", ["", ",send=call"])
def test_offloads_that_make_no_sense_are_errors(hosts, way: str) -> None:
    _, middle, _ = hosts
    with hand(specs(middle, way)[0]) as ends:
        beyond = {"checksum_state": 1, "checksum_start": 2000, "checksum_offset": 16}
        assert ends.send(frame(b"x" * 100), meta=beyond) == 1
        assert ends.send(frame(b"x" * 100), meta={"gso_size": 10, "gso_type": 77}) == 1
        assert ends.port.stats().tx_errors == 2


def test_we_do_not_hear_ourselves(hosts) -> None:
    left, middle, _ = hosts
    with hand(specs(middle)[0]) as ends, left.raw() as wire:
        ends.send(frame(b"out"))
        wire.send(frame(b"in"))
        assert gathered(ends, 1) == [frame(b"in")]


@pytest.mark.parametrize("way", ["", ",ring=v3"])
def test_room_is_respected_and_nothing_is_lost(hosts, way: str) -> None:
    left, middle, _ = hosts
    sent = [frame(struct.pack(">I", i) * 16) for i in range(100)]
    with hand(specs(middle, way)[0]) as ends, left.raw() as wire:
        for data in sent:
            wire.send(data)
        found: list[bytes] = []
        while len(found) < len(sent):
            burst = eventually(lambda: ends.receive(room=7), "more frames")
            assert len(burst) <= 7
            found += [data for data, _ in burst]
        assert found == sent


def test_the_ring_goes_round_and_drops_are_counted(hosts) -> None:
    left, middle, _ = hosts
    with hand(specs(middle, ",frames=256")[0]) as ends, left.raw() as wire:
        for turn in range(3):
            sent = [frame(struct.pack(">II", turn, i) * 8) for i in range(200)]
            for data in sent:
                wire.send(data)
            assert gathered(ends, len(sent)) == sent
        for _ in range(300):
            wire.send(frame(b"one too many"))
        assert len(gathered(ends, 256)) == 256
        ends.port.refresh()
        assert ends.port.stats().rx_dropped == 44


def test_frames_larger_than_a_slot_come_whole(hosts) -> None:
    """Slots of 256 bytes: everything larger takes the way of super-packets."""
    left, middle, _ = hosts
    sent = [frame(os.urandom(size)) for size in (100, 200, 1500, 46, 900, 1, 1500)]
    with hand(specs(middle, ",frame=256")[0]) as ends, left.raw() as wire:
        for data in sent:
            wire.send(data)
        assert gathered(ends, len(sent)) == sent
        ends.port.refresh()
        assert ends.port.stats().rx_dropped == 0


@pytest.mark.parametrize("tag", [b"\x81\x00\x00\x2b", b"\x88\xa8\x01\x00"], ids=["802.1Q", "802.1ad"])
def test_a_large_frame_keeps_its_tag(hosts, tag: bytes) -> None:
    left, middle, _ = hosts
    sent = [frame(os.urandom(1000), tag), frame(os.urandom(1000)), frame(os.urandom(100), tag)]
    with hand(specs(middle, ",frame=256")[0]) as ends, left.raw() as wire:
        for data in sent:
            wire.send(data)
        assert gathered(ends, 3) == sent


def test_jumbo_frames_where_the_mtu_allows(hosts) -> None:
    left, middle, _ = hosts
    left.run("ip", "link", "set", "eth0", "mtu", "9000")
    middle.run("ip", "link", "set", "left", "mtu", "9000")
    try:
        with hand(specs(middle)[0]) as ends, left.raw() as wire:
            assert ends.port.mtu == 9000
            sent = [frame(os.urandom(size)) for size in (8999, 9000, 60)]
            for data in sent:
                wire.send(data)
            assert gathered(ends, 3) == sent
            assert ends.send(sent[0]) == 1
            while wire.recv(10000) != sent[0]:
                pass
    finally:
        left.run("ip", "link", "set", "eth0", "mtu", "1500")
        middle.run("ip", "link", "set", "left", "mtu", "1500")


def test_checksums_left_to_hardware_are_told(hosts) -> None:
    left, middle, _ = hosts
    # A neighbour that is not there, so that the datagram goes out without a question.
    left.run("ip", "neigh", "replace", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0")
    with hand(specs(middle)[0]) as ends, left.open_socket(2, 2) as udp:
        udp.sendto(b"payload", ("10.77.0.99", 9))
        data, meta = eventually(
            lambda: next((item for item in ends.receive() if item[0][23:24] == b"\x11"), None), "the datagram"
        )
        assert data.endswith(b"payload")
        assert (meta["checksum_state"], meta["checksum_start"], meta["checksum_offset"]) == (1, 34, 6)
        assert (meta["gso_size"], meta["gso_type"], meta["headers_length"]) == (0, 0, 0)


def test_facts_of_the_interface(hosts) -> None:
    _, middle, _ = hosts
    with hand(specs(middle)[0]) as ends:
        shown = middle.run("cat", "/sys/class/net/left/address", "/sys/class/net/left/mtu").split()
        assert ends.port.mac == int(shown[0].replace(":", ""), 16)
        assert ends.port.mtu == int(shown[1]) == 1500
        assert ends.port.index == int(middle.run("cat", "/sys/class/net/left/ifindex"))
        assert len(ends.port.descriptors(0)) == 1


def test_flows_are_spread_over_queues_and_none_is_twice(hosts) -> None:
    left, middle, _ = hosts
    left.run("ip", "neigh", "replace", "10.77.0.99", "lladdr", "02:00:00:00:00:99", "dev", "eth0")
    with hand(specs(middle, ",queues=2")[0], queues=2) as ends, left.open_socket(2, 2) as udp:
        for number in range(64):
            udp.sendto(struct.pack(">I", number), ("10.77.0.99", 1000 + number))
        found: dict[int, list[bytes]] = {0: [], 1: []}

        def enough() -> bool:
            for queue, frames in found.items():
                frames += [data[42:] for data, _ in ends.receive(queue) if data[23:24] == b"\x11"]
            return sum(map(len, found.values())) >= 64

        eventually(enough, "64 datagrams")
        assert sorted(found[0] + found[1]) == [struct.pack(">I", number) for number in range(64)]
        assert found[0]
        assert found[1]


def test_an_interface_that_goes_down_costs_a_count(hosts) -> None:
    _, middle, _ = hosts
    with hand(specs(middle)[0]) as ends:
        middle.run("ip", "link", "set", "left", "down")
        try:
            assert ends.send(*[frame(b"x" * 64)] * 5) == 5
            assert ends.port.stats().tx_dropped == 5
            assert ends.receive() == []
        finally:
            middle.run("ip", "link", "set", "left", "up")


@pytest.mark.parametrize("slot", [256, 2048])
def test_an_interface_that_comes_back_is_heard_again(hosts, slot: int) -> None:
    """The error that the socket keeps of it costs no packet, in either way of receiving."""
    left, middle, _ = hosts
    sent = [frame(bytes([i]) * 500) for i in range(3)]
    with hand(specs(middle, f",frame={slot}")[0]) as ends, left.raw() as wire:
        middle.run("ip", "link", "set", "left", "down")
        middle.run("ip", "link", "set", "left", "up")

        def heard() -> bool:  # the carrier comes back when it likes
            wire.send(frame(b"hello" * 100))
            return any(data == frame(b"hello" * 100) for data, _ in ends.receive())

        eventually(heard, "the interface to be back")
        wire.send(frame(b"begin"))
        eventually(lambda: any(data == frame(b"begin") for data, _ in ends.receive(room=1)), "the mark")
        for data in sent:
            wire.send(data)
        assert gathered(ends, 3) == sent
        ends.port.refresh()
        assert ends.port.stats().rx_dropped == 0


def reach(left: Space) -> None:
    """Wait until the hosts see each other: an address that a test before could not resolve stays failed a while."""
    seen = ("ping", "-q", "-c", "1", "-W", "1", RIGHT_ADDRESS)
    eventually(lambda: " 0% packet loss" in left.run(*seen, check=False), "the first ping")


# Real stacks at both ends --------------------------------------------------------------------------------


@needs_program("ping")
@needs_compiler
def test_ping(hosts) -> None:
    left, middle, _ = hosts
    with bridge(*specs(middle)):
        reach(left)
        for size in ("0", "56", "1472", "20000"):
            left.run("ping", "-q", "-c", "5", "-i", "0.01", "-W", "10", "-s", size, RIGHT_ADDRESS)


@needs_compiler
def test_tcp_keeps_every_byte_and_crosses_in_super_packets(hosts) -> None:
    left, middle, right = hosts
    content = os.urandom(1 << 20) * 50
    with bridge(*specs(middle)) as between, right.open_socket(2, 1) as server, left.open_socket(2, 1) as client:
        reach(left)
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
        assert between.chained > 100
        assert between.longest > 30000
        for made in between.ports:
            made.refresh()
            assert made.stats().tx_errors == made.stats().rx_errors == 0


@needs_compiler
def test_udp_datagrams_of_every_size(hosts) -> None:
    left, middle, right = hosts
    with bridge(*specs(middle)), right.open_socket(2, 2) as server, left.open_socket(2, 2) as client:
        reach(left)
        server.bind((RIGHT_ADDRESS, 7778))
        server.settimeout(30)
        for size in (0, 1, 100, 1472, 1473, 9000, 60000):  # the larger ones in fragments
            data = os.urandom(size)
            client.sendto(data, (RIGHT_ADDRESS, 7778))
            assert server.recv(65536) == data


@needs_compiler
def test_udp_segmentation_offload(hosts) -> None:
    """UDP_SEGMENT: one send, one packet through the bridge, many datagrams at the far end."""
    left, middle, right = hosts
    with bridge(*specs(middle)) as between:
        reach(left)
        with right.open_socket(2, 2) as server, left.open_socket(2, 2) as client:
            server.bind((RIGHT_ADDRESS, 7779))
            server.settimeout(30)
            client.connect((RIGHT_ADDRESS, 7779))
            client.send(b"first")  # resolves the neighbour
            assert server.recv(65536) == b"first"
            client.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
            data = os.urandom(20500)
            client.send(data)
            found = [server.recv(65536) for _ in range(21)]
            assert [len(part) for part in found] == [1000] * 20 + [500]
            assert b"".join(found) == data
        assert between.super_packets > 0


@needs_program("iperf3")
@needs_compiler
@pytest.mark.parametrize("options", [[], ["-R"], ["-u", "-b", "20M"]], ids=["tcp", "tcp-back", "udp"])
def test_iperf3(hosts, options: list[str]) -> None:
    left, middle, right = hosts
    with bridge(*specs(middle)):
        reach(left)
        server = right.start("iperf3", "-s", "-1", "--forceflush")
        assert server.stdout
        for line in server.stdout:
            if "listening" in line:
                break
        left.run("iperf3", "-c", RIGHT_ADDRESS, "-n", "20M", *options)
        server.wait(30)


@needs_compiler
def test_counters_agree_with_the_kernels(hosts) -> None:
    left, middle, right = hosts
    with bridge(*specs(middle)) as between, left.raw() as wire, right.raw() as far:
        before = {name: middle.statistic("right", name) for name in ("tx_packets", "tx_bytes")}
        sent = [frame(struct.pack(">I", i) + bytes(i)) for i in range(200)]
        for data in sent:
            wire.send(data)
        found = [far.recv(2048) for _ in sent]
        assert found == sent
        stats = between.ports[1].stats()
        assert stats.tx_packets == middle.statistic("right", "tx_packets") - before["tx_packets"] == 200
        assert stats.tx_bytes == middle.statistic("right", "tx_bytes") - before["tx_bytes"]


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


def test_no_such_interface(hosts) -> None:
    _, middle, _ = hosts
    assert "did you mean 'left'?" in refused(f"af_packet:lefft,netns={middle.name}")
    assert "no interface is called 'nothing-at-all-of-any-kind'" in refused("af_packet:nothing-at-all-of-any-kind")


def test_an_interface_that_is_down(hosts) -> None:
    _, middle, _ = hosts
    middle.run("ip", "link", "set", "left", "down")
    try:
        said = refused(f"af_packet:left,netns={middle.name}")
    finally:
        middle.run("ip", "link", "set", "left", "up")
    assert f"sudo ip netns exec {middle.name} ip link set left up" in said


def test_no_such_namespace() -> None:
    assert "sudo ip netns add wst-nowhere" in refused("af_packet:lo,netns=wst-nowhere")


def test_no_permission(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(af_packet_socket.socket, "socket", refuse)
    with pytest.raises(PortError) as raised:
        af_packet_socket._make("af_packet:x")
    said = str(raised.value)
    assert "CAP_NET_RAW" in said
    assert "sudo setcap" in said


@pytest.mark.parametrize(
    "bad",
    [
        "queues=0", "queues=65", "frames=1000", "frames=128", "frame=100", "frame=3000", "slots=100", "retire=0",
        "ring=v4", "send=rign", "fanout=hsh",
    ],
)  # fmt: skip
def test_options_out_of_range(bad: str) -> None:
    with pytest.raises(PortError, match=bad):
        port(f"af_packet:eth0,{bad}")


def test_nothing_stays_open(hosts) -> None:
    _, middle, _ = hosts
    before = len(os.listdir("/proc/self/fd"))
    with hand(specs(middle, ",queues=2")[0], queues=2):
        pass
    refused(f"af_packet:lefft,netns={middle.name}")
    assert len(os.listdir("/proc/self/fd")) == before
