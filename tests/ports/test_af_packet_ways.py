"""af_packet's other ways: slots that the kernel refuses, blocks, filters, fan-out, times; interfaces come and go."""

import contextlib
import errno
import os
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import LEFT_ADDRESS, Hand, Space, cable, eventually, hand, needs_namespaces, spaces

from wirespeed.errors import PortError
from wirespeed.jit import load64, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.af_packet import port as af_packet_port
from wirespeed.ports.af_packet.blocks import Block, BlockFrame, BlockQueue, receive_blocks_burst
from wirespeed.ports.af_packet.port import AfPacket
from wirespeed.ports.match import matches, parse_matches
from wirespeed.ports.netdev import Netdev
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port
from wirespeed.ports.status import Link

if TYPE_CHECKING:
    from tests.ports.conftest import Worker

pytestmark = needs_namespaces

STATION, OTHER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
EXPERIMENTAL = b"\x88\xb5"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space]]:
    """A host, and a namespace with the other ends of its cables."""
    with spaces("wl", "wm") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        yield left, middle


def frame(payload: bytes, tag: bytes = b"") -> bytes:
    return STATION + OTHER + tag + EXPERIMENTAL + payload


def spec(middle: Space, more: str = "") -> str:
    return f"af_packet:left,netns={middle.name}{more}"


def collect(ends: Hand, enough: Any, queues: int = 1) -> list[bytes]:
    """Frames, until ``enough(frames)``."""
    found: list[bytes] = []

    def look() -> bool:
        for queue in range(queues):
            found.extend(data for data, _ in ends.receive(queue))
        return bool(enough(found))

    eventually(look, "the frames")
    return found


# Sending from slots --------------------------------------------------------------------------------------


def test_what_the_kernel_refuses_is_taken_out_of_the_ring(hosts) -> None:
    """Good and bad ones mixed, again and again round the ring: every good one arrives, in order."""
    left, middle = hosts
    nonsense = {"gso_size": 10, "gso_type": 77}
    expected: list[bytes] = []
    found: list[bytes] = []
    with hand(spec(middle, ",slots=256")) as ends, left.raw() as wire:
        for turn in range(40):
            mixed: list[tuple[bytes, bool]] = []
            for number in range(16):
                good = (turn + number) % 3 != 0 or number % 5 == 0
                mixed.append((frame(struct.pack(">II", turn, number) * 4), good))
            expected += [data for data, good in mixed if good]
            vector = ends._memory.address
            for i, (data, good) in enumerate(mixed):
                store64(vector + i * 8, ends._write(data, 1600, None if good else nonsense))
            assert ends._transmit(ends.port.tx[0], ends.pool.cache(0), vector, len(mixed)) == len(mixed)
            while len(found) < len(expected):
                data = wire.recv(2048)
                if data[12:14] == EXPERIMENTAL:
                    found.append(data)
        assert found == expected
        stats = ends.port.stats()
        assert stats.tx_packets == len(expected)
        assert stats.tx_errors == 40 * 16 - len(expected)
        assert stats.tx_bytes == sum(map(len, expected))


def test_small_and_large_keep_their_order(hosts) -> None:
    """The MTU is raised while it runs: slots were made for the old one, what does not fit goes by a call."""
    left, middle = hosts
    with hand(spec(middle)) as ends, left.raw() as wire:
        try:
            left.run("ip", "link", "set", "eth0", "mtu", "9000")
            middle.run("ip", "link", "set", "left", "mtu", "9000")
            eventually(lambda: ends.port.mtu == 9000, "the new MTU")
            sent = [frame(os.urandom(size)) for size in (60, 8900, 100, 100, 9000, 46, 1500)]
            assert ends.send(*sent) == len(sent)
            found: list[bytes] = []
            while len(found) < len(sent):
                data = wire.recv(10000)
                if data[12:14] == EXPERIMENTAL:
                    found.append(data)
            assert found == sent
        finally:
            left.run("ip", "link", "set", "eth0", "mtu", "1500")
            middle.run("ip", "link", "set", "left", "mtu", "1500")


def test_a_tag_may_stand_above_the_mtu(hosts) -> None:
    left, middle = hosts
    tagged, larger = frame(b"t" * 1500, b"\x81\x00\x00\x05"), frame(b"t" * 1501, b"\x81\x00\x00\x05")
    with hand(spec(middle)) as ends, left.raw() as wire:
        assert ends.send(tagged, larger, frame(b"end")) == 3
        while wire.recv(2048) != frame(b"end"):
            pass
        assert ends.port.stats().tx_errors == 1
        assert ends.port.stats().tx_packets == 2


def test_a_full_interface_leaves_packets_to_the_caller(hosts) -> None:
    """A qdisc that takes two packets and lets none out."""
    _, middle = hosts
    middle.run("tc", "qdisc", "add", "dev", "left", "root", "tbf", "rate", "8bit", "burst", "100b", "limit", "200b")
    try:
        with hand(spec(middle)) as ends:
            taken = sum(ends.send(frame(bytes(50))) for _ in range(20))
            stats = ends.port.stats()
            assert taken < 20
            assert stats.tx_packets == taken
    finally:
        middle.run("tc", "qdisc", "del", "dev", "left", "root")


# Receiving in blocks -------------------------------------------------------------------------------------


def test_a_frame_longer_than_any_packet_is_an_error(pool: Pool, worker: "Worker") -> None:
    """BIG TCP: it can never be taken, so it must not stop the ring."""
    with contextlib.closing(Region(1 << 18, "test-blocks", huge=False)) as memory:
        queue, block = BlockQueue(memory.address), memory.address + 4096
        queue.ring, queue.blocks, queue.block_size = block, 1, 1 << 17
        Block(block).status, Block(block).packets, Block(block).first = 1, 3, 64
        at = block + 64
        for length in (60, 110_000, 60):
            header = BlockFrame(at)
            header.captured = header.length = length
            header.mac, header.following = 96, 96 + (length + 15 & ~15)
            at += header.following
        assert receive_blocks_burst(queue.address, worker.cache, worker.vector, 32) == 2
        assert (queue.packets, queue.errors, Block(block).status) == (2, 1, 0)
        pool.release(worker.vector, 2)


def test_blocks_go_round(hosts) -> None:
    left, middle = hosts
    with hand(spec(middle, ",ring=v3,frames=256,retire=200")) as ends, left.raw() as wire:
        assert "TPACKET_V3, 2 blocks of 256 KiB" in ends.port.facts()["receive"]
        for turn in range(8):
            sent = [frame(struct.pack(">II", turn, i) * 100) for i in range(150)]
            for data in sent:
                wire.send(data)
            assert collect(ends, lambda found: len(found) >= 150) == sent
        assert ends.port.extended()["kernel-drops"] == 0
        for _ in range(3000):
            wire.send(frame(bytes(1000)))
        got = collect(ends, lambda found: len(found) > 100 and not ends.receive())
        assert got
        lost = ends.port.extended()
        assert lost["kernel-drops"] > 0
        assert lost["ring-freezes"] > 0
        assert ends.port.stats().rx_dropped == lost["kernel-drops"]


# Filters -------------------------------------------------------------------------------------------------


def test_the_kernel_filters(hosts) -> None:
    """Tags stand beside the frame, not in it, where a packet socket's filter looks."""
    left, middle = hosts
    ipv4 = b"\x08\x00" + bytes.fromhex("450000200001000040110000c0a80001c0a80002") + struct.pack(">HHHH", 7, 53, 12, 0)
    seven, eight = b"\x81\x00\x00\x07", b"\x81\x00\x00\x08"
    kinds = [
        STATION + OTHER + tag + body
        for tag in (b"", seven, b"\x88\xa8\x00\x07", eight, eight + seven)
        for body in (EXPERIMENTAL + b"payload", ipv4 + b"data", ipv4[:-5] + b"\x36" + ipv4[-4:] + b"data")
    ]  # fmt: skip
    for rule in ("vlan/7", "udp/53", "vlan/8&udp/53", "ether/0x88b5", "vlan/7|udp/54"):
        with hand(spec(middle, f",match={rule}")) as ends, left.raw() as wire:
            for data in kinds:
                wire.send(data)
            end = next(data for data in reversed(kinds) if any(matches(each, data) for each in parse_matches(rule)))
            wire.send(end)
            expected = [data for data in kinds if any(matches(each, data) for each in parse_matches(rule))]
            assert collect(ends, lambda found, wanted=[*expected, end]: len(found) >= len(wanted)) == [*expected, end]
            assert Offload.FILTER in ends.port.offloads
            assert rule in ends.port.facts()["filter"]


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ("match=udpp", "did you mean 'udp'"),
        ("program=/nowhere", "tcpdump -ddd"),
        ("match=udp,program=/x", "two filters"),
    ],
)
def test_filters_that_are_none(bad: str, said: str) -> None:
    with pytest.raises(PortError, match=said):
        port(f"af_packet:eth0,{bad}")


# Fan-out, promiscuous, times -------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hash", "lb", "cpu", "rollover", "rnd", "qm"])
def test_every_packet_arrives_once_however_they_are_spread(hosts, mode: str) -> None:
    left, middle = hosts
    with hand(spec(middle, f",queues=2,fanout={mode}"), queues=2) as ends, left.raw() as wire:
        sent = [frame(struct.pack(">I", number) * 10) for number in range(64)]
        for data in sent:
            wire.send(data)
        assert sorted(collect(ends, lambda found: len(found) >= 64, queues=2)) == sorted(sent)
        assert ends.port.facts()["fanout"] == mode
        each = [stats.rx_packets for stats in ends.port.queue_stats()]
        assert sum(each) == 64
        if mode == "lb":
            assert each == [32, 32]


def test_promiscuous(hosts) -> None:
    _, middle = hosts

    def count() -> int:
        shown = middle.run("ip", "-d", "link", "show", "left")
        return int(shown.split("promiscuity ")[1].split()[0])

    before = count()
    with hand(spec(middle, ",promiscuous=yes,multicast=yes")) as ends:
        assert count() == before + 1
        ends.port.set_promiscuous(False)
        assert count() == before
        ends.port.set_promiscuous(True)
        assert count() == before + 1
    assert count() == before


@pytest.mark.parametrize("way", ["", ",ring=v3"])
def test_packets_get_their_time(hosts, way: str) -> None:
    left, middle = hosts
    with hand(spec(middle, f",timestamps=yes{way}")) as ends, left.raw() as wire:
        assert Offload.RX_TIMESTAMP in ends.port.offloads
        before = time.time_ns()
        wire.send(frame(b"when?"))
        times: list[int] = []

        def look() -> bool:
            vector = ends._memory.address
            got = ends._receive(ends.port.rx[0], ends.pool.cache(0), vector, 8)
            for i in range(got):
                desc = load64(vector + i * 8)
                assert desc & META
                line = CellHeader(header_of(ends.pool.cells, desc))
                assert (line.gso_size, line.checksum_state, line.vlan_tci, line.mark) == (0, 0, 0, 0)
                times.append(line.timestamp)
            ends.pool.release(vector, got)
            return bool(times)

        eventually(look, "the packet")
        assert before - 1_000_000 <= times[0] <= time.time_ns()


# What users ask and tell it --------------------------------------------------------------------------------


def test_mtu_and_address_are_changed(hosts) -> None:
    left, middle = hosts
    own = middle.run("cat", "/sys/class/net/left/address").strip()
    with hand(spec(middle)) as ends, left.raw() as wire:
        ends.port.set_mtu(1000)
        ends.port.set_mac(0x02_00_00_00_00_77)
        eventually(lambda: sum(event.kind == "changed" for event in ends.port.events.since()) >= 2, "both changes")
        assert (ends.port.mtu, ends.port.mac) == (1000, 0x02_00_00_00_00_77)
        assert "02:00:00:00:00:77" in middle.run("ip", "link", "show", "left")
        assert ends.send(frame(bytes(1001)), frame(bytes(1000))) == 2
        while wire.recv(2048) != frame(bytes(1000)):
            pass
        assert ends.port.stats().tx_errors == 1
        with pytest.raises(PortError, match="MTU 7 is refused"):
            ends.port.set_mtu(7)
        ends.port.set_mtu(1500)
        ends.port.set_mac(int(own.replace(":", ""), 16))


def test_the_link(hosts) -> None:
    _, middle = hosts
    made = port(spec(middle))
    assert not made.link().up
    with hand(spec(middle)) as ends:
        assert ends.port.link() == Link(True, 10_000, "")
        assert ends.port.facts()["driver"] == "veth"
        middle.run("ip", "link", "set", "left", "down")
        _wait(ends, "link-down", 1)  # events are said after the state that they are about
        assert not ends.port.link().up
        middle.run("ip", "link", "set", "left", "up")
        _wait(ends, "link-up", 1)
        assert ends.port.link().up
        assert [event.kind for event in ends.port.events.since()] == ["link-down", "link-up"]


# Interfaces come and go ------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["", ",queues=2", ",ring=v3,send=call"])
def test_an_interface_is_removed_and_returns(way: str) -> None:
    queues = 2 if "queues" in way else 1
    with spaces("gl", "gm") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(spec(middle, way), queues=queues) as ends:
            polled = [ends.port.descriptors(queue) for queue in range(queues)]
            opened = len(os.listdir("/proc/self/fd"))
            maps = _ring_maps()
            for turn in range(3):
                rings = list(ends.port._rings)
                left.run("ip", "link", "del", "eth0")
                _wait(ends, "gone", turn + 1)
                for ring in rings:
                    ring.count()  # as who was about to when the attendant closed it
                assert not ends.port.link().up
                assert ends.send(frame(b"into the void")) == 1
                assert all(ends.receive(queue) == [] for queue in range(queues))
                cable(left, middle, "left", LEFT_ADDRESS)
                _wait(ends, "returned", turn + 1)
                with left.raw() as wire:
                    mark = frame(b"back %d" % turn * 8)

                    def heard(wire: Any = wire, mark: bytes = mark) -> bool:
                        wire.send(mark)
                        return any(data == mark for queue in range(queues) for data, _ in ends.receive(queue))

                    eventually(heard, "to hear it again")
                    eventually(lambda turn=turn: ends.port.link().up, "the link")
                    assert ends.send(frame(b"answer")) == 1
                    while wire.recv(2048) != frame(b"answer"):
                        pass
            assert ends.port.stats().tx_dropped == 3
            assert [ends.port.descriptors(queue) for queue in range(queues)] == polled
            assert len(os.listdir("/proc/self/fd")) == opened
            assert _ring_maps() == maps


def test_a_return_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when udev renames an interface between the kernel's message and our bind."""
    make = AfPacket._make
    tries: list[int] = []

    def stubborn(self: AfPacket, device: Netdev) -> None:
        tries.append(1)
        if len(tries) == 2:
            raise OSError(errno.ENODEV, "No such device")
        make(self, device)

    monkeypatch.setattr(AfPacket, "_make", stubborn)
    monkeypatch.setattr(af_packet_port, "_RETRY_S", 0.01)
    with spaces("tl", "tm") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(spec(middle)) as ends:
            left.run("ip", "link", "del", "eth0")
            _wait(ends, "gone", 1)
            cable(left, middle, "left", LEFT_ADDRESS)
            eventually(lambda: len(tries) == 3, "the second try")
            assert any("No such device" in event.text for event in ends.port.events.since())
            with left.raw() as wire:

                def heard() -> bool:
                    wire.send(frame(b"again"))
                    return any(data == frame(b"again") for data, _ in ends.receive())

                eventually(heard, "to hear it again")


def _ring_maps() -> int:
    return Path("/proc/self/maps").read_text().count("socket:")


def _wait(ends: Hand, kind: str, count: int) -> None:
    eventually(lambda: sum(event.kind == kind for event in ends.port.events.since()) >= count, f"{count} times {kind}")


def test_an_interface_that_is_not_there_when_it_is_closed() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with spaces("cl", "cm") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(spec(middle)) as ends:
            left.run("ip", "link", "del", "eth0")
            _wait(ends, "gone", 1)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_killed_process_leaves_no_socket(hosts) -> None:
    _, middle = hosts
    code = (
        "from wirespeed.mem.pool import Pool; from wirespeed.ports.port import port; import os, signal\n"
        f"made = port({spec(middle, ',queues=2,promiscuous=yes')!r}); made.open(Pool(2048), 2, 2)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    source = str(Path(__file__).parents[2] / "src")
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": source}, capture_output=True)
    assert done.returncode == -9, done.stderr
    assert len(middle.run("cat", "/proc/net/packet").splitlines()) == 1
    assert "promiscuity 0" in middle.run("ip", "-d", "link", "show", "left")
