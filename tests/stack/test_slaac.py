"""IPv6 configuration by advertisements that scapy built; detection, lifetimes, and routers that lie."""

import random
from ipaddress import IPv6Address, IPv6Interface, IPv6Network
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

scapy = pytest.importorskip("scapy.all", reason="scapy is not installed (pip install wirespeed[dev])")

from wirespeed.errors import ConfigError  # noqa: E402
from wirespeed.stack.interface_id import InterfaceId, reserved  # noqa: E402
from wirespeed.stack.ipv6_configuration import DefaultRouter, RouterRoute  # noqa: E402
from wirespeed.stack.packets import SendPacket, solicited_node  # noqa: E402
from wirespeed.stack.slaac import AddressDuplicate, Ipv6Changed, JoinGroup, LeaveGroup, Slaac  # noqa: E402
from wirespeed.wire.nd import (  # noqa: E402
    NeighbourAdvertisement,
    NeighbourSolicitation,
    advertise_neighbour,
    read_nd,
    solicit_neighbour,
)

MAC, ROUTER_MAC = 0x0200_0000_0042, 0x0200_0000_0001
ROUTER, ROUTER2 = IPv6Address("fe80::1"), IPv6Address("fe80::9")
LINK_LOCAL = IPv6Address("fe80::ff:fe00:42")
PREFIX = "2001:db8:7::"
OURS = IPv6Address("2001:db8:7::ff:fe00:42")
SECRET = bytes(range(16))
NOBODY = IPv6Address("::")
INFINITE = 0xFFFFFFFF


def host(**more):
    return Slaac(MAC, random.Random(5), **more)


def advertisement(*options, prefixes=(), lifetime=1800, **more):
    head = scapy.ICMPv6ND_RA(**{"routerlifetime": lifetime, "prf": 0, **more})
    for option in (*prefixes, *options):
        head = head / option
    return bytes(head)


def prefix(network=PREFIX, valid=86400, preferred=14400, width=64, on_link=1, autonomous=1):
    return scapy.ICMPv6NDOptPrefixInfo(
        prefix=network, prefixlen=width, L=on_link, A=autonomous, validlifetime=valid, preferredlifetime=preferred
    )


def hear(one, message, now_s, source=ROUTER, hop_limit=255):
    return one.receive(source, hop_limit, message, now_s)


def packets(outputs):
    found = []
    for output in outputs:
        if isinstance(output, SendPacket):
            again = scapy.IPv6(output.packet)
            again.payload.cksum = None
            assert bytes(again) == output.packet and again.hlim == 255
            found.append(scapy.IPv6(output.packet))
    return found


def run(one, until_s):
    """(time, output) of all that it does by itself."""
    found = []
    while one.due_s <= until_s:
        now_s = one.due_s
        outputs = one.tick(now_s)
        found += [(now_s, output) for output in outputs]
        assert one.due_s > now_s or outputs
    return found


def up(**more):
    """A host that has its link-local address since before second 10."""
    one = host(**more)
    one.start(0.0)
    run(one, 3.0)
    return one


def configured(*arguments, now_s=10.0, **more):
    """And has heard one advertisement at second 10, detection over."""
    one = up()
    hear(one, advertisement(*arguments, **more), now_s)
    run(one, now_s + 5)
    return one


def texts(one):
    return [str(own.interface) for own in one.configuration.addresses]


# Start -----------------------------------------------------------------------------------------------------


def test_the_link_local_address_is_looked_for_before_it_is_used():
    """RFC 4862 section 5.4, RFC 7527."""
    one = host()
    assert one.start(5.0) == [JoinGroup(solicited_node(LINK_LOCAL), LINK_LOCAL)]
    seen = run(one, 9.0)
    (at, first), (assigned_s, solicited), (_, changed) = seen[:3]
    (solicitation,) = packets([first])
    assert 5 <= at <= 6 and assigned_s == at + 1
    assert (solicitation.src, solicitation.dst) == ("::", "ff02::1:ff00:42")
    assert solicitation[scapy.ICMPv6ND_NS].tgt == str(LINK_LOCAL)
    assert bytes(solicitation[scapy.ICMPv6ND_NS])[24:26] == b"\x0e\1"  # a nonce, and no address of the sender
    assert isinstance(changed, Ipv6Changed) and texts(one) == [f"{LINK_LOCAL}/64"] and one.link_local == LINK_LOCAL
    (router,) = packets([solicited])
    assert (router.src, router.dst) == (str(LINK_LOCAL), "ff02::2")
    assert router[scapy.ICMPv6NDOptSrcLLAddr].lladdr == "02:00:00:00:00:42"


def test_router_solicitations_back_off_to_an_hour_and_never_end():
    """RFC 7559."""
    one = host()
    one.start(0.0)
    times = [at for at, output in run(one, 86400.0) if scapy.ICMPv6ND_RS in scapy.IPv6(getattr(output, "packet", b""))]
    gaps = [later - before for before, later in pairwise(times)]
    for index, gap in enumerate(gaps):
        nominal = min(4 * 2**index, 3600)
        assert abs(gap - nominal) <= 0.1001 * nominal
    assert len(gaps) > 25


def test_an_answer_ends_the_solicitations_and_the_last_router_gone_begins_them():
    one = configured(lifetime=100)
    assert one.stats.solicitations >= 1
    before = one.stats.solicitations
    run(one, 109.9)
    assert one.stats.solicitations == before and one.configuration.routers
    run(one, 110.1)
    assert one.stats.solicitations == before + 1 and one.configuration.routers == ()


def test_no_detection_when_told_so():
    one = host(transmits=0)
    out = one.start(0.0)
    assert one.link_local == LINK_LOCAL and len(packets(out)) == 1


# Prefixes --------------------------------------------------------------------------------------------------


def test_an_advertised_prefix_makes_an_address():
    one = up()
    out = hear(one, advertisement(prefixes=[prefix()]), 10.0)
    assert JoinGroup(solicited_node(OURS), OURS) in out and texts(one) == [f"{LINK_LOCAL}/64"]
    assert one.configuration.on_link == (IPv6Network("2001:db8:7::/64"),)
    assert one.configuration.routers == (DefaultRouter(ROUTER, 0, 0),)
    seen = run(one, 13.0)
    assert packets([seen[0][1]])[0][scapy.ICMPv6ND_NS].tgt == str(OURS)
    own = one.configuration.addresses[1]
    assert own.interface == IPv6Interface(f"{OURS}/64") and own.preferred
    assert (own.preferred_until_s, own.valid_until_s) == (14410, 86410)


def test_an_advertisement_heard_again_changes_nothing_but_lifetimes():
    one = configured(prefixes=[prefix()])
    assert hear(one, advertisement(prefixes=[prefix()]), 500.0) == []
    assert one.configuration.addresses[1].valid_until_s == 86900


def test_addresses_age():
    """RFC 4862 section 5.5.4."""
    one = configured(prefixes=[prefix(valid=300, preferred=100)], lifetime=9000)
    seen = [(at, output.configuration) for at, output in run(one, 400.0) if isinstance(output, Ipv6Changed)]
    assert [(at, [own.preferred for own in was.addresses]) for at, was in seen] == [(110, [True, False]), (310, [True])]
    assert seen[1][1].on_link == ()


def test_four_weeks_of_advertisements_every_ten_minutes():
    one, changes, message = configured(prefixes=[prefix()]), 0, advertisement(prefixes=[prefix()])
    for minute in range(10, 4 * 7 * 24 * 60, 10):
        now_s = minute * 60.0
        outputs = [output for _, output in run(one, now_s)] + hear(one, message, now_s)
        changes += len(outputs)
    assert changes == 0 and len(texts(one)) == 2
    run(one, now_s + 90000)
    assert texts(one) == [f"{LINK_LOCAL}/64"]


@pytest.mark.parametrize(
    ("left", "told", "becomes"),
    [
        (86400, 90000, 90000),  # longer
        (86400, 7201, 7201),  # more than two hours
        (86400, 10, 7200),  # not below two hours
        (86400, 0, 7200),
        (7000, 10, 7000),  # less than two hours are left: not believed
        (7000, 7100, 7100),
    ],
)
def test_the_two_hour_rule(left, told, becomes):
    """RFC 4862 section 5.5.3 (e)."""
    one = configured(prefixes=[prefix(valid=left, preferred=1)])
    own = one.configuration.addresses[1]
    now_s = own.valid_until_s - left + 5
    hear(one, advertisement(prefixes=[prefix(valid=told, preferred=0)]), now_s)
    expected = now_s + becomes if becomes != left else own.valid_until_s
    assert one.configuration.addresses[1].valid_until_s == pytest.approx(expected)


@pytest.mark.parametrize(
    "option",
    [
        {"network": "fe80::"},
        {"network": "ff05::"},
        {"network": "::"},
        {"width": 56},
        {"width": 96},
        {"autonomous": 0},
        {"valid": 10, "preferred": 20},
        {"valid": 0, "preferred": 0},
    ],
)
def test_prefixes_that_make_no_address(option):
    one = configured(prefixes=[prefix(**option)])
    assert texts(one) == [f"{LINK_LOCAL}/64"]


def test_endless_lifetimes():
    one = configured(prefixes=[prefix(valid=INFINITE, preferred=INFINITE)])
    run(one, 1e6)
    assert len(texts(one)) == 2 and one.configuration.on_link


# Duplicates ------------------------------------------------------------------------------------------------


def tentative(**more):
    one = up(**more)
    hear(one, advertisement(prefixes=[prefix()]), 10.0)
    return one, one._own[-1].detection.address


@pytest.mark.parametrize("how", ["advertised", "solicited"])
def test_somebody_has_the_address(how):
    """RFC 4862 sections 5.4.3 and 5.4.4."""
    one, address = tentative()
    message = scapy.ICMPv6ND_NA(tgt=str(address)) if how == "advertised" else scapy.ICMPv6ND_NS(tgt=str(address))
    out = hear(one, bytes(message), 10.5, source=ROUTER if how == "advertised" else NOBODY)
    assert out == [AddressDuplicate(address), LeaveGroup(solicited_node(address), address)]
    run(one, 100.0)
    hear(one, advertisement(prefixes=[prefix()]), 100.0)
    run(one, 200.0)
    assert texts(one) == [f"{LINK_LOCAL}/64"] and one.stats.duplicates == 1


def test_what_is_no_duplicate():
    one, address = tentative()
    sent = [packet for _, output in run(one, one.due_s) for packet in packets([output])]
    hear(one, bytes(sent[0][scapy.ICMPv6ND_NS]), 10.9, source=NOBODY)  # our own, sent back by a switch: the nonce
    hear(one, bytes(scapy.ICMPv6ND_NS(tgt=str(address))), 10.9, source=ROUTER)  # looked up by a neighbour
    hear(one, bytes(scapy.ICMPv6ND_NA(tgt="2001:db8:7::99")), 10.9)
    run(one, 20.0)
    assert texts(one)[1:] == [f"{address}/64"]
    assert hear(one, bytes(scapy.ICMPv6ND_NA(tgt=str(address))), 30.0) == []  # too late: it is ours


def test_opaque_addresses_are_tried_anew_three_times():
    """RFC 7217 section 6."""
    one, address = tentative(secret=SECRET)
    tried, now_s = [address], 10.5
    for _ in range(3):
        hear(one, bytes(scapy.ICMPv6ND_NA(tgt=str(tried[-1]))), now_s)
        assert one.due_s == now_s + 1
        now_s += 1
        (join, *_) = one.tick(now_s)
        tried.append(join.address)
    hear(one, bytes(scapy.ICMPv6ND_NA(tgt=str(tried[-1]))), now_s)
    run(one, 1000.0)
    assert len(set(tried)) == 4 and len(texts(one)) == 1 and one.stats.duplicates == 4


def test_without_a_link_local_address_there_is_silence():
    one = host()
    one.start(0.0)
    hear(one, bytes(scapy.ICMPv6ND_NA(tgt=str(LINK_LOCAL))), 0.1)
    assert packets(output for _, output in run(one, 1e5)) == [] and one.due_s == float("inf")
    one.stop(1e5)
    one.start(1e5)  # the link was replugged: perhaps it is ours there
    run(one, 1e5 + 3)
    assert one.link_local == LINK_LOCAL


def test_link_lost_and_back():
    one = configured(prefixes=[prefix()])
    (changed,) = one.stop(100.0)
    assert changed.configuration.addresses == () and changed.configuration.routers == ()
    assert hear(one, advertisement(prefixes=[prefix()]), 101.0) == [] and packets(o for _, o in run(one, 150.0)) == []
    out = one.start(200.0)
    assert len([output for output in out if isinstance(output, JoinGroup)]) == 2
    sent = packets(output for _, output in run(one, 203.0))
    assert sorted(scapy.ICMPv6ND_NS in packet for packet in sent) == [False, True, True]
    assert len(texts(one)) == 2


# Everything else that routers say --------------------------------------------------------------------------


def test_all_options():
    one = configured(
        scapy.ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01"),
        scapy.ICMPv6NDOptMTU(mtu=1400),
        scapy.ICMPv6NDOptRouteInfo(prefix="2001:db8:9::", plen=48, prf=1, rtlifetime=600),
        scapy.ICMPv6NDOptRDNSS(dns=["2001:db8::53", "2001:db8::54"], lifetime=300),
        scapy.ICMPv6NDOptDNSSL(searchlist=["lab.example", "example.org"], lifetime=300),
        prf=3,
        chlim=61,
        M=1,
        O=1,
        reachabletime=20000,
        retranstimer=500,
    )
    now = one.configuration
    assert now.routers == (DefaultRouter(ROUTER, ROUTER_MAC, -1),)
    assert now.routes == (RouterRoute(IPv6Network("2001:db8:9::/48"), ROUTER, 1),)
    assert now.dns == (IPv6Address("2001:db8::53"), IPv6Address("2001:db8::54"))
    assert now.search == ("lab.example", "example.org")
    assert (now.mtu, now.hop_limit, now.retransmit_s, now.managed, now.other) == (1400, 61, 0.5, True, True)
    assert 10 <= now.reachable_s <= 30
    run(one, 400.0)
    assert one.configuration.dns == () == one.configuration.search and one.configuration.routes


def test_routers_are_ordered_by_preference_and_taken_away_by_lifetime_0():
    """RFC 4191."""
    one = up()
    hear(one, advertisement(), 10.0, source=ROUTER)
    hear(one, advertisement(prf=1), 11.0, source=ROUTER2)
    assert [router.address for router in one.configuration.routers] == [ROUTER2, ROUTER]
    hear(one, advertisement(scapy.ICMPv6NDOptRouteInfo(prefix="::", plen=0, prf=3, rtlifetime=60)), 12.0, ROUTER2)
    assert [router.address for router in one.configuration.routers] == [ROUTER, ROUTER2]
    hear(one, advertisement(lifetime=0), 13.0, source=ROUTER)
    assert [router.address for router in one.configuration.routers] == [ROUTER2]


@pytest.mark.parametrize("mtu", [0, 68, 1279, 9000])
def test_an_mtu_that_cannot_be(mtu):
    assert configured(scapy.ICMPv6NDOptMTU(mtu=mtu)).configuration.mtu == 1500


def test_numbers_that_would_cut_us_off():
    one = configured(chlim=1, retranstimer=1, reachabletime=0xFFFFFFFF)
    now = one.configuration
    assert (now.hop_limit, now.retransmit_s, now.reachable_s) == (64, 1.0, 30.0)


def test_a_flood_of_advertisements_is_bounded_and_what_is_there_stays():
    one = configured(prefixes=[prefix()])
    before = one.configuration
    for number in range(60):
        options = [
            prefix(f"2001:db8:{number:x}:{index:x}::", valid=INFINITE, preferred=INFINITE) for index in range(1, 20)
        ]
        options += [scapy.ICMPv6NDOptRDNSS(dns=[f"2001:db8::{number:x}"], lifetime=99)] if number % 5 == 0 else []
        hear(one, advertisement(prefixes=options), 20.0, source=IPv6Address(int(ROUTER2) + number))
    run(one, 30.0)
    now = one.configuration
    assert len(now.addresses) == 16 and len(now.on_link) == 16 and len(now.routers) == 8 and len(now.dns) == 8
    assert now.routers[0] == before.routers[0] and set(before.addresses) <= set(now.addresses)
    assert one.stats.ignored["full"] > 0 and one._advertised.refused["routers"] > 0


@pytest.mark.parametrize(
    ("why", "change"),
    [("hop-limit", {"hop_limit": 254}), ("source", {"source": OURS}), ("source", {"source": NOBODY})],
)
def test_advertisements_that_do_not_count(why, change):
    one = up()
    assert hear(one, advertisement(prefixes=[prefix()]), 10.0, **change) == []
    assert one.stats.ignored == {why: 1} and one.configuration.routers == ()


def test_broken_options():
    one = up()
    for tail in (b"\3\0" + bytes(30), b"\3\4" + bytes(20), b"\5"):
        assert hear(one, advertisement() + tail, 10.0) == []
    assert one.stats.ignored == {"malformed": 3}
    hear(one, advertisement() + b"\x63\1" + bytes(6), 10.0)  # unknown: passed over
    assert one.configuration.routers


@given(data=st.data())
@settings(max_examples=150, deadline=None)
def test_no_bytes_make_it_fail(data):
    one = up()
    good = bytearray(
        advertisement(
            scapy.ICMPv6NDOptMTU(mtu=1400),
            scapy.ICMPv6NDOptRouteInfo(prefix="2001:db8:9::", plen=48, rtlifetime=600),
            scapy.ICMPv6NDOptRDNSS(dns=["2001:db8::53"], lifetime=300),
            scapy.ICMPv6NDOptDNSSL(searchlist=["lab.example"], lifetime=300),
            prefixes=[prefix()],
        )
    )
    for _ in range(data.draw(st.integers(0, 8))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    kind = data.draw(st.sampled_from([133, 134, 135, 136, 137]))
    cut = data.draw(st.integers(0, len(good)))
    for message in (bytes(good), bytes(good[:cut]), bytes((kind, 0)) + data.draw(st.binary(max_size=100))):
        hear(one, message, 20.0)
        run(one, 25.0)
    assert one.configuration.mtu >= 1280 and len(one.configuration.addresses) <= 16


# Bytes and identifiers -------------------------------------------------------------------------------------


def test_neighbour_messages_for_those_who_need_them():
    source = scapy.IPv6(src=str(ROUTER), dst="ff02::1:ff00:42")
    packet = source / scapy.ICMPv6ND_NS(tgt=str(OURS)) / scapy.ICMPv6NDOptSrcLLAddr(lladdr="02:00:00:00:00:01")
    message = bytes(packet)[40:]
    assert read_nd(message) == NeighbourSolicitation(OURS, ROUTER_MAC, b"")
    assert message[4:] == solicit_neighbour(OURS, ROUTER_MAC)
    packet = (
        source
        / scapy.ICMPv6ND_NA(tgt=str(OURS), R=0, S=1, O=1)
        / scapy.ICMPv6NDOptDstLLAddr(lladdr="02:00:00:00:00:42")
    )
    message = bytes(packet)[40:]
    assert read_nd(message) == NeighbourAdvertisement(OURS, MAC, False, True, True)
    assert message[4:] == advertise_neighbour(OURS, MAC, solicited=True, override=True)


def test_opaque_identifiers():
    """RFC 7217 section 5: stable, of the prefix, of the interface, of the secret, of the collisions."""
    network, other = IPv6Network("2001:db8::/64"), IPv6Network("2001:db8:1::/64")
    made = InterfaceId(MAC, SECRET)
    seen = {
        made.address(network),
        made.address(network, 1),
        InterfaceId(MAC + 1, SECRET).address(network),
        InterfaceId(MAC, SECRET + b"x").address(network),
        InterfaceId(MAC, SECRET, "lab").address(network),
        IPv6Address(int(made.address(other)) - int(other.network_address) + int(network.network_address)),
    }
    assert len(seen) == 6 and all(address in network for address in seen)
    assert made.address(network) == InterfaceId(MAC, SECRET).address(network)
    with pytest.raises(ConfigError, match="of 16 at least"):
        InterfaceId(MAC, b"short")


def test_identifiers_that_are_taken_for_all():
    assert reserved(0) and reserved(0xFDFFFFFFFFFFFF80) and reserved(0x02005EFFFE005213)
    assert not reserved(1) and not reserved(0xFDFFFFFFFFFFFF7F) and not reserved(0xFE00000000000000)
