"""The DHCPv4 client against a server of a few lines, scapy's reading of its messages, and a simulated clock."""

import random
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed (pip install wirespeed[dev])")

from wirespeed.errors import ConfigError  # noqa: E402
from wirespeed.stack.acd import AcdTimes, SendArp  # noqa: E402
from wirespeed.stack.dhcp4 import Dhcp4Client, Dhcp4State  # noqa: E402
from wirespeed.stack.lease import LeaseKept, LeaseLost, LeaseTaken  # noqa: E402
from wirespeed.stack.packets import SendPacket  # noqa: E402
from wirespeed.wire.dhcp4 import DhcpMessage, DhcpRoute, DhcpType, read_dhcp4  # noqa: E402

MAC = 0x0200_0000_0042
OTHER_MAC = 0x0200_0000_0099
OURS = IPv4Address("10.7.0.50")
SERVER = IPv4Address("10.7.0.1")
NO_PROBES = AcdTimes(probes=0)
WEEK_S = 7 * 86400.0


def sent(outputs):
    """The messages among the outputs, read by scapy: (IP header, BOOTP header, options by name)."""
    found = []
    for output in outputs:
        if isinstance(output, SendPacket):
            packet = scapy.IP(output.packet)
            again = scapy.IP(output.packet)
            del again[scapy.IP].chksum, again[scapy.UDP].chksum
            assert bytes(again) == output.packet  # both checksums
            assert (packet[scapy.UDP].sport, packet[scapy.UDP].dport) == (68, 67)
            options = dict(option[:2] for option in packet[scapy.DHCP].options if isinstance(option, tuple))
            found.append((packet, packet[scapy.BOOTP], options))
    return found


def events(outputs):
    return [output for output in outputs if not isinstance(output, SendPacket | SendArp)]


def answer(bootp, kind, yours=OURS, server=SERVER, lease_s=3600, mac=MAC, xid=None, **more):
    """A server's answer, built by scapy."""
    options = [("message-type", kind), ("server_id", str(server))]
    if kind != "nak":
        options += [("lease_time", lease_s), ("subnet_mask", "255.255.255.0"), ("router", "10.7.0.1")]
    options = [option for option in options if option[0] not in more]
    options += [(name, value) for name, value in more.items() if value is not None]
    head = scapy.BOOTP(
        op=2, xid=bootp.xid if xid is None else xid, yiaddr=str(yours), chaddr=mac.to_bytes(6), siaddr=str(server)
    )
    return bytes(head / scapy.DHCP(options=[*options, "end"]))


class Server:
    """It gives everybody the same address, while it is alive."""

    def __init__(self, lease_s=3600, **more):
        self.lease_s, self.more, self.alive, self.heard = lease_s, more, True, []

    def answers(self, outputs):
        for packet, bootp, options in sent(outputs):
            self.heard.append((options["message-type"], packet.dst, bootp.ciaddr))
            kind = {1: "offer", 3: "ack"}.get(options["message-type"])
            if kind and self.alive:
                yield answer(bootp, kind, lease_s=self.lease_s, **self.more)


def run(client, server, outputs, now_s, until_s):
    """Let client and server talk until a time; (time, event) for each event."""
    seen = []
    while True:
        for _ in range(20):
            seen += [(now_s, event) for event in events(outputs)]
            replies = list(server.answers(outputs))
            outputs = [output for reply in replies for output in client.receive(reply, now_s)]
            if not outputs:
                break
        else:
            raise AssertionError("a conversation without end")
        assert client.due_s > now_s
        if client.due_s > until_s:
            return seen
        now_s = client.due_s
        outputs = client.tick(now_s)


def go(one, server, until_s):
    """The same from when the client is due."""
    now_s = one.due_s
    return run(one, server, one.tick(now_s), now_s, until_s)


def client(times=NO_PROBES, **more):
    return Dhcp4Client(MAC, random.Random(5), times=times, **more)


def bound(**more):
    """A client with a lease since second 0, and its server."""
    server, one = Server(**more), client()
    run(one, server, one.start(0.0), 0.0, 3.0)  # with the second announcement
    assert one.state is Dhcp4State.BOUND
    return one, server


# The way to a lease ----------------------------------------------------------------------------------------


def test_discover_as_the_standard_has_it():
    """RFC 2131 section 4.4.1, table 5."""
    one = client(name="lab-7")
    ((packet, bootp, options),) = sent(one.start(10.0))
    assert (packet.src, packet.dst, packet.ttl) == ("0.0.0.0", "255.255.255.255", 64)
    assert (bootp.op, bootp.htype, bootp.hlen, bootp.hops, bootp.secs) == (1, 1, 6, 0, 0)
    assert bootp.chaddr[:6] == MAC.to_bytes(6) and bootp.flags == "B"
    assert bootp.ciaddr == bootp.yiaddr == bootp.siaddr == bootp.giaddr == "0.0.0.0"
    assert options["message-type"] == 1 and options["client_id"] == b"\1" + MAC.to_bytes(6)
    assert options["hostname"] == b"lab-7" and options["max_dhcp_size"] == 1500
    assert {1, 3, 6, 26, 121} <= set(options["param_req_list"])
    assert "server_id" not in options and "requested_addr" not in options


def test_request_names_the_server_and_the_address_and_keeps_the_xid():
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    ((packet, request, options),) = sent(one.receive(answer(discover, "offer"), 1.5))
    assert request.xid == discover.xid and request.ciaddr == "0.0.0.0" and packet.dst == "255.255.255.255"
    assert (options["message-type"], options["server_id"], options["requested_addr"]) == (3, str(SERVER), str(OURS))
    (taken,) = events(one.receive(answer(request, "ack", name_server="10.7.0.2"), 2.0))
    assert isinstance(taken, LeaseTaken) and one.state is Dhcp4State.BOUND
    lease = taken.lease
    assert lease.address == IPv4Interface("10.7.0.50/24") and lease.gateway == SERVER and lease.server == SERVER
    # From when it was asked for, 1.5, not from when it was answered.
    assert (lease.start_s, lease.renew_s, lease.rebind_s, lease.end_s) == (1.5, 1801.5, 3151.5, 3601.5)


def test_retransmission_doubles_up_to_64_seconds():
    """RFC 2131 section 4.1."""
    one, times = client(), [0.0]
    one.start(0.0)
    for _ in range(8):
        times.append(one.due_s)
        ((_, bootp, _),) = sent(one.tick(one.due_s))
        assert bootp.secs == int(times[-1])
    gaps = [b - a for a, b in pairwise(times)]
    for gap, nominal in zip(gaps, [4, 8, 16, 32, 64, 64, 64, 64], strict=True):
        assert abs(gap - nominal) <= 1
    assert one.tick(one.due_s - 0.001) == []


def test_a_silent_server_is_left_after_four_requests():
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    one.receive(answer(discover, "offer"), 0.1)
    kinds = [sent(one.tick(one.due_s))[0][2]["message-type"] for _ in range(4)]
    assert kinds == [3, 3, 3, 1] and one.state is Dhcp4State.SELECTING


def test_a_refusal_begins_again_at_once_and_then_after_ten_seconds():
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    ((_, request, _),) = sent(one.receive(answer(discover, "offer"), 0.0))
    ((_, discover, options),) = sent(one.receive(answer(request, "nak"), 1.0))
    assert options["message-type"] == 1
    ((_, request, _),) = sent(one.receive(answer(discover, "offer"), 1.0))
    assert one.receive(answer(request, "nak"), 1.0) == []
    assert one.due_s == 11.0 and one.tick(10.9) == []
    ((_, again, options),) = sent(one.tick(11.0))
    assert options["message-type"] == 1 and again.xid != discover.xid


# Weeks -----------------------------------------------------------------------------------------------------


def test_a_lease_is_kept_for_four_weeks_by_unicast_renewals():
    one, server = bound(lease_s=4 * 3600)
    seen = go(one, server, 4 * WEEK_S)
    assert {type(event) for _, event in seen} == {LeaseKept}
    # Each at half of four hours, a little earlier for the jitter.
    assert 28 * 12 <= len(seen) <= 28 * 12 * 1.03
    assert set(server.heard[2:]) == {(3, str(SERVER), str(OURS))}
    assert one.stats.renewed == len(seen) and one.stats.taken == 1


def test_a_dead_server_is_asked_at_t1_others_at_t2_and_the_address_given_up_at_the_end():
    """RFC 2131 section 4.4.5."""
    one, server = bound(lease_s=3600)
    server.alive = False
    begun, server.heard = one.due_s, []
    seen = go(one, server, 3700.0)
    assert [(at, event.why) for at, event in seen] == [(3600.0, "expired")]
    unicast = [heard for heard in server.heard if heard == (3, str(SERVER), str(OURS))]
    rebinding = [heard for heard in server.heard if heard == (3, "255.255.255.255", str(OURS))]
    assert 1764 <= begun <= 1800
    assert len(unicast) == 6 and len(rebinding) == 4  # halves of 1350 and 450 seconds, 60 at least
    assert server.heard[10:] and {heard[0] for heard in server.heard[10:]} == {1}
    server.alive = True
    ((at, event),) = go(one, server, 3800.0)
    assert isinstance(event, LeaseTaken) and at < 3800


def test_another_server_may_extend_the_lease_while_rebinding_but_not_while_renewing():
    one, _ = bound()
    ((_, bootp, _),) = sent(one.tick(1800.0))
    assert one.receive(answer(bootp, "ack", server=IPv4Address("10.7.0.9")), 1801.0) == []
    assert one.stats.ignored["server"] == 1
    ((packet, bootp, options),) = sent(one.tick(3150.0))
    assert one.state is Dhcp4State.REBINDING and packet.dst == "255.255.255.255" and packet.src == str(OURS)
    assert "server_id" not in options and "requested_addr" not in options and bootp.ciaddr == str(OURS)
    (taken,) = events(one.receive(answer(bootp, "ack", server=IPv4Address("10.7.0.9")), 3151.0))
    assert isinstance(taken, LeaseTaken) and taken.lease.server == IPv4Address("10.7.0.9")


def test_what_changes_with_a_renewal_is_told():
    one, _ = bound()
    ((_, bootp, _),) = sent(one.tick(1800.0))
    (event,) = events(one.receive(answer(bootp, "ack", router="10.7.0.254"), 1800.0))
    assert isinstance(event, LeaseTaken) and event.lease.gateway == IPv4Address("10.7.0.254")


def test_refused_renewal_takes_the_address_away():
    one, _ = bound()
    ((_, bootp, _),) = sent(one.tick(1800.0))
    (event,) = events(one.receive(answer(bootp, "nak"), 1800.0))
    assert isinstance(event, LeaseLost) and event.why == "refused" and one.lease is None


def test_an_endless_lease_is_never_renewed():
    one, _ = bound(lease_s=0xFFFFFFFF)
    assert one.due_s == float("inf") and one.tick(1000 * WEEK_S) == []


def test_times_of_the_server_are_used_only_in_order():
    one, _ = bound(renewal_time=100, rebinding_time=200)
    assert (one.lease.renew_s, one.lease.rebind_s) == (100, 200)
    one, _ = bound(renewal_time=300, rebinding_time=200)
    assert (one.lease.renew_s, one.lease.rebind_s) == (1800, 3150)


# Release, link, reboot -------------------------------------------------------------------------------------


def test_release():
    one, server = bound()
    out = one.release(50.0)
    ((packet, bootp, options),) = sent(out)
    assert (packet.src, packet.dst, bootp.ciaddr) == (str(OURS), str(SERVER), str(OURS))
    assert (options["message-type"], options["server_id"]) == (7, str(SERVER)) and "requested_addr" not in options
    assert [event.why for event in events(out)] == ["released"]
    assert one.state is Dhcp4State.STOPPED and one.due_s == float("inf") and one.tick(1e9) == []
    run(one, server, one.start(60.0), 60.0, 61.0)
    assert server.heard[-2][0] == 1 and one.lease is not None


def test_a_remembered_address_is_asked_for_first():
    """RFC 2131 section 3.2 and table 4, INIT-REBOOT."""
    one = client(remembered=OURS)
    ((packet, bootp, options),) = sent(one.start(0.0))
    assert packet.dst == "255.255.255.255" and bootp.ciaddr == "0.0.0.0"
    assert options["message-type"] == 3 and options["requested_addr"] == str(OURS) and "server_id" not in options
    (event,) = events(one.receive(answer(bootp, "ack"), 0.1))
    assert isinstance(event, LeaseTaken)


def test_a_remembered_address_that_nobody_knows_is_forgotten():
    one = client(remembered=OURS)
    one.start(0.0)
    kinds = [sent(one.tick(one.due_s))[0][2]["message-type"] for _ in range(4)]
    assert kinds == [3, 3, 3, 1]


def test_link_lost_and_back_keeps_the_lease_and_verifies_it():
    one, server = bound()
    one.stop()
    assert one.lease is not None and one.tick(100.0) == []
    seen = run(one, server, one.start(120.0), 120.0, 125.0)
    assert [type(event) for _, event in seen] == [LeaseKept] and one.lease.start_s == 120.0
    server.alive = False
    one.stop()
    assert run(one, server, one.start(200.0), 200.0, 1000.0) == []  # nobody answers: used on (section 3.2 step 4)
    assert one.state is Dhcp4State.BOUND


def test_link_back_in_another_network():
    one, _ = bound()
    one.stop()
    ((_, bootp, _),) = sent(one.start(60.0))
    (event,) = events(one.receive(answer(bootp, "nak", server=IPv4Address("192.168.1.1")), 60.1))
    assert event.why == "refused"
    ((_, _, options),) = sent(one.tick(one.due_s))
    assert options["message-type"] == 1


# Conflicts -------------------------------------------------------------------------------------------------


def checking():
    one = client(times=AcdTimes())
    ((_, discover, _),) = sent(one.start(0.0))
    ((_, request, _),) = sent(one.receive(answer(discover, "offer"), 0.0))
    assert one.receive(answer(request, "ack"), 0.0) == [] and one.state is Dhcp4State.CHECKING
    return one


def test_an_address_is_probed_before_it_is_used_and_announced():
    """RFC 5227 sections 2.1.1 and 2.3."""
    one, out = checking(), []
    while one.state is Dhcp4State.CHECKING:
        out += one.tick(one.due_s)
    probes = [output for output in out if output == SendArp(IPv4Address(0), OURS)]
    assert len(probes) == 3 and SendArp(OURS, OURS) in out and isinstance(out[-1], LeaseTaken)
    assert one.tick(one.due_s) == [SendArp(OURS, OURS)]
    assert one.due_s > 1700


@pytest.mark.parametrize(("sender", "target"), [(OURS, SERVER), (IPv4Address(0), OURS)], ids=["used", "probed"])
def test_an_address_somebody_has_is_declined(sender, target):
    """RFC 2131 section 3.1 step 5."""
    one = checking()
    one.tick(one.due_s)
    out = one.arp(OTHER_MAC, sender, target, 0.5)
    ((packet, bootp, options),) = sent(out)
    assert events(out) == [] and packet.dst == "255.255.255.255" and bootp.ciaddr == "0.0.0.0"
    assert (options["message-type"], options["requested_addr"], options["server_id"]) == (4, str(OURS), str(SERVER))
    assert one.due_s == 10.5 and sent(one.tick(10.5))[0][2]["message-type"] == 1
    assert one.stats.declined == 1


def test_our_own_probes_coming_back_are_no_conflict():
    one = checking()
    one.tick(one.due_s)
    assert one.arp(MAC, IPv4Address(0), OURS, 0.5) == [] and one.state is Dhcp4State.CHECKING


def test_an_address_in_use_is_defended_once_then_given_up():
    """RFC 5227 section 2.4 (b)."""
    one, _ = bound()
    assert one.arp(OTHER_MAC, SERVER, OURS, 10.0) == []  # somebody asks for it
    assert one.arp(OTHER_MAC, IPv4Address(0), OURS, 10.0) == []  # or probes: answered as any request
    assert one.arp(OTHER_MAC, OURS, SERVER, 10.0) == [SendArp(OURS, OURS)]
    assert one.arp(OTHER_MAC, OURS, SERVER, 21.0) == [SendArp(OURS, OURS)]
    out = one.arp(OTHER_MAC, OURS, SERVER, 25.0)
    assert [event.why for event in events(out)] == ["conflict"] and sent(out)[0][2]["message-type"] == 4


# Hostile answers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("why", "change"),
    [
        ("xid", {"xid": 1}),
        ("not-for-us", {"mac": OTHER_MAC}),
        ("no-server", {"server_id": None}),
        ("bad-time", {"lease_s": 0}),
        ("bad-time", {"lease_time": None}),
        ("bad-address", {"yours": "0.0.0.0"}),
        ("bad-address", {"yours": "127.0.0.1"}),
        ("bad-address", {"yours": "224.0.0.9"}),
        ("bad-address", {"yours": "10.7.0.255"}),
        ("bad-address", {"yours": "10.7.0.0"}),
        ("bad-address", {"subnet_mask": "255.0.255.0"}),
        ("bad-address", {"subnet_mask": "0.0.0.0"}),
        ("client-id", {"client_id": b"\1abcdef"}),
    ],
)
def test_offers_that_are_not_taken(why, change):
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    assert one.receive(answer(discover, "offer", **change), 0.1) == []
    assert one.stats.ignored == {why: 1} and one.state is Dhcp4State.SELECTING


def test_acks_from_another_server_or_of_another_address_are_not_taken():
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    ((_, request, _),) = sent(one.receive(answer(discover, "offer"), 0.1))
    assert one.receive(answer(request, "ack", server=IPv4Address("10.7.0.66")), 0.2) == []
    assert one.receive(answer(request, "nak", server=IPv4Address("10.7.0.66")), 0.2) == []
    assert one.receive(answer(request, "ack", yours="10.7.0.51"), 0.2) == []
    assert one.receive(answer(request, "offer"), 0.2) == []
    assert one.stats.ignored == {"server": 2, "address": 1, "unexpected": 1}
    assert events(one.receive(answer(request, "ack"), 0.3))


def test_unasked_answers_change_nothing():
    one, _ = bound()
    bootp = scapy.BOOTP(xid=one._xid)
    for kind in ("offer", "ack", "nak"):
        assert one.receive(answer(bootp, kind), 5.0) == []
    assert one.stats.ignored == {"not-for-us": 3} and one.lease is not None


def test_a_request_that_comes_back_is_not_an_answer():
    one = client()
    (packet,) = one.start(0.0)
    assert one.receive(bytes(scapy.IP(packet.packet)[scapy.BOOTP]), 0.0) == []


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_it_fail(data):
    """Random bytes, and answers with a few bytes changed, cut or added."""
    one = client()
    ((_, bootp, _),) = sent(one.start(0.0))
    good = bytearray(answer(bootp, "offer", name_server="10.7.0.2"))
    for _ in range(data.draw(st.integers(0, 6))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(good)))
    for payload in (bytes(good), bytes(good[:cut]), data.draw(st.binary(max_size=400))):
        one.receive(payload, 1.0)
        one.tick(2.0)
    assert one.state in (Dhcp4State.SELECTING, Dhcp4State.REQUESTING)


# Options ---------------------------------------------------------------------------------------------------


def message(**options):
    """A message with these options, through bytes and back."""
    given = {int(code[1:]): value for code, value in options.items()}
    return read_dhcp4(DhcpMessage(2, 7, MAC, options={53: bytes((DhcpType.OFFER,)), **given}).encode())


def test_classless_routes_take_the_place_of_routers():
    """RFC 3442, the encodings of its section "Classless Route Option Format"."""
    value = bytes.fromhex("00 0a070001  18 0a0700 0a070002  11 0ae580 0a070003  20 81d2b17f 00000000")
    routes = message(o121=value).routes()
    assert routes == (
        DhcpRoute(IPv4Network("0.0.0.0/0"), IPv4Address("10.7.0.1")),
        DhcpRoute(IPv4Network("10.7.0.0/24"), IPv4Address("10.7.0.2")),
        DhcpRoute(IPv4Network("10.229.128.0/17"), IPv4Address("10.7.0.3")),
        DhcpRoute(IPv4Network("129.210.177.127/32"), IPv4Address(0)),
    )
    one = client()
    ((_, discover, _),) = sent(one.start(0.0))
    option = ["172.16.0.0/16:10.7.0.9"]
    ((_, request, _),) = sent(one.receive(answer(discover, "offer", classless_static_routes=option), 0.0))
    (event,) = events(one.receive(answer(request, "ack", classless_static_routes=option), 0.0))
    assert event.lease.gateway is None  # and option 3 was there
    assert [str(route.destination) for route in event.lease.routes] == ["172.16.0.0/16"]


@pytest.mark.parametrize("value", ["21 0a000000 0a070001", "18 0a07", "00 e0000001", "", "00 0a0700"])
def test_broken_routes_are_none(value):
    assert message(o121=bytes.fromhex(value)).routes() is None


def test_long_options_come_in_parts_and_in_the_overloaded_fields():
    """RFC 3396, RFC 2131 section 4.1."""
    value = bytes.fromhex("18 0a0700 0a070002") * 40
    assert len(message(o121=value).routes()) == 40
    bare = bytearray(DhcpMessage(2, 7, MAC, options={52: b"\3"}).encode())
    bare[108:114] = bytes((26, 2, 5, 220, 6, 2))  # file: MTU 1500, and a server list that goes on
    bare[114:117] = bytes((10, 7, 255))
    bare[44:49] = bytes((6, 2, 0, 3, 255))  # sname: the rest of it
    read = read_dhcp4(bytes(bare))
    assert read.number(26, 2) == 1500 and read.addresses(6) == (IPv4Address("10.7.0.3"),)


def test_lists_are_bounded_and_clean():
    many = b"".join(IPv4Address(0x0A070000 + index).packed for index in range(60))
    assert len(message(o6=many).addresses(6)) == 8
    assert message(o6=IPv4Address("224.0.0.1").packed + SERVER.packed * 2).addresses(6) == (SERVER,)
    assert message(o6=b"\1\2\3").addresses(6) == ()
    assert message(o15=b"lab.example\0").text(15) == "lab.example"
    assert message(o15=b"\x1b[2Jlab").text(15) == "" and message(o15=b"\xff").text(15) == ""


def test_a_tiny_mtu_is_not_taken():
    one, _ = bound(**{"interface-mtu": 68})
    assert one.lease.mtu == 0
    one, _ = bound(**{"interface-mtu": 1400})
    assert one.lease.mtu == 1400


def test_without_a_mask_the_class_counts():
    one, _ = bound(subnet_mask=None)
    assert one.lease.address == IPv4Interface("10.7.0.50/8")


def test_a_name_that_is_none():
    with pytest.raises(ConfigError, match="host name"):
        client(name="ünicode")
