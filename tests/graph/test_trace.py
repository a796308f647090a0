"""One node on one packet, interpreted: what it did, and that a debugger can look on."""

import sys

import pytest
from feed import ipv4_udp

import wirespeed as ws
from wirespeed.errors import NodeError
from wirespeed.mem.descriptor import ROOM

seen = ws.counter()
state = ws.per_worker(bursts=0, last=0)


class Telemetry(ws.Header):
    """A user's header: bits, a station, an IPv6 address."""

    version = ws.bits(0, 4)
    kind = ws.bits(4, 4)
    device = ws.be16(2)
    station = ws.mac(4)
    where = ws.ipv6(10)
    SIZE = 26


Telemetry.bind(ws.Udp, dport=4242)

BODY = bytes.fromhex("5a00 0007 020000000001 20010db8000000000000000000000001")


@ws.node(outputs=["telemetry"], drops=["other"])
def look(pkt):
    """Reads and rewrites."""
    seen.add(1)
    state.bursts += 1
    state.last = pkt.length
    t = pkt[Telemetry]
    if not t:
        return "other"
    if t.version == 5 and t.kind == 10:
        t.device += 1
        t.station = t.station + 1
        t.where = (t.where[0], 9)
        return "telemetry"


def test_what_it_did():
    frame = ipv4_udp(dport=4242, payload=BODY)
    before = seen.value
    said = look.trace(frame)
    assert (said.node, said.door, said.dropped, said.changed) == ("look", "telemetry", False, True)
    assert said.before == frame
    assert said.data == frame[:42] + bytes.fromhex("5a00 0008 020000000002 20010db8000000000000000000000009")
    touched = [str(touch) for touch in said.touched]
    assert "read Telemetry.version" in touched
    assert touched.index("read Telemetry.device") < touched.index("write Telemetry.device")
    assert "write Telemetry.where" in touched
    assert "telemetry" in str(said)
    assert seen.value == before + 1
    assert state.last == [len(frame)]


def test_the_other_doors():
    said = look.trace(ipv4_udp(dport=53))
    assert (said.door, said.dropped, said.changed) == ("other", True, False)
    assert str(said).startswith("look: drop 'other', 42 bytes")
    said = look.trace(ipv4_udp(dport=4242, payload=bytes(26)))
    assert (said.door, said.dropped) == ("", False)
    assert "default output" in str(said)


def test_absent_headers_are_safe():
    for frame in (b"", b"\x00", bytes(13), bytes(14), bytes(60), b"\xff" * 60, ipv4_udp(dport=4242, payload=BODY[:-1])):
        assert look.trace(frame).door == "other"


def test_scapy_packets():
    scapy = pytest.importorskip("scapy.layers.inet")
    layer2 = pytest.importorskip("scapy.layers.l2")
    packet = layer2.Ether(dst="02:00:00:00:00:02") / scapy.IP(dst="10.0.0.2") / scapy.UDP(dport=4242) / BODY
    said = look.trace(packet)
    assert said.door == "telemetry"
    assert len(said.data) == len(bytes(packet))


def test_packets_that_do_not_fit():
    look.trace(bytes(ROOM))
    with pytest.raises(NodeError, match=f"at most {ROOM} bytes, not {ROOM + 1}"):
        look.trace(bytes(ROOM + 1))


def test_growing_and_shrinking():
    @ws.node
    def tag(pkt):
        """Push a tag, cut the tail."""
        pkt.push_vlan(0x8100, 5)
        pkt.trim(2)

    frame = ipv4_udp(payload=b"abcd")
    assert tag.trace(frame).data == frame[:12] + bytes.fromhex("81000005") + frame[12:-2]


def test_a_door_of_no_declaration():
    @ws.node(outputs=["a"])
    def wrong(pkt):
        """Computed, so only a trace can know."""
        return "a"[::-1] + "b"

    with pytest.raises(NodeError, match="wrong returned 'ab', which it does not declare"):
        wrong.trace(bytes(64))


def test_the_port_it_came_in_by():
    @ws.node(outputs=["two"])
    def by_port(pkt):
        """By number."""
        if pkt.port == 2:
            return "two"

    assert by_port.trace(bytes(60), port=2).door == "two"
    assert by_port.trace(bytes(60)).door == ""


@ws.node(outputs=["dns"])
def stops(pkt):
    """Someone is debugging."""
    port = pkt.udp.dport
    breakpoint()
    if port == 53:
        return "dns"


def test_breakpoint(monkeypatch):
    looked = []

    def hook():
        frame = sys._getframe(1)
        looked.append((frame.f_code.co_name, frame.f_locals["port"], frame.f_locals["pkt"].udp.dport))
        assert "Udp(sport=1234, dport=53" in repr(frame.f_locals["pkt"].udp)

    monkeypatch.setattr(sys, "breakpointhook", hook)
    assert stops.trace(ipv4_udp(dport=53)).door == "dns"
    assert looked == [("stops", 53, 53)]


def test_a_debugger_sees_every_line():
    lines = []

    def tracer(frame, event, argument):
        if frame.f_code is look.function.__code__:
            lines.append(frame.f_lineno - look.function.__code__.co_firstlineno)
            return tracer
        return None

    before = sys.gettrace()
    sys.settrace(tracer)
    try:
        look.trace(ipv4_udp(dport=53))
    finally:
        sys.settrace(before)
    assert lines[0] == 0
    assert {3, 4, 5, 6, 7, 8} <= set(lines)


def test_an_error_inside_leaves_nothing_behind():
    @ws.node
    def fails(pkt):
        """Raises."""
        raise ValueError("inside")

    with pytest.raises(ValueError, match="inside"):
        fails.trace(bytes(60))
    assert state.bursts == [state[0].bursts]  # no longer traced: a list, one number a worker
