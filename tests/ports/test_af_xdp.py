"""af_xdp between network namespaces: literal frames, the kernel beside it, interfaces that come and go."""

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import (
    LEFT_ADDRESS,
    Hand,
    Space,
    cable,
    eventually,
    hand,
    needs_compiler,
    needs_namespaces,
    spaces,
)

from wirespeed.errors import PortError
from wirespeed.jit import store64
from wirespeed.mem.descriptor import SHARED, CellHeader, header_of
from wirespeed.mem.pool import Pool
from wirespeed.ports.af_xdp import bpf
from wirespeed.ports.af_xdp import port as af_xdp_port
from wirespeed.ports.af_xdp.assembler import Assembler, Reg
from wirespeed.ports.af_xdp.attach import Attachment
from wirespeed.ports.af_xdp.query import attached
from wirespeed.ports.af_xdp.rings import Leg, RxQueue, TxQueue
from wirespeed.ports.netdev import facts, within
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port
from wirespeed.ports.rules.rules import TAKE

pytestmark = needs_namespaces

STATION, OTHER = bytes.fromhex("020000000002"), bytes.fromhex("020000000001")
EXPERIMENTAL = b"\x88\xb5"  # IEEE 802 local experimental ethertype
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space]]:
    """A host, and a namespace with the other end of its cable."""
    with spaces("l", "m") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        yield left, middle


def frame(payload: bytes) -> bytes:
    return STATION + OTHER + EXPERIMENTAL + payload


def spec(middle: Space, more: str = "") -> str:
    return f"af_xdp:left,netns={middle.name}{more}"


def gathered(ends: Hand, count: int, room: int = 64) -> list[bytes]:
    """``count`` frames of our ethertype, in order."""
    found: list[bytes] = []

    def enough() -> bool:
        found.extend(data for data, _ in ends.receive(room=room) if data[12:14] == EXPERIMENTAL)
        return len(found) >= count

    eventually(enough, f"{count} frames received")
    assert len(found) == count
    return found


def heard(wire: socket.socket, count: int, size: int = 65536) -> list[bytes]:
    """The next ``count`` frames of our ethertype on a wire."""
    found: list[bytes] = []
    while len(found) < count:
        data = wire.recv(size)
        if data[12:14] == EXPERIMENTAL:
            found.append(data)
    return found


def told(ends: Hand, *kinds: str) -> None:
    """Wait until the port's events are these, in this order: one is said after the state that it is about."""
    eventually(lambda: [each.kind for each in ends.port.events.since()] == list(kinds), f"events {kinds}")


def program_on(middle: Space, interface: str = "left") -> int:
    return within(middle.name, lambda: attached(facts("test", interface).index))


# Packets -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_frames_arrive_as_they_were_sent(hosts, mode: str) -> None:
    left, middle = hosts
    sent = [frame(bytes([i]) * size) for i, size in enumerate([46, 100, 1000, 1499, 1500])]
    with hand(spec(middle, f",mode={mode}")) as ends, left.raw() as wire:
        assert ends.port.facts()["mode"] == mode
        before = middle.statistic("left", "rx_packets")
        for data in sent:
            wire.send(data)
        assert gathered(ends, len(sent)) == sent
        assert middle.statistic("left", "rx_packets") - before == len(sent)
        stats = ends.port.stats()
        assert (stats.rx_packets, stats.rx_bytes) == (len(sent), sum(map(len, sent)))
        assert stats.rx_errors == stats.rx_dropped == stats.rx_no_buffer == 0


@pytest.mark.parametrize("pieces", [1 << 16, 700, 41])
def test_frames_leave_as_they_were_given(hosts, pieces: int) -> None:
    left, middle = hosts
    sent = [frame(os.urandom(size)) for size in (0, 60, 700, 1400, 1500)]
    with hand(spec(middle)) as ends, left.raw() as wire:
        before = left.statistic("eth0", "rx_packets")
        assert ends.send(*sent, pieces=pieces) == len(sent)
        assert heard(wire, len(sent)) == sent
        assert left.statistic("eth0", "rx_packets") - before == len(sent)
        stats = ends.port.stats()
        assert (stats.tx_packets, stats.tx_bytes) == (len(sent), sum(map(len, sent)))
        assert stats.tx_errors == stats.tx_dropped == 0


def test_what_cannot_be_sent_is_an_error_and_stops_nothing(hosts) -> None:
    left, middle = hosts
    runts = [b"", b"\x02\x00\x00", STATION + OTHER + b"\x88"]
    with hand(spec(middle)) as ends, left.raw() as wire:
        jumbo = frame(b"j" * 1505)
        assert ends.send(*runts, jumbo, frame(b"good"), jumbo) == 6
        assert ends.send(frame(b"l" * 1000), frame(b"better"), pieces=2) == 2  # in 507 segments: copied together
        assert heard(wire, 3) == [frame(b"good"), frame(b"l" * 1000), frame(b"better")]
        stats = ends.port.stats()
        assert (stats.tx_errors, stats.tx_packets) == (len(runts) + 2, 3)


def test_a_packet_with_several_holders(hosts) -> None:
    """Sent twice by one port while somebody else holds it; its cell is free when the last one lets go."""
    left, middle = hosts
    data = frame(b"shared" * 20)
    with hand(spec(middle)) as ends, left.raw() as wire:
        vector = ends._memory.address
        desc = ends._write(data, 1 << 16, None) | SHARED
        line = CellHeader(header_of(ends.pool.cells, desc))
        line.references = 3
        store64(vector, desc)
        store64(vector + 8, desc)
        assert int(ends._transmit(ends.port.tx[0], ends.pool.cache(0), vector, 2)) == 2
        assert heard(wire, 2) == [data, data]
        eventually(lambda: ends.send(frame(b"push")) and line.references == 1, "both are let go")
        heard(wire, 1)
        store64(vector, desc)
        ends.pool.release(vector, 1)


@needs_compiler
@pytest.mark.parametrize("more", ["", ",rx_ring=64,tx_ring=64", ",busy_poll=50"])
def test_rings_go_round(hosts, more: str) -> None:
    """More packets than a ring holds, both ways."""
    left, middle = hosts
    with hand(spec(middle, more)) as ends, left.raw() as wire:
        for number in range(150):
            sent = [frame(number.to_bytes(4) + bytes([i]) * 60) for i in range(40)]
            for data in sent:
                wire.send(data)
            assert gathered(ends, len(sent), room=7) == sent
            assert ends.send(*sent) == len(sent)
            assert heard(wire, len(sent)) == sent
        stats = ends.port.stats()
        assert stats.rx_packets == stats.tx_packets == 6000
        assert stats.rx_dropped == stats.rx_no_buffer == stats.tx_dropped == 0


@needs_compiler
def test_what_nobody_takes_is_counted(hosts) -> None:
    left, middle = hosts
    with hand(spec(middle, ",rx_ring=64")) as ends, left.raw() as wire:
        for _ in range(500):
            wire.send(frame(bytes(50)))
        eventually(lambda: middle.statistic("left", "rx_packets") >= 500, "all have come")
        ends.port.refresh()
        stats = ends.port.stats()
        assert stats.rx_dropped + stats.rx_no_buffer == 500 - 64
        assert len(gathered(ends, 64)) == 64
        named = ends.port.extended()
        assert named["queue0_rx_dropped"] + named["queue0_rx_ring_full"] >= 436


def test_the_far_side_is_down(hosts) -> None:
    """What the interface drops is counted as dropped, and the port goes on."""
    left, middle = hosts
    with hand(spec(middle)) as ends:
        left.run("ip", "link", "set", "eth0", "down")
        try:
            told(ends, "link-down")
            assert not ends.port.link().up
            taken = ends.send(*[frame(bytes(60))] * 10)
            stats = ends.port.stats()
            assert stats.tx_packets + stats.tx_dropped == taken
            assert stats.tx_packets == 0
        finally:
            left.run("ip", "link", "set", "eth0", "up")
        told(ends, "link-down", "link-up")
        assert ends.port.link().up
        with left.raw() as wire:
            assert ends.send(frame(b"again")) == 1
            assert heard(wire, 1) == [frame(b"again")]


def test_the_interface_is_down(hosts) -> None:
    """Nothing stays in the ring to be sent much later."""
    left, middle = hosts
    with hand(spec(middle)) as ends, left.raw() as wire:
        middle.run("ip", "link", "set", "left", "down")
        try:
            assert ends.send(*[frame(b"lost")] * 10) == 0
            assert ends.port.stats().tx_packets == 0
        finally:
            middle.run("ip", "link", "set", "left", "up")
        told(ends, "link-down", "link-up")
        eventually(lambda: left.running("eth0"), "a carrier of the far side")  # which drops what is sent without one
        assert ends.send(frame(b"now")) == 1
        assert heard(wire, 1) == [frame(b"now")]
        wire.send(frame(b"and back"))
        assert gathered(ends, 1) == [frame(b"and back")]


@pytest.fixture
def jumbo(hosts) -> Iterator[None]:
    left, middle = hosts
    left.run("ip", "link", "set", "eth0", "mtu", "9000")
    middle.run("ip", "link", "set", "left", "mtu", "9000")
    yield
    left.run("ip", "link", "set", "eth0", "mtu", "1500")
    middle.run("ip", "link", "set", "left", "mtu", "1500")


def test_jumbo_frames_are_chains(hosts, jumbo) -> None:
    left, middle = hosts
    sent = [frame(os.urandom(size)) for size in (60, 1778, 1779, 3600, 9000, 60, 9000)]
    with hand(spec(middle)) as ends, left.raw() as wire:
        assert Offload.MULTI_BUFFER in ends.port.offloads
        for data in sent:
            wire.send(data)
        assert gathered(ends, len(sent), room=2) == sent
        assert ends.send(*sent) == len(sent)
        assert heard(wire, len(sent)) == sent
        stats = ends.port.stats()
        assert stats.rx_bytes == stats.tx_bytes == sum(map(len, sent))
        assert stats.rx_packets == stats.tx_packets == len(sent)


def test_a_jumbo_frame_for_a_small_ring_is_left_to_the_caller(hosts, jumbo) -> None:
    _, middle = hosts
    with hand(spec(middle, ",tx_ring=64")) as ends:
        assert ends.send(*[frame(bytes(8900))] * 10) <= 10  # 60 descriptors; the rest is dropped by its owner
        assert ends.port.stats().tx_errors == 0


def test_a_chain_that_the_kernel_refuses_is_counted_and_comes_back(hosts, jumbo) -> None:
    """It takes 18 descriptors of a packet. Longer chains are copied together, unless we believe that it takes more."""
    left, middle = hosts
    longest, longer = frame(bytes(18 * 100 - 14)), frame(bytes(19 * 100 - 14))
    with hand(spec(middle)) as ends, left.raw() as wire:
        before = ends.pool.in_use
        assert ends.send(longest, longer, pieces=100) == 2
        assert heard(wire, 2) == [longest, longer]
        assert ends.port.extended()["queue0_tx_invalid_descs"] == 0
        TxQueue(ends.port.tx[0]).segments = 40
        assert ends.send(longer, pieces=100) == 1
        assert ends.port.extended()["queue0_tx_invalid_descs"] == 19
        eventually(lambda: ends.send(frame(b"next")) and ends.pool.in_use - before == 1, "its cells come back")
        assert heard(wire, 1) == [frame(b"next")]


# The kernel beside it --------------------------------------------------------------------------------------


def test_what_does_not_match_is_the_kernels(hosts) -> None:
    left, middle = hosts
    middle.run("ip", "address", "add", "10.77.0.9/24", "dev", "left")
    try:
        with hand(spec(middle, ",match=udp/53")) as ends:
            ours = left.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
            theirs = middle.open_socket(socket.AF_INET, socket.SOCK_DGRAM)
            with ours, theirs:
                theirs.bind(("10.77.0.9", 0))
                theirs.settimeout(60)
                ours.sendto(b"kernel", theirs.getsockname())  # ARP before it goes to the kernel, too
                assert theirs.recv(100) == b"kernel"
                ours.sendto(b"query", ("10.77.0.9", 53))
                (found,) = eventually(ends.receive, "the query")
                assert found[0].endswith(b"query")
            assert ends.port.extended()["passed_to_kernel"] >= 2
            assert ends.port.facts()["match"] == "udp&dport/53"
            assert Offload.FILTER in ends.port.offloads
    finally:
        middle.run("ip", "address", "del", "10.77.0.9/24", "dev", "left")


def test_the_kernel_keeps_its_packets_until_the_port_begins(hosts) -> None:
    left, middle = hosts
    pool = Pool(4096)
    made = port(spec(middle))
    made.open(pool, 1, 1)
    try:
        with middle.raw("left") as kernels, left.raw() as wire:
            wire.send(frame(b"early"))
            assert heard(kernels, 1) == [frame(b"early")]
    finally:
        made.close()
        assert pool.in_use == 0
        pool.close()


@pytest.fixture
def two_queues(hosts) -> Iterator[None]:
    left, middle = hosts
    left.run("ethtool", "-L", "eth0", "tx", "2")
    middle.run("ethtool", "-L", "left", "rx", "2")
    yield
    fewer = ["ip", "netns", "exec", middle.name, "ethtool", "-L", "left", "rx", "1"]
    eventually(lambda: not subprocess.run(fewer, capture_output=True).returncode, "the kernel lets go of queue 1")
    left.run("ethtool", "-L", "eth0", "tx", "1")


@pytest.mark.parametrize("records", [1, 2])
@pytest.mark.parametrize("more", ["", ",queues=2", ",queues=0-1"])
def test_two_queues(hosts, two_queues, records: int, more: str) -> None:
    """Flows over both; a port with fewer queue records than the interface has queues takes them in turn."""
    left, middle = hosts
    with hand(spec(middle, more), queues=records) as ends:
        assert len(ends.port.rx) == records
        assert sum(len(ends.port.descriptors(i)) for i in range(records)) == 2
        left.run("ip", "neigh", "replace", "10.77.0.9", "lladdr", "02:00:00:00:00:09", "dev", "eth0")
        count = 200
        with left.open_socket(socket.AF_INET, socket.SOCK_DGRAM) as flows:
            for i in range(count):
                flows.sendto(i.to_bytes(4) + b"flow", ("10.77.0.9", 1000 + i))
        found: set[bytes] = set()

        def all_there() -> bool:
            for number in range(records):
                found.update(data[42:46] for data, _ in ends.receive(number) if data.endswith(b"flow"))
            return len(found) == count

        eventually(all_there, "every flow")
        assert ends.port.stats().rx_packets >= count


def test_some_of_the_queues(hosts, two_queues) -> None:
    _, middle = hosts
    with hand(spec(middle, ",queues=1")) as ends:
        assert ends.port.facts()["queues"] == "0 of 2"
    with hand(spec(middle, ",queues=1+0")) as ends:
        assert ends.port.facts()["queues"] == "1, 0 of 2"
    with pytest.raises(PortError, match=r"has 2 receive queues, so there is no queue 3.*ethtool -L left combined 4"):
        hand(spec(middle, ",queues=2-3")).__enter__()


# Who comes and goes ----------------------------------------------------------------------------------------


def test_the_interface_disappears_and_returns() -> None:
    with spaces("gone", "back") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(spec(middle)) as ends:
            for number in range(3):
                with left.raw() as wire:
                    for _ in range(20):
                        wire.send(frame(b"never read"))
                    ends.receive(room=4)
                    assert ends.send(frame(b"out")) == 1
                middle.run("ip", "link", "del", "left")
                kinds = lambda: [each.kind for each in ends.port.events.since()]  # noqa: E731
                eventually(lambda: kinds().count("gone") == number + 1, "it is gone")  # noqa: B023
                assert ends.pool.in_use == 0
                assert not ends.port.link().up
                assert ends.receive() == []
                assert ends.send(frame(b"lost")) == 0
                cable(left, middle, "left", LEFT_ADDRESS)
                eventually(lambda: kinds().count("returned") == number + 1 and ends.port.link().up, "it returns")  # noqa: B023
                with left.raw() as wire:
                    wire.send(frame(b"again"))
                    assert gathered(ends, 1) == [frame(b"again")]
                    assert ends.send(frame(b"back")) == 1
                    assert heard(wire, 1) == [frame(b"back")]
            assert ends.port.stats().tx_packets == 6
            assert "error" not in kinds()


def test_rules_that_are_refused_when_it_returns(monkeypatch: pytest.MonkeyPatch) -> None:
    """The port is opened once more, a while later."""
    tries: list[int] = []

    def carry_out(*_: object) -> None:
        tries.append(1)
        if len(tries) == 1:
            raise OSError(errno.ENOMEM, "no memory")

    monkeypatch.setattr(Attachment, "carry_out", carry_out)
    monkeypatch.setattr(af_xdp_port, "_RETRY_S", 0.01)
    with spaces("ref", "use") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        with hand(spec(middle)) as ends:
            ends.port._rules = ((), TAKE)  # type: ignore[attr-defined]
            middle.run("ip", "link", "del", "left")
            eventually(lambda: not ends.port.link().up, "it is gone")
            cable(left, middle, "left", LEFT_ADDRESS)
            eventually(lambda: len(tries) == 2 and ends.port.link().up, "it returns")
            assert any("refuses the rules: no memory" in each.text for each in ends.port.events.since())
            with left.raw() as wire:

                def through() -> bool:
                    wire.send(frame(b"again"))
                    return any(data == frame(b"again") for data, _ in ends.receive())

                eventually(through, "packets pass")


def test_busy_polling_asks_an_empty_ring(hosts) -> None:
    _, middle = hosts
    for more, busy in ((",busy_poll=20", 1), ("", 0)):
        with hand(spec(middle, more)) as ends:
            assert Leg(RxQueue(ends.port.rx[0]).leg).busy == busy


def test_a_new_mtu(hosts, jumbo) -> None:
    left, middle = hosts
    middle.run("ip", "link", "set", "left", "mtu", "1500")
    with hand(spec(middle)) as ends, left.raw() as wire:
        ends.port.set_mtu(9000)
        eventually(lambda: [e for e in ends.port.events.since() if e.kind == "changed"], "the change is seen")
        assert ends.send(frame(b"large" * 1000)) == 1
        assert heard(wire, 1) == [frame(b"large" * 1000)]
        with pytest.raises(PortError, match="does not take an MTU of 10"):
            ends.port.set_mtu(10)


def test_another_program_is_named_and_left_alone(hosts) -> None:
    _, middle = hosts
    code = Assembler()
    code.mov(Reg.R0, 2)
    code.exit()
    other = bpf.load_xdp(code.assemble(), "firewall")
    link = within(middle.name, lambda: bpf.attach_xdp(other, facts("test", "left").index, bpf.NATIVE))
    with bpf.closing(other, link):
        number = bpf.program_of(other).number
        with pytest.raises(PortError, match=f"left has another XDP program already, number {number} called 'firewall'"):
            hand(spec(middle)).__enter__()
        assert program_on(middle) == number


def test_nothing_stays(hosts, open_files) -> None:
    _, middle = hosts
    with hand(spec(middle)):
        pass
    before = open_files()
    with hand(spec(middle)) as ends:
        assert program_on(middle)
        assert ends.pool.in_use == 2048 // 2  # a quarter of the pool
        with pytest.raises(PortError, match=r"another XDP program already, number [0-9]+ called 'wirespeed'"):
            hand(spec(middle)).__enter__()
    assert open_files() == before
    assert program_on(middle) == 0


_VICTIM = """
import sys, time
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port
pool = Pool(4096)
made = port(sys.argv[1])
made.open(pool, 1, 1)
made.begin()
print("open", flush=True)
time.sleep(600)
"""


def test_killed_it_leaves_nothing(hosts) -> None:
    left, middle = hosts
    for _ in range(3):
        victim = subprocess.Popen(
            [sys.executable, "-c", _VICTIM, spec(middle)], stdout=subprocess.PIPE, env=ENVIRONMENT
        )
        assert victim.stdout is not None
        with victim.stdout as said:
            assert said.readline() == b"open\n"
            assert program_on(middle)
            victim.send_signal(signal.SIGKILL)
            victim.wait()
        eventually(lambda: program_on(middle) == 0, "the program is off")

    def reopened() -> bool:
        """The kernel lets go of the socket's queue a moment after the process."""
        try:
            ends = Hand(spec(middle))
        except PortError:
            return False
        with left.raw() as wire:
            wire.send(frame(b"alive"))
            assert gathered(ends, 1) == [frame(b"alive")]
        ends.close()
        return True

    eventually(reopened, "the queue is free again")


# What is wrong ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("af_xdp:eth0,que=1", "no option 'que': did you mean 'queues'"),
        ("af_xdp:eth0,queues=0", "queues='0' must be all, a number"),
        ("af_xdp:eth0,queues=65", "queues='65' must be"),
        ("af_xdp:eth0,queues=1+1", "different ones"),
        ("af_xdp:eth0,queues=3-1", "different ones"),
        ("af_xdp:eth0,queues=x", "queues='x' must be"),
        ("af_xdp:eth0,mode=nativ", "mode='nativ'; did you mean 'native'"),
        ("af_xdp:eth0,zero_copy=maybe", "zero_copy='maybe'"),
        ("af_xdp:eth0,mode=generic,zero_copy=yes", "choose one of the two"),
        ("af_xdp:eth0,rx_ring=100", "rx_ring=100 must be a power of two, 64 to 32768"),
        ("af_xdp:eth0,tx_ring=65536", "tx_ring=65536 must be"),
        ("af_xdp:eth0,busy_poll=-1", "busy_poll=-1 must be"),
        ("af_xdp:eth0,busy_budget=1", "busy_budget=1 must be"),
        ("af_xdp:eth0,match=ud/53", "there is no 'ud'; did you mean"),
        ("af_xdp:eth0,match=udp/70000", "0 to 65535"),
        ("af_xdp:eth0,match=icmp&sport/4", "no packet is"),
    ],
)
def test_bad_options(text: str, message: str) -> None:
    with pytest.raises(PortError, match=message):
        port(text)


def test_bad_interfaces(hosts) -> None:
    _, middle = hosts
    with pytest.raises(PortError, match="no interface is called 'lefd'; did you mean 'left'"):
        hand(f"af_xdp:lefd,netns={middle.name}").__enter__()
    with pytest.raises(PortError, match="no network namespace"):
        hand("af_xdp:left,netns=nowhere").__enter__()
    middle.run("ip", "link", "add", "down0", "type", "bridge")
    with pytest.raises(PortError, match=r"down0 is down; bring it up: sudo ip netns exec .* ip link set down0 up"):
        hand(f"af_xdp:down0,netns={middle.name}").__enter__()
    middle.run("ip", "link", "set", "down0", "up")
    with pytest.raises(PortError, match=r"takes no native XDP program .*mode=auto"):
        hand(f"af_xdp:down0,netns={middle.name},mode=native").__enter__()
    with hand(f"af_xdp:down0,netns={middle.name}") as ends:
        assert ends.port.facts()["mode"].startswith("generic (")
    with pytest.raises(PortError, match="no zero-copy: zero_copy=auto"):
        hand(spec(middle, ",zero_copy=yes")).__enter__()
    assert program_on(middle) == 0


def test_without_permission(hosts) -> None:
    """Which capability, and the command that grants it."""
    script = (
        "import os, sys; from wirespeed.mem.pool import Pool; from wirespeed.ports.port import port\n"
        "pool = Pool(4096); made = port('af_xdp:lo'); os.setgroups([]); os.setuid(65534)\n"
        "try: made.open(pool, 1, 1)\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.stdout.startswith("PortError port 'af_xdp:lo': "), done.stdout + done.stderr
    assert "CAP_NET_ADMIN" in done.stdout
    assert "setcap" in done.stdout
