"""What is fuzzed: for each protocol parsed, a function of bytes that must not fail, and bytes to begin with.

The functions are the ones that workers and control code call, interpreted: each access to memory is checked against
what belongs to the datagram, which lies at the end of its memory. State goes on from one input to the next, as in a
server. Names of drops are answers like any other; an exception is a fault.
"""

import importlib.util
import ipaddress
import random
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import dns.message
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import ICMP, IP, UDP, IPOption_RR
from scapy.layers.inet6 import (
    ICMPv6EchoRequest,
    ICMPv6MLQuery2,
    ICMPv6ND_NA,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    IPv6ExtHdrRouting,
    PadN,
)
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.ntp import NTP
from scapy.packet import Raw

TESTS = Path(__file__).parents[1]
Target = tuple[Callable[[bytes], object], Sequence[bytes]]


def _module(path: str) -> Any:
    """A module of the tests, by its file: several folders have one of the same name."""
    file = TESTS / path
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location(f"fuzzed_{file.parent.name}_{file.stem}", file)
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def _vectors(name: str) -> list[bytes]:
    lines = (TESTS / "vectors" / name).read_text().splitlines()
    return [bytes.fromhex(line) for line in lines if line and line[0] != "#"]


# Servers ---------------------------------------------------------------------------------------------------


def dns_questions() -> Target:
    """Questions to the name server."""
    from wirespeed.apps.dns.server import DnsServer
    from wirespeed.apps.dns.zone import read_zone

    rig = _module("apps/dns/conftest.py")
    asker = rig.Asker(DnsServer([read_zone(TESTS.parent / "examples/zone/example.zone")], rate=0))
    names = ("www.example.com", "x.y.wild.example.com", "ftp.example.com", "b.sub.example.com", "nobody.example.com")
    seeds = [
        dns.message.make_query(name, kind, use_edns=edns, payload=1232 if edns is not None else 0).to_wire()
        for name in names for kind in ("A", "MX", "ANY", "TYPE65280") for edns in (None, 0)
    ]  # fmt: skip
    return lambda data: asker.ask(data[: rig.ROOM]), seeds


def memcached() -> Target:
    """Commands to the key-value server; its memory is so small that items give way."""
    rig = _module("apps/memcached/asked.py")
    asked = rig.Asked(memory_bytes=1 << 20)
    lines = (
        b"set k 5 0 3\r\nabc", b"get k", b"gets k none k", b"gat 10 k", b"add k 0 0 1\r\nx", b"cas k 0 0 1 7\r\ny",
        b"incr k 1", b"decr k 99", b"touch k -1", b"delete k", b"append k 0 0 2 noreply\r\nzz", b"stats",
        b"stats reset", b"version",
        b"flush_all 1", b"verbosity 1", b"set n 0 0 1 noreply\r\n9\r\nincr n 1\r\nget n", b"get " + b"k" * 251,
    )  # fmt: skip

    def take(data: bytes) -> object:
        asked.shard(data)
        return asked.datagrams(data)

    return take, [rig.FRAME + line + b"\r\n" for line in lines]


def ntp() -> Target:
    """Requests to the time server."""
    rig = _module("apps/ntp/conftest.py").Rig()
    return lambda data: rig.ask(data[:1400]), [bytes(NTP(version=version)) for version in (1, 3, 4)]


def flows() -> Target:
    """sFlow, NetFlow v9 and IPFIX to the collector."""
    rig = _module("apps/collector/conftest.py").Rig()
    names = ("pmacct-sflow.txt", "softflowd-netflow9.txt", "softflowd-ipfix.txt")
    return lambda data: rig.feed(data), [each for name in names for each in _vectors(name)]


def statsd() -> Target:
    """statsd to the collector."""
    rig = _module("apps/collector/conftest.py").Rig()
    lines = (b"a:1|c", b"b:2.5|ms|@0.1", b"c:-3|g\nd:+1|g", b"e:x|s", b"f:1|c|#tag:v", b"g:1e3|h\n\nh:1|c")
    return lambda data: rig.feed(data, statsd=True), lines


# The host --------------------------------------------------------------------------------------------------

_US, _PEER = "02:77:73:00:00:01", "02:00:00:00:00:02"
_TO_US = Ether(src=_PEER, dst=_US)
_IN4, _IN6 = _TO_US / IP(src="10.7.0.2", dst="10.7.0.1"), _TO_US / IPv6(src="fd07::2", dst="fd07::1")
_DATA = UDP(sport=4000, dport=7) / b"data"
_FRAMES = (
    _IN4 / _DATA, _IN6 / _DATA, _TO_US / Dot1Q(vlan=5) / IP(src="10.7.0.2", dst="10.7.0.1") / _DATA,
    _TO_US / IP(src="10.7.0.2", dst="10.7.0.1", options=[IPOption_RR(routers=["1.2.3.4"])]) / _DATA,
    _IN6 / IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]) / IPv6ExtHdrDestOpt() / _DATA,
    _IN6 / IPv6ExtHdrRouting(addresses=["fd07::9"]) / _DATA, _IN6 / IPv6ExtHdrFragment(m=1, id=3) / _DATA,
    _IN4 / ICMP() / b"ping", _IN6 / ICMPv6EchoRequest(data=b"ping"),
    _TO_US / IP(src="10.7.0.2", dst="10.7.0.1", flags="MF", id=9) / _DATA,
)  # fmt: skip


def frames() -> Target:
    """Whole frames to the packet path: what it takes, it takes by the short and by the general way alike."""
    rig = _module("stack/test_input.py")

    def take(data: bytes) -> object:
        data = data[:1600]
        return rig.plain_and_general(rig.FACE, data), rig.icmp_echo(rig.FACE).trace(data)

    def guarded(data: bytes) -> object:
        return take(data) if len(data) >= 14 else None

    return guarded, [bytes(each) for each in _FRAMES]


def control() -> Target:
    """Frames to the host's control code; the first byte says by which door."""
    rig = _module("stack/test_host.py")
    machine, doors = rig.Machine(), list(rig.Door)

    def take(data: bytes) -> None:
        if data:
            machine.now_s += 0.01
            machine.frames.clear()
            machine.take(doors[data[0] % len(doors)], data[1:])
            machine.host.tick(machine.now_s)

    ours = UDP(sport=7, dport=9) / b"12345678"
    known = (
        _TO_US / ARP(op=1, hwsrc=_PEER, psrc="10.7.0.2", pdst="10.7.0.1"),
        _IN4 / ICMP(type=3, code=4, nexthopmtu=900) / IP(src="10.7.0.1", dst="192.0.2.9") / ours,
        _IN6 / ICMPv6PacketTooBig(mtu=1280) / IPv6(src="fd07::1", dst="2001:db8::9") / ours,
        _IN6 / ICMPv6ND_NS(tgt="fd07::1") / ICMPv6NDOptSrcLLAddr(lladdr=_PEER), _IN6 / ICMPv6ND_NA(tgt="fd07::2"),
        _TO_US / IPv6(src="fe80::1", dst="ff02::1", hlim=255) / ICMPv6ND_RA() / ICMPv6NDOptPrefixInfo(prefix="fd09::"),
        *_FRAMES,
    )  # fmt: skip
    return take, [bytes([door]) + bytes(each) for each in known for door in range(len(doors))]


def fragments() -> Target:
    """Fragments to reassembly: pieces of 8-byte multiples of one datagram, each with flags and offset of its own."""
    rig = _module("traffic/test_fragment.py")
    bench, table = rig.Bench(), rig.Reassembly(4)
    times = iter(range(0, 1 << 60, 1_000_000))

    def take(data: bytes) -> None:
        rig.put(bench, table, [each for each in data.split(b"\xff\xfe\xff") if 14 <= len(each) <= 1600], next(times))

    _, four = rig.pieces4(3000)
    _, six = rig.pieces6(3000)
    return take, [b"\xff\xfe\xff".join(bytes(each)[:300] for each in pieces) for pieces in (four, six)]


def dhcp4() -> Target:
    """Answers to the DHCPv4 client."""
    rig = _module("stack/test_dhcp4.py")
    one = rig.client()
    ((_, asked, _),) = rig.sent(one.start(0.0))
    now = iter(range(1, 1 << 60))

    def take(data: bytes) -> None:
        one.receive(data, float(next(now)))
        one.tick(float(next(now)))

    other = bytes(BOOTP(op=2, xid=7) / DHCP(options=[("message-type", "nak"), "end"]))
    return take, [*(rig.answer(asked, kind) for kind in ("offer", "ack", "nak")), other]


def slaac() -> Target:
    """Router and neighbour messages to address configuration."""
    rig = _module("stack/test_slaac.py")
    one = rig.up()
    now = iter(range(20, 1 << 60))

    def take(data: bytes) -> None:
        rig.hear(one, data, float(next(now)))
        rig.run(one, float(next(now)))

    return take, [rig.advertisement(prefixes=[rig.prefix()]), rig.advertisement(lifetime=0), bytes(ICMPv6ND_NS())]


def groups() -> Target:
    """Queries and reports about groups, IGMP and MLD; the first byte says which, and where it comes from."""
    from wirespeed.stack.igmp import Igmp
    from wirespeed.stack.mld import Mld

    four, six = ipaddress.IPv4Address("10.7.0.1"), ipaddress.IPv6Address("fe80::1")
    igmp, mld = Igmp(random.Random(3), four), Mld(random.Random(3), six)
    now = iter(range(1, 1 << 60))

    def take(data: bytes) -> None:
        how, message = data[:1] or b"\0", data[1:]
        if how[0] & 1:
            igmp.receive(64 if how[0] & 2 else 1, bool(how[0] & 4), message, float(next(now)))
        else:
            mld.receive(six + 1, 64 if how[0] & 2 else 1, bool(how[0] & 4), message, float(next(now)))
        igmp.tick(float(next(now)))
        mld.tick(float(next(now)))

    query = bytes(ICMPv6MLQuery2(mladdr="ff15::3", sources=["fd07::9"]))
    return take, [b"\5" + bytes.fromhex("1164ee9b00000000"), b"\5" + bytes.fromhex("1600f8fcef010203"), b"\4" + query]


def resolver() -> Target:
    """Answers to the resolver; what is no answer is refused by its own exceptions."""
    from wirespeed.stack.dns_answer import Question, ResolveError

    question = Question("www.example.com", "A")
    query = question.encode(random.Random(1))

    def take(data: bytes) -> object:
        try:
            return question.read(query, query[:2] + data[2:])
        except ResolveError as refused:
            return refused

    answer = dns.message.make_response(dns.message.from_wire(query))
    for name, kind, text in (
        ("www.example.com.", "CNAME", "web.example.com."), ("web.example.com.", "A", str(ipaddress.IPv4Address(1))),
    ):  # fmt: skip
        answer.answer.append(dns.rrset.from_text(name, 60, "IN", kind, text))
    return take, [query, answer.to_wire(), bytes(Raw(query[:12]))]


TARGETS: dict[str, Callable[[], Target]] = {
    each.__name__: each
    for each in (
        dns_questions, memcached, ntp, flows, statsd, frames, control, fragments, dhcp4, slaac, groups,
        resolver,
    )
}  # fmt: skip
