"""MLD's host side: its bytes, read by scapy, and what differs from IGMP; the rest is one code, tested there."""

import random
from ipaddress import IPv6Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed (pip install wirespeed[dev])")

from wirespeed.stack.group_filter import FilterMode, GroupFilter  # noqa: E402
from wirespeed.stack.membership import GroupJoined  # noqa: E402
from wirespeed.stack.mld import Mld  # noqa: E402
from wirespeed.stack.packets import SendPacket, solicited_node  # noqa: E402

HOST, ROUTER = IPv6Address("fe80::2"), IPv6Address("fe80::1")
G, G2 = IPv6Address("ff15::1:3"), IPv6Address("ff15::1:4")
A, B = IPv6Address("2001:db8::a"), IPv6Address("2001:db8::b")
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = range(1, 7)


@pytest.fixture
def host():
    return Mld(random.Random(3), HOST)


def said(outputs, source=HOST):
    found = []
    for output in outputs:
        if not isinstance(output, SendPacket):
            continue
        packet = scapy.IPv6(output.packet)
        assert (packet.src, packet.hlim, packet.nh) == (str(source), 1, 0)
        alert = packet[scapy.IPv6ExtHdrHopByHop]
        assert alert.len == 0 and alert.options[0].otype == 5 and alert.options[0].value == 0
        again = scapy.IPv6(output.packet)
        if scapy.ICMPv6MLReport2 in packet:
            assert packet.dst == "ff02::16"
            del again[scapy.ICMPv6MLReport2].cksum
            (record,) = packet[scapy.ICMPv6MLReport2].records
            while record:  # scapy has each one inside the one before
                found.append((record.rtype, record.dst, tuple(record.sources)))
                record = record.payload
        else:
            kind = scapy.ICMPv6MLReport if scapy.ICMPv6MLReport in packet else scapy.ICMPv6MLDone
            del again[kind].cksum
            found.append((packet[kind].type, packet.dst, packet[kind].mladdr))
        assert bytes(again) == output.packet
    return found


def query(group="::", sources=(), code=10000):
    return bytes(scapy.ICMPv6MLQuery2(mrd=code, mladdr=str(group), sources=list(map(str, sources)), QRV=2, QQIC=125))


def ask(host, message, now_s, source=ROUTER, hop_limit=1, router_alert=True):
    host.receive(source, hop_limit, router_alert, message, now_s)


def drain(host, until_s):
    found = []
    while host.due_s <= until_s:
        now_s = host.due_s
        found += [(now_s, what) for what in said(host.tick(now_s))]
    return found


def quiet(host, *groups):
    for group in groups:
        host.join(group, 0.0)
    drain(host, 10.0)
    return host


def test_joins_and_leaves(host):
    assert said(host.join(G, 0.0)) == [(TO_EX, str(G), ())]
    assert [what for _, what in drain(host, 10.0)] == [(TO_EX, str(G), ())]
    state = GroupFilter(FilterMode.INCLUDE, frozenset((B, A)))
    assert said(host.listen(G2, state, 11.0)) == [(ALLOW, str(G2), (str(A), str(B)))]
    assert said(host.leave(G, 12.0)) == [(TO_IN, str(G), ())]


def test_before_there_is_an_address():
    """RFC 3590: from the unspecified address, for the switch that snoops must know before detection begins."""
    host = Mld(random.Random(1))
    group = solicited_node(HOST)
    assert str(group) == "ff02::1:ff00:2"
    assert said(host.join(group, 0.0), IPv6Address("::")) == [(TO_EX, str(group), ())]
    host.address = HOST
    assert said(host.refresh(1.0)) == [(TO_EX, str(group), ())]


def test_queries(host):
    quiet(host, G, G2)
    ask(host, query(), 100.0)
    assert [what for _, what in drain(host, 200.0)] == [(IS_EX, str(G), ()), (IS_EX, str(G2), ())]
    ask(host, query(G, (B,), 500), 300.0)
    ((at, what),) = drain(host, 400.0)
    assert what == (IS_IN, str(G), (str(B),)) and at <= 300.5


def test_queries_that_do_not_count(host):
    """RFC 3810 section 6.2."""
    quiet(host, G)
    ask(host, query(), 100.0, source=IPv6Address("2001:db8::1"))
    ask(host, query(), 100.0, source=IPv6Address("::"))
    ask(host, query(), 100.0, hop_limit=64)
    ask(host, query(), 100.0, router_alert=False)
    ask(host, query()[:26], 100.0)
    ask(host, query(G, (A, B))[:40], 100.0)
    assert drain(host, 200.0) == [] and host.stats.ignored == {"ttl": 3, "router-alert": 1, "malformed": 2}


@pytest.mark.parametrize("group", ["ff02::1", "ff01::5", "ff00::7"])
def test_groups_that_are_never_reported(host, group):
    address = IPv6Address(group)
    assert host.join(address, 0.0) == [GroupJoined(address)]
    ask(host, query(), 1.0)
    assert drain(host, 100.0) == []


def test_beside_a_version_1_querier(host):
    """RFC 3810 section 8.2.1, RFC 2710."""
    quiet(host, G)
    ask(host, bytes(scapy.ICMPv6MLQuery(mrd=10000)), 100.0)
    assert host.version == 1
    assert [what for _, what in drain(host, 200.0)] == [(131, str(G), str(G))]
    ask(host, bytes(scapy.ICMPv6MLQuery(mrd=10000)), 201.0)
    ask(host, bytes(scapy.ICMPv6MLReport(mladdr=str(G))), 201.01, source=IPv6Address("fe80::9"))
    assert drain(host, 300.0) == [] and host.stats.suppressed == 1
    assert said(host.leave(G, 301.0)) == [(132, "ff02::2", str(G))]


def test_many_groups_stay_below_the_mtu():
    host = Mld(random.Random(1), HOST, mtu=1280)
    quiet(host, *(IPv6Address(int(G) + number) for number in range(200)))
    ask(host, query(), 100.0)
    out = host.tick(host.due_s)
    assert len(said(out)) == 200 and max(len(output.packet) for output in out) <= 1280


@given(kind=st.sampled_from([130, 131, 132, 143, 0]), message=st.binary(max_size=80))
@settings(deadline=None)
def test_no_bytes_make_it_fail(kind, message):
    host = quiet(Mld(random.Random(1), HOST), G)
    ask(host, bytes((kind,)) + message, 20.0)
    ask(host, bytes((kind, 0)) + message, 20.0)
    drain(host, 1e6)
    assert host.groups == [G]
