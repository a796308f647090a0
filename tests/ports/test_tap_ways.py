"""tap and tun: one call for a burst or one a packet, no offloads, no Ethernet; interfaces that are removed or moved."""

import contextlib
import os
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import Hand, Space, eventually, hand, needs_namespaces, spaces

from wirespeed.errors import PortError
from wirespeed.ports import uring
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port
from wirespeed.ports.tap.queue import TapQueue

pytestmark = needs_namespaces

STATION, OTHER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
EXPERIMENTAL = b"\x88\xb5"
WAYS = ["", ",uring=no", ",offloads=no", ",offloads=no,uring=no"]


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with spaces("tw") as (made,):
        made.run("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/default/disable_ipv6")
        yield made


def frame(payload: bytes) -> bytes:
    return STATION + OTHER + EXPERIMENTAL + payload


def spec(space: Space, way: str = "", kind: str = "tap") -> str:
    return f"{kind}:w0,netns={space.name},address=10.0.0.1/24{way}"


def gathered(end: Hand, count: int, room: int = 64) -> list[tuple[bytes, dict[str, int]]]:
    found: list[tuple[bytes, dict[str, int]]] = []

    def look() -> bool:
        found.extend(end.receive(room=room))
        return len(found) >= count

    eventually(look, f"{count} packets")
    return found


@pytest.mark.parametrize("way", WAYS)
def test_bursts_both_ways(space: Space, way: str) -> None:
    """More than one call takes, in order, of every size."""
    with hand(spec(space, way)) as end, space.raw("w0") as wire:
        wire.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)  # SO_RCVBUFFORCE
        sent = [frame(struct.pack(">I", number) * (number % 300 + 1)) for number in range(150)]
        for data in sent:
            wire.send(data)
        assert [data for data, _ in gathered(end, 150, room=50)] == sent
        assert end.send(*sent) == 150
        assert [wire.recv(2048) for _ in sent] == sent
        stats = end.port.stats()
        assert (stats.rx_packets, stats.rx_bytes) == (150, sum(map(len, sent)))
        assert (stats.tx_packets, stats.tx_bytes) == (150, sum(map(len, sent)))
        assert stats.rx_errors == stats.tx_errors == stats.tx_dropped == 0
        wanted = "io_uring" if "uring=no" not in way else "one a packet"
        assert wanted in end.port.facts()["calls"]
        assert (Offload.TX_CHECKSUM in end.port.offloads) == ("offloads=no" not in way)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pieces", [1600, 41])
def test_errors_in_a_burst_stop_nothing(space: Space, way: str, pieces: int) -> None:
    good = [frame(bytes([number]) * (100 * number)) for number in range(8)]
    mixed = [part for data in good for part in (data, b"runt")]
    with hand(spec(space, way)) as end, space.raw("w0") as wire:
        assert end.send(*mixed, pieces=pieces) == len(mixed)
        assert [wire.recv(2048) for _ in good] == good
        assert end.port.stats().tx_errors == len(good)
        assert end.port.stats().tx_packets == len(good)


@pytest.mark.parametrize("way", WAYS[:2])
def test_super_packets_among_small_ones(space: Space, way: str) -> None:
    """Datagrams whose segmentation is left to us, then small ones, and so on: nothing is cut, lost or out of order."""
    with hand(spec(space, way)) as end, space.open_socket(2, 2) as udp:
        space.run("ip", "neigh", "replace", "10.0.0.99", "lladdr", "02:00:00:00:00:99", "dev", "w0")
        sent = []
        udp.setsockopt(17, 103, 1000)  # SOL_UDP, UDP_SEGMENT
        for number in range(24):
            size = 30000 if number % 5 in (1, 2) else 100
            sent.append(bytes([number]) * size)
            udp.sendto(sent[-1], ("10.0.0.99", 9))
        found = gathered(end, len(sent), room=7)
        assert [data[42:] for data, _ in found] == sent
        assert [meta["gso_size"] for data, meta in found] == [1000 if len(data) > 1000 else 0 for data in sent]


def test_without_offloads_the_host_does_it_all(space: Space) -> None:
    with hand(spec(space, ",offloads=no")) as end, space.open_socket(2, 2) as udp:
        space.run("ip", "neigh", "replace", "10.0.0.99", "lladdr", "02:00:00:00:00:99", "dev", "w0")
        udp.setsockopt(17, 103, 1000)
        udp.sendto(bytes(3500), ("10.0.0.99", 9))
        found = gathered(end, 4)
        assert [len(data) - 42 for data, _ in found] == [1000, 1000, 1000, 500]
        assert [meta for _, meta in found] == [{}] * 4
        assert end.send(frame(bytes(50)), meta={"checksum_state": 1, "checksum_start": 14, "checksum_offset": 2}) == 1
        assert end.send(frame(bytes(50)), meta={"gso_size": 10, "gso_type": 1}) == 1
        assert end.port.stats().tx_errors == 2


def test_without_io_uring_it_works_as_well(space: Space, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(uring.Made, "__init__", refuse)
    with hand(spec(space)) as end, space.raw("w0") as wire:
        assert "one a packet" in end.port.facts()["calls"]
        wire.send(frame(b"in"))
        assert gathered(end, 1)[0][0] == frame(b"in")
        assert end.send(frame(b"out")) == 1


@pytest.mark.parametrize("others", [0, 60])
def test_what_the_host_has_no_room_for_is_counted(space: Space, others: int) -> None:
    """Also on a host with so many interfaces that the kernel does not tell of all of them at once."""
    pairs = f"for i in $(seq {others // 2}); do echo link add one$i group 7 type veth peer name two$i; done"
    with contextlib.ExitStack() as stack:
        space.run("sh", "-c", f"{pairs} | ip -batch -")
        stack.callback(space.run, "ip", "link", "delete", "group", "7", check=False)
        end, wire = stack.enter_context(hand(spec(space))), stack.enter_context(space.raw("w0"))
        space.run("ip", "link", "set", "w0", "txqueuelen", "10")
        wire.setsockopt(263, 20, 1)  # PACKET_QDISC_BYPASS
        lost = 0
        for _ in range(30):
            try:
                wire.send(frame(bytes(50)))
            except OSError:
                lost += 1
        assert lost == 20
        end.port.refresh()
        assert end.port.stats().rx_dropped == end.port.extended()["host-drops"] == 20
        assert len(gathered(end, 10)) == 10


def test_carrier_mtu_and_address(space: Space) -> None:
    with hand(spec(space)) as end:
        made = end.port
        eventually(lambda: made.link().up, "the link")
        made.set_carrier(False)
        eventually(lambda: made.link().detail == "no carrier", "no carrier")
        made.set_carrier(True)
        eventually(lambda: made.link().up, "the carrier again")
        made.set_mtu(9000)
        made.set_mac(0x0200_0000_0055)
        assert "mtu 9000" in space.run("ip", "link", "show", "w0")
        assert "02:00:00:00:00:55" in space.run("ip", "link", "show", "w0")
        assert [event.kind for event in made.events.since()][:2] == ["link-down", "link-up"]
        with pytest.raises(PortError, match="MTU 70000 is refused"):
            made.set_mtu(70000)


# TUN -----------------------------------------------------------------------------------------------------


def ipv4(payload: bytes) -> bytes:
    return struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 1, 0, 64, 253, 0) + b"\x0a\0\0\x63\x0a\0\0\1" + payload


@pytest.mark.parametrize("way", WAYS)
def test_tun_packets_have_a_made_up_header(space: Space, way: str) -> None:
    with hand(spec(space, way, "tun")) as end, space.open_socket(2, 2) as udp:
        udp.sendto(b"payload", ("10.0.0.99", 9))
        (found,) = gathered(end, 1)
        data, meta = found
        assert data[:14] == end.port.mac.to_bytes(6) + bytes.fromhex("02777374756f") + b"\x08\x00"
        assert data[14] == 0x45
        assert data.endswith(b"payload")
        if "offloads=no" not in way:
            assert (meta["checksum_state"], meta["checksum_start"], meta["checksum_offset"]) == (1, 34, 6)
        assert end.port.stats().rx_bytes == len(data)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("pieces", [1600, 41])
def test_tun_sends_ip_only(space: Space, way: str, pieces: int) -> None:
    packet = ipv4(b"x" * 100)
    ethernet = STATION + OTHER + b"\x08\x00"
    arp = STATION + OTHER + b"\x08\x06" + bytes(28)
    with hand(spec(space, way, "tun")) as end, space.open_socket(2, 3, 253) as raw:
        raw.settimeout(20)
        _checksum = sum(struct.unpack(">10H", packet[:20]))
        while _checksum >> 16:
            _checksum = (_checksum & 0xFFFF) + (_checksum >> 16)
        packet = packet[:10] + struct.pack(">H", ~_checksum & 0xFFFF) + packet[12:]
        assert end.send(arp, ethernet + packet, b"short", ethernet, ethernet + packet, pieces=pieces) == 5
        assert [raw.recv(2048) for _ in range(2)] == [packet] * 2
        assert end.port.stats().tx_errors == 3
        assert end.port.stats().tx_bytes == 2 * (14 + len(packet))


def test_tun_super_packets(space: Space) -> None:
    with hand(spec(space, "", "tun")) as end, space.open_socket(2, 2) as udp:
        udp.setsockopt(17, 103, 1000)
        for _ in range(2):  # by way of the scratch area, then straight into cells
            udp.sendto(b"x" * 30000, ("10.0.0.99", 9))
            (found,) = gathered(end, 1)
            assert len(found[0]) == 42 + 30000
            assert (found[1]["gso_size"], found[1]["headers_length"], found[1]["checksum_start"]) == (1000, 42, 34)


def test_tun_has_no_address_to_set() -> None:
    with pytest.raises(PortError, match="no option 'mac'"):
        port("tun:w0,mac=02:00:00:00:00:01")


# Interfaces that are removed, moved, left ------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tap", "tun"])
def test_an_interface_that_is_removed_is_made_again(space: Space, kind: str) -> None:
    with hand(spec(space, ",queues=2,mtu=1400", kind), queues=2) as end:
        polled = [end.port.descriptors(queue) for queue in range(2)]
        opened = len(os.listdir("/proc/self/fd"))
        for turn in range(3):
            index = end.port.index
            space.run("ip", "link", "del", "w0")
            eventually(lambda turn=turn: _count(end, "returned") == turn + 1, "it to return")
            assert end.port.index != index
            shown = space.run("ip", "address", "show", "w0")
            assert "mtu 1400" in shown
            assert "10.0.0.1/24" in shown
            with space.open_socket(2, 2) as udp:
                if kind == "tap":
                    space.run("ip", "neigh", "replace", "10.0.0.99", "lladdr", "02:00:00:00:00:99", "dev", "w0")
                udp.sendto(b"hello again", ("10.0.0.99", 9))
                eventually(
                    lambda: any(data.endswith(b"hello again") for q in range(2) for data, _ in end.receive(q)),
                    "a packet",
                )
        assert _count(end, "gone") == 3
        assert [end.port.descriptors(queue) for queue in range(2)] == polled
        assert len(os.listdir("/proc/self/fd")) == opened


def _count(end: Hand, kind: str) -> int:
    return sum(event.kind == kind for event in end.port.events.since())


def test_while_there_is_no_interface(space: Space) -> None:
    with hand(spec(space)) as end:
        for address in (*end.port.rx, *end.port.tx):  # as in the moments between
            TapQueue(address).fd = -1
        assert end.receive() == []
        assert end.send(frame(b"x"), frame(b"y")) == 2
        assert end.port.stats().tx_dropped == 2


def test_an_interface_that_is_moved_goes_on(space: Space) -> None:
    with spaces("tm") as (other,), hand(spec(space)) as end:
        space.run("ip", "link", "set", "w0", "netns", other.name)
        eventually(lambda: _count(end, "gone"), "it to be gone from there")
        assert any("moved to another namespace" in event.text for event in end.port.events.since())
        other.run("ip", "link", "set", "w0", "up")
        with other.raw("w0") as wire:
            assert end.send(frame(b"still here")) == 1
            while wire.recv(2048) != frame(b"still here"):
                pass


def test_a_killed_process_leaves_no_interface(space: Space) -> None:
    code = (
        "from wirespeed.mem.pool import Pool; from wirespeed.ports.port import port; import os, signal\n"
        f"made = port({spec(space, ',queues=2')!r}); made.open(Pool(2048), 2, 2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, capture_output=True)
    assert done.returncode == -9, done.stderr
    eventually(lambda: "w0" not in space.run("ip", "link"), "the interface to be gone")


def test_nothing_stays_open(space: Space) -> None:
    before = len(os.listdir("/proc/self/fd"))
    with hand(spec(space, ",queues=2"), queues=2):
        pass
    assert len(os.listdir("/proc/self/fd")) == before
    assert "w0" not in space.run("ip", "link")
