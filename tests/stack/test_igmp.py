"""IGMP's host side: what is said, read by scapy; the rules of RFC 3376 sections 3, 5 and 7, one by one."""

import random
from ipaddress import IPv4Address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed (pip install wirespeed[dev])")
v2 = pytest.importorskip("scapy.contrib.igmp", reason="scapy is not installed (pip install wirespeed[dev])")
v3 = pytest.importorskip("scapy.contrib.igmpv3", reason="scapy is not installed (pip install wirespeed[dev])")

from wirespeed.errors import TableError  # noqa: E402
from wirespeed.hashes.internet import checksum  # noqa: E402
from wirespeed.stack.group_filter import FilterMode, GroupFilter, merge  # noqa: E402
from wirespeed.stack.igmp import Igmp  # noqa: E402
from wirespeed.stack.membership import GroupJoined, GroupLeft  # noqa: E402
from wirespeed.stack.packets import SendPacket  # noqa: E402
from wirespeed.wire.igmp import floating  # noqa: E402

HOST = IPv4Address("10.7.0.2")
G, G2 = IPv4Address("239.1.2.3"), IPv4Address("239.1.2.4")
A, B, C = (IPv4Address(f"10.9.0.{number}") for number in (1, 2, 3))
IS_IN, IS_EX, TO_IN, TO_EX, ALLOW, BLOCK = range(1, 7)
MINUTE_S = 60.0


def include(*sources):
    return GroupFilter(FilterMode.INCLUDE, frozenset(sources))


def exclude(*sources):
    return GroupFilter(FilterMode.EXCLUDE, frozenset(sources))


@pytest.fixture(autouse=True)
def long_lists(monkeypatch):
    """scapy stops reading after 100 elements, unless told."""
    monkeypatch.setattr(scapy.conf, "max_list_count", 1000)


@pytest.fixture
def host():
    return Igmp(random.Random(3), HOST)


def said(outputs):
    """What the packets say: version 3 as (type, group, sources), older as (message type, destination, group)."""
    found = []
    for output in outputs:
        if not isinstance(output, SendPacket):
            continue
        packet = scapy.IP(output.packet)
        del packet.chksum
        assert bytes(packet)[:20] == output.packet[:20]
        packet = scapy.IP(output.packet)
        assert (packet.src, packet.ttl, packet.tos, packet.ihl) == (str(HOST), 1, 0xC0, 6)
        assert bytes(packet.options[0]) == bytes.fromhex("94040000")
        body = output.packet[24:]
        if body[0] != 0x22:
            old = v2.IGMP(body)
            found.append((old.type, packet.dst, old.gaddr))
            continue
        assert packet.dst == "224.0.0.22"
        report = v3.IGMPv3(body)
        del report.chksum
        assert bytes(report) == body
        records = v3.IGMPv3(body)[v3.IGMPv3mr].records
        found += [(record.rtype, record.maddr, tuple(record.srcaddrs)) for record in records]
    return found


def text(*addresses):
    return tuple(map(str, addresses))


def query(group="0.0.0.0", sources=(), code=100, qrv=2, qqic=125):
    return bytes(v3.IGMPv3mq(mrcode=code, gaddr=str(group), qrv=qrv, qqic=qqic, srcaddrs=list(text(*sources))))


def old_query(group="0.0.0.0", code=100):
    return bytes(v2.IGMP(type=0x11, mrcode=code, gaddr=str(group)))


def ask(host, message, now_s, ttl=1, router_alert=True):
    host.receive(ttl, router_alert, message, now_s)


def drain(host, until_s):
    """(time, what) of all that is said up to a time."""
    found = []
    while host.due_s <= until_s:
        now_s = host.due_s
        found += [(now_s, what) for what in said(host.tick(now_s))]
    return found


def quiet(host, *groups, now_s=0.0):
    """Join, and let the reports of it pass."""
    for group in groups:
        host.join(group, now_s)
    drain(host, now_s + 10)
    return host


# Joining and leaving ---------------------------------------------------------------------------------------


def test_a_join_is_said_twice_within_a_second(host):
    out = host.join(G, 0.0)
    assert GroupJoined(G) in out and said(out) == [(TO_EX, str(G), ())]
    ((at, what),) = drain(host, 100.0)
    assert 0 < at <= 1 and what == (TO_EX, str(G), ())
    assert host.groups == [G] and host.accepts(G, A) and not host.accepts(G2, A)


def test_a_leave_is_said_twice_and_the_group_forgotten(host):
    quiet(host, G)
    out = host.leave(G, 20.0)
    assert said(out) == [(TO_IN, str(G), ())] and GroupLeft(G) in out and not host.accepts(G, A)
    assert [what for _, what in drain(host, 100.0)] == [(TO_IN, str(G), ())]
    assert host.groups == [] and host.due_s == float("inf") and not host._groups


def test_two_sockets_make_one_membership(host):
    host.join(G, 0.0, "one")
    assert host.join(G, 0.1, "two") == []
    assert host.leave(G, 0.2, "one") == []
    assert GroupLeft(G) in host.leave(G, 0.3, "two")
    assert host.leave(G, 0.3, "two") == [] and host.leave(G2, 0.3) == []


@pytest.mark.parametrize(
    ("before", "after", "records"),
    [
        (include(A, B), include(B, C), [(ALLOW, [C]), (BLOCK, [A])]),
        (exclude(A, B), exclude(B, C), [(ALLOW, [A]), (BLOCK, [C])]),
        (include(A, B), exclude(B, C), [(TO_EX, [B, C])]),
        (exclude(A, B), include(B, C), [(TO_IN, [B, C])]),
        (include(A), include(), [(BLOCK, [A])]),
    ],
)
def test_what_a_change_is_called(host, before, after, records):
    """RFC 3376 section 5.1, the table."""
    host.listen(G, before, 0.0)
    drain(host, 10.0)
    expected = [(kind, str(G), text(*sources)) for kind, sources in records]
    assert said(host.listen(G, after, 20.0)) == expected
    assert [what for _, what in drain(host, 30.0)] == expected


def test_changes_before_the_last_was_said_again_are_merged(host):
    """RFC 3376 section 5.1: one list, each source counted for itself."""
    host.listen(G, include(A), 0.0)
    assert said(host.listen(G, include(A, B), 0.0)) == [(ALLOW, str(G), text(A, B))]
    assert [what for _, what in drain(host, 10.0)] == [(ALLOW, str(G), text(B))]
    # A change of mode takes the place of what was to be said of sources, and has the list of now.
    host.listen(G, exclude(B), 20.0)
    assert said(host.listen(G, exclude(B, C), 20.0)) == [(TO_EX, str(G), text(B, C))]
    assert [what for _, what in drain(host, 30.0)] == [(BLOCK, str(G), text(C))]


@pytest.mark.parametrize(
    ("filters", "merged"),
    [
        ([], include()),
        ([include(A), include(B)], include(A, B)),
        ([exclude(A, B), exclude(B, C)], exclude(B)),
        ([exclude(A, B, C), exclude(B, C), include(B)], exclude(C)),
        ([include(A), exclude()], exclude()),
    ],
)
def test_the_filter_of_the_interface(filters, merged):
    """RFC 3376 section 3.2, with its example."""
    assert merge(filters) == merged


@given(
    filters=st.lists(
        st.builds(GroupFilter, st.sampled_from(FilterMode), st.frozensets(st.integers(0, 5), max_size=4)), max_size=4
    ),
    source=st.integers(0, 6),
)
def test_the_interface_hears_all_that_any_socket_wants(filters, source):
    assert merge(filters).accepts(source) == any(each.accepts(source) for each in filters)


def test_all_systems_is_never_reported(host):
    out = host.join(IPv4Address("224.0.0.1"), 0.0)
    assert out == [GroupJoined(IPv4Address("224.0.0.1"))] and host.due_s == float("inf")
    ask(host, query(), 1.0)
    assert drain(host, 30.0) == []


def test_too_many_groups(host):
    host.limit = 2
    quiet(host, G, G2)
    with pytest.raises(TableError, match="2 multicast groups are joined"):
        host.join(IPv4Address("239.9.9.9"), 1.0)


def test_the_link_comes_back(host):
    quiet(host, G)
    host.listen(G2, include(A), 11.0)
    drain(host, 20.0)
    assert said(host.refresh(30.0)) == [(TO_EX, str(G), ()), (ALLOW, str(G2), text(A))]
    assert len(drain(host, 40.0)) == 2


# Queries ---------------------------------------------------------------------------------------------------


def test_a_general_query_is_answered_with_all_groups_in_one_report(host):
    quiet(host, G)
    host.listen(G2, include(B, A), 11.0)
    drain(host, 20.0)
    before = host.stats.reports
    ask(host, query(code=100), 100.0)
    answers = drain(host, 200.0)
    assert [what for _, what in answers] == [(IS_EX, str(G), ()), (IS_IN, str(G2), text(A, B))]
    assert 100 < answers[0][0] <= 110 and host.stats.reports == before + 1


def test_one_answer_to_many_general_queries(host):
    """Section 5.2 rules 1 and 2, and a flood of queries is no flood of answers."""
    quiet(host, G)
    for step in range(1000):
        ask(host, query(code=0), 100.0 + step / 1000)
    assert len(drain(host, 200.0)) == 1
    # Answered as it comes due, it is ten a second at most.
    count = 0
    for step in range(1000):
        now_s = 300.0 + step / 1000
        ask(host, query(code=0), now_s)
        count += len(said(host.tick(now_s)))
    assert 1 <= count <= 10


def test_group_queries(host):
    quiet(host, G, G2)
    ask(host, query(G, code=10), 100.0)
    ((at, what),) = drain(host, 200.0)
    assert what == (IS_EX, str(G), ()) and at <= 101
    ask(host, query("239.7.7.7"), 300.0)
    assert drain(host, 400.0) == []


@pytest.mark.parametrize(
    ("state", "asked", "answer"),
    [
        (include(A, B), (B, C), (IS_IN, [B])),
        (exclude(A, B), (B, C), (IS_IN, [C])),
        (include(A), (C,), None),
        (exclude(C), (C,), None),
    ],
)
def test_group_and_source_queries(host, state, asked, answer):
    """Section 5.2, the table."""
    host.listen(G, state, 0.0)
    drain(host, 10.0)
    ask(host, query(G, asked), 100.0)
    expected = [(answer[0], str(G), text(*answer[1]))] if answer else []
    assert [what for _, what in drain(host, 200.0)] == expected


def test_sources_asked_for_add_up_but_not_beyond_the_whole_group(host):
    """Section 5.2 rules 4 and 5."""
    quiet(host, G)
    ask(host, query(G, (B,)), 100.0)
    ask(host, query(G, (A,)), 100.01)
    assert [what for _, what in drain(host, 200.0)] == [(IS_IN, str(G), text(A, B))]
    ask(host, query(G, (B,)), 300.0)
    ask(host, query(G), 300.01)
    ask(host, query(G, (A,)), 300.02)
    assert [what for _, what in drain(host, 400.0)] == [(IS_EX, str(G), ())]
    many = [IPv4Address(0x0A000000 + number) for number in range(200)]
    ask(host, query(G, many), 500.0)
    assert [what for _, what in drain(host, 600.0)] == [(IS_EX, str(G), ())]


def test_the_queriers_robustness_is_ours(host):
    ask(host, query(qrv=5), 0.0)
    drain(host, 20.0)
    host.join(G, 21.0)
    assert len(drain(host, 30.0)) == 4
    ask(host, query(qrv=0), 40.0)
    assert host.robustness == 2


def test_queries_that_do_not_count(host):
    quiet(host, G)
    ask(host, query(), 100.0, ttl=2)
    ask(host, query(), 100.0, router_alert=False)
    ask(host, query()[:11], 100.0)
    ask(host, query()[:-1] + b"\1", 100.0)
    ask(host, query(G, (A, B))[:16], 100.0)
    assert drain(host, 200.0) == [] and host.stats.ignored == {"ttl": 1, "router-alert": 1, "malformed": 3}


def test_numbers_with_an_exponent():
    """RFC 3376 section 4.1.1, RFC 3810 section 5.1.3."""
    assert [floating(code, 4) for code in (0, 127, 128, 0x8F, 0xFF)] == [0, 127, 128, 248, 31744]
    assert [floating(code, 12) for code in (32767, 32768, 0xFFFF)] == [32767, 32768, 8387584]


# Long reports ----------------------------------------------------------------------------------------------


def test_many_groups_take_several_reports():
    host = Igmp(random.Random(1), HOST, limit=1000)
    groups = [IPv4Address(0xEF000000 + number) for number in range(500)]
    quiet(host, *groups)
    before = host.stats.reports
    ask(host, query(), 100.0)
    out = host.tick(host.due_s)
    assert [what[1] for what in said(out)] == list(text(*groups))
    assert all(len(output.packet) <= 1500 for output in out) and host.stats.reports - before == 3


def test_long_source_lists(host):
    """Section 4.2.16: lists are split, but what is excluded is cut, for parts would contradict each other."""
    many = [IPv4Address(0x0A000000 + number) for number in range(800)]
    out = host.listen(G, include(*many), 0.0)
    assert [len(what[2]) for what in said(out)] == [365, 365, 70]
    drain(host, 10.0)
    out = host.listen(G, exclude(*many), 20.0)
    assert [len(what[2]) for what in said(out)] == [365]


# Older queriers --------------------------------------------------------------------------------------------


def test_beside_a_version_2_querier(host):
    """Section 7.2 and RFC 2236 section 3."""
    quiet(host, G)
    ask(host, old_query(), 100.0)
    assert host.version == 2
    ((at, what),) = drain(host, 150.0)
    assert 100 < at <= 110 and what == (0x16, str(G), str(G))
    out = host.join(G2, 150.0)
    assert said(out) == [(0x16, str(G2), str(G2))]
    assert [what for _, what in drain(host, 170.0)] == [(0x16, str(G2), str(G2))]
    assert said(host.leave(G2, 171.0)) == [(0x17, "224.0.0.2", str(G2))]
    assert drain(host, 200.0) == [] and host.groups == [G]


def test_the_report_of_another_silences_ours(host):
    quiet(host, G)
    ask(host, old_query(), 100.0)
    ask(host, bytes(v2.IGMP(type=0x16, gaddr=str(G))), 100.01)
    assert drain(host, 200.0) == [] and host.stats.suppressed == 1
    # But not in version 3 (section 5: no suppression).
    ask(host, query(), 500.0)
    ask(host, bytes(v2.IGMP(type=0x16, gaddr=str(G))), 500.01)
    assert len(drain(host, 600.0)) == 1


def test_a_version_1_querier(host):
    quiet(host, G)
    ask(host, old_query(code=0), 100.0, router_alert=False)
    assert host.version == 1 and [what for _, what in drain(host, 150.0)] == [(0x12, str(G), str(G))]
    assert said(host.leave(G, 151.0)) == []


def test_the_older_querier_is_forgotten_and_cancels_what_was_due(host):
    """Section 8.12: robustness x query interval + response interval: 260 s."""
    quiet(host, G)
    ask(host, query(), 100.0)
    ask(host, old_query(), 100.01)
    assert [what for _, what in drain(host, 150.0)] == [(0x16, str(G), str(G))]
    ask(host, query(), 360.0)
    assert host.version == 2 and [what[0] for _, what in drain(host, 360.005)] == []
    host.join(G2, 361.0)
    assert host.version == 3
    ask(host, query(), 370.0)
    assert {what[0] for _, what in drain(host, 400.0)} == {IS_EX, TO_EX}


@given(message=st.binary(max_size=60), head=st.sampled_from([b"", b"\x11", b"\x11\x64", b"\x16", b"\x12"]))
@settings(deadline=None)
def test_no_bytes_make_it_fail(message, head):
    host = quiet(Igmp(random.Random(1), HOST), G)
    bare = head + message
    if len(bare) >= 4:
        bare = bare[:2] + b"\0\0" + bare[4:]
        bare = bare[:2] + checksum(bare).to_bytes(2) + bare[4:]
    ask(host, bare, 20.0)
    drain(host, 10000.0)
    assert host.groups == [G]
