"""Questions and answers as bytes: what each RFC says, and whatever else comes."""

from pathlib import Path

import dns.edns
import dns.flags
import dns.message
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.apps.dns.state import DROPS, HOPS

EXAMPLE = (Path(__file__).parents[3] / "examples/zone/example.zone").read_text()

# RFC 4592 section 2.2.1, its zone and its questions.
WILDCARDS = """
$ORIGIN example.
$TTL 3600
@ SOA ns.example.com. host 1 7200 900 1209600 300
@ NS ns.example.com.
@ NS ns.example.net.
* TXT "this is a wildcard"
* MX 10 host1
sub.* TXT "this is not a wildcard"
host1 A 192.0.2.1
_ssh._tcp.host1 SRV 0 0 22 host1
_ssh._tcp.host2 SRV 0 0 22 host2
subdel NS ns.example.com.
subdel NS ns.example.net.
"""


@pytest.fixture
def example(serving):
    return serving(EXAMPLE)


def shown(section):
    """Records as text without TTL and class, in order."""
    return sorted(
        f"{rrset.name} {dns.rdatatype.to_text(rrset.rdtype)} {each}".lower() for rrset in section for each in rrset
    )


def test_bytes_in_and_out(example):
    """A question of dig for mail.example.com and the answer, byte by byte (RFC 1035 section 4)."""
    question = bytes.fromhex(
        "1234 0120 0001 0000 0000 0001 04 6d61696c 07 6578616d706c65 03 636f6d 00 0001 000100 0029 04d0 00 00 8000 0000"
    )
    answer = bytes.fromhex(
        "1234 8500 0001 0001 0000 0001 04 6d61696c 07 6578616d706c65 03 636f6d 00 0001 0001"
        "c00c 0001 0001 00000e10 0004 c0000219"
        "00 0029 04d0 00 00 8000 0000"
    )
    assert example.ask(question) == answer
    assert example.ask(question, in_place=True) == answer


@pytest.mark.parametrize("in_place", [False, True])
@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [
        ("example.com", "NS", ["example.com. ns ns1.example.com.", "example.com. ns ns2.example.net."]),
        ("example.com", "MX", ["example.com. mx 10 mail.example.com.", "example.com. mx 20 mail.example.net."]),
        ("example.com", "TXT", ['example.com. txt "v=spf1 mx -all"']),
        ("MAIL.eXample.com", "AAAA", ["mail.example.com. aaaa 2001:db8::25"]),
        ("www.example.com", "CNAME", ["www.example.com. cname web.example.com."]),
        ("ftp.example.com", "A", [
            "ftp.example.com. cname www.example.com.", "web.example.com. a 192.0.2.80", "web.example.com. a 192.0.2.81",
            "www.example.com. cname web.example.com.",
        ]),
        ("away.example.com", "A", ["away.example.com. cname www.example.net."]),
        ("loop.example.com", "A", [
            "loop.example.com. cname pool.example.com.", "pool.example.com. cname loop.example.com.",
        ]),
        ("_sip._udp.example.com", "SRV", ["_sip._udp.example.com. srv 0 5 5060 mail.example.com."]),
        ("odd.example.com", "TYPE65280", ["odd.example.com. type65280 \\# 4 0a000001"]),
        ("one.two.wild.example.com", "MX", ["one.two.wild.example.com. mx 10 mail.example.com."]),
        ("x.alias.example.com", "A", [
            "web.example.com. a 192.0.2.80", "web.example.com. a 192.0.2.81",
            "x.alias.example.com. cname web.example.com.",
        ]),
    ],
)  # fmt: skip
def test_answers(example, name, kind, answer, in_place):
    reply = example.query(name, kind, in_place=in_place)
    assert shown(reply.answer) == answer
    assert reply.rcode() == dns.rcode.NOERROR and reply.flags & dns.flags.AA
    assert not reply.authority and not reply.additional


@pytest.mark.parametrize(
    ("name", "kind", "rcode", "answers"),
    [
        ("nobody.example.com", "A", dns.rcode.NXDOMAIN, 0),
        ("nobody.a.b.c.example.com", "A", dns.rcode.NXDOMAIN, 0),
        (".".join(["a"] * 100) + ".example.com", "A", dns.rcode.NXDOMAIN, 0),
        ("mail.example.com", "TXT", dns.rcode.NOERROR, 0),
        ("b.c.example.com", "A", dns.rcode.NOERROR, 0),
        ("there.wild.example.com", "A", dns.rcode.NOERROR, 0),
        ("x.wild.example.com", "TXT", dns.rcode.NOERROR, 0),
        ("sub.example.com", "DS", dns.rcode.NOERROR, 0),
        ("gone.example.com", "A", dns.rcode.NXDOMAIN, 1),
        ("ftp.example.com", "AAAA", dns.rcode.NOERROR, 2),
        ("mail.example.com", "TYPE0", dns.rcode.NOERROR, 0),
        ("mail.example.com", "MAILB", dns.rcode.NOERROR, 0),
        ("mail.example.com", "TYPE128", dns.rcode.NOERROR, 0),
    ],
)
def test_what_is_not_there(example, name, kind, rcode, answers):
    """RFC 2308: the SOA record, its TTL the least of its own and its last field."""
    reply = example.query(name, kind)
    assert (reply.rcode(), sum(map(len, reply.answer))) == (rcode, answers)
    assert reply.flags & dns.flags.AA
    assert [(str(each.name), each.ttl, each.rdtype) for each in reply.authority] == [("example.com.", 300, 6)]


@pytest.mark.parametrize("name", ["sub.example.com", "a.b.sub.example.com", "ns.sub.example.com"])
def test_referrals(example, name):
    reply = example.query(name)
    assert reply.rcode() == dns.rcode.NOERROR and not reply.flags & dns.flags.AA and not reply.answer
    assert shown(reply.authority) == ["sub.example.com. ns ns.sub.example.com.", "sub.example.com. ns ns1.example.com."]
    assert shown(reply.additional) == [
        "ns.sub.example.com. a 192.0.2.153", "ns.sub.example.com. aaaa 2001:db8::153", "ns1.example.com. a 192.0.2.53",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "kind", "synthesized"),
    [
        ("host3.example", "MX", True), ("host3.example", "A", False), ("foo.bar.example", "TXT", True),
        ("host1.example", "MX", False), ("sub.*.example", "MX", False), ("_telnet._tcp.host1.example", "SRV", False),
        ("host.subdel.example", "A", False), ("ghost.*.example", "MX", False),
    ],
)  # fmt: skip
def test_wildcards(serving, name, kind, synthesized):
    """RFC 4592 section 2.2.1."""
    asker = serving(WILDCARDS)
    reply = asker.query(name, kind)
    assert [str(each.name) for each in reply.answer] == ([f"{name}."] if synthesized else [])
    if name == "host.subdel.example":
        assert len(reply.authority[0]) == 2 and not reply.flags & dns.flags.AA
    elif name in ("_telnet._tcp.host1.example", "ghost.*.example"):
        assert reply.rcode() == dns.rcode.NXDOMAIN
    else:
        assert reply.rcode() == dns.rcode.NOERROR
    assert shown(asker.query("*.example", "MX").answer) == ["*.example. mx 10 host1.example."]


def test_a_wildcards_own_name_in_its_data_stays(serving):
    """What was asked for takes the place of the wildcard where that is the owner, and nowhere else (as NSD has it)."""
    asker = serving(WILDCARDS + "* PTR a.*\n* PTR *\n* PTR b.a.*\n")
    assert shown(asker.query("here.example", "PTR").answer) == [
        "here.example. ptr *.example.", "here.example. ptr a.*.example.", "here.example. ptr b.a.*.example.",
    ]  # fmt: skip


def test_aliases_are_compressed_and_followed(serving):
    """Each owner points at the data before it, and what the names share at the question, byte by byte."""
    asker = serving("$ORIGIN a.\n$TTL 1\n@ SOA n h 1 2 3 4 5\n@ NS n\nx CNAME y.x\ny.x CNAME z\nz A 192.0.2.1\n")
    question = bytes.fromhex("0001 0000 0001 0000 0000 0000 01 78 01 61 00 0001 0001")
    assert asker.ask(question) == bytes.fromhex(
        "0001 8400 0001 0003 0000 0000 01 78 01 61 00 0001 0001"
        "c00c 0005 0001 00000001 0004 0179 c00c"
        "c021 0005 0001 00000001 0004 017a c00e"
        "c031 0001 0001 00000001 0004 c0000201"
    )


@pytest.mark.parametrize(("aliases", "complete"), [(HOPS - 1, True), (HOPS + 5, False)])
def test_long_chains(serving, aliases, complete):
    """Whole, or as much as one asker is worth: with NOERROR, so that it asks on from the last."""
    chain = "".join(f"c{i} CNAME c{i + 1}\n" for i in range(aliases))
    asker = serving(f"$ORIGIN a.\n$TTL 1\n@ SOA n h 1 2 3 4 5\n@ NS n\n{chain}c{aliases} A 192.0.2.1\n")
    reply = asker.query("c0.a")
    assert reply.rcode() == dns.rcode.NOERROR and not reply.authority
    assert [each.rdtype for each in reply.answer] == [5] * min(aliases, HOPS) + [1] * complete
    assert [str(each.name) for each in reply.answer] == [f"c{i}.a." for i in range(len(reply.answer))]


def test_other_zones_are_refused(example):
    for name in ("example.org", "com", ".", "xample.com", "notexample.com"):
        reply = example.query(name)
        assert (reply.rcode(), reply.answer, reply.authority) == (dns.rcode.REFUSED, [], [])
    assert example.message(dns.message.make_query("example.com", "A", "CH")).rcode() == dns.rcode.REFUSED
    assert example.query("example.com", "AXFR").rcode() == dns.rcode.REFUSED
    assert example.server.stats().refused == 7


def test_any_gets_one_type(example):
    """RFC 8482 section 4.1."""
    assert len(example.query("example.com", "ANY").answer) == 1
    assert example.query("c.example.com", "ANY").authority


def test_edns(example):
    """RFC 6891: answered with, as asked with; other versions, what they support; DO comes back (RFC 3225)."""
    assert example.query("mail.example.com", edns=False).edns == -1
    asked = dns.message.make_query("mail.example.com", "A", use_edns=0, want_dnssec=True)
    reply = example.message(asked)
    assert (reply.edns, reply.payload, reply.ednsflags) == (0, 1232, dns.flags.DO)
    cookie = dns.edns.GenericOption(10, b"12345678")
    reply = example.message(dns.message.make_query("mail.example.com", "A", use_edns=0, options=[cookie]))
    assert len(reply.answer) == 1 and not reply.options
    reply = example.message(dns.message.make_query("mail.example.com", "A", use_edns=1))
    assert (reply.rcode(), reply.answer, reply.edns) == (dns.rcode.BADVERS, [], 0)
    assert example.server.stats().bad_version == 1


def test_truncation(example):
    """More than 512 bytes only for who says so, and never more than the room."""
    reply = example.query("long.example.com", "TXT", edns=False)
    assert reply.flags & dns.flags.TC and not reply.answer
    assert len(example.query("long.example.com", "TXT").answer[0]) == 6
    assert example.query("long.example.com", "TXT", room=600).flags & dns.flags.TC
    small = dns.message.make_query("long.example.com", "TXT", use_edns=0, payload=100)
    assert example.message(small).flags & dns.flags.TC
    assert example.server.stats().truncated == 3


HEADER = bytes.fromhex("0001 0100 0001 0000 0000 0000")
NAME = b"\4mail\7example\3com\0"


@pytest.mark.parametrize(
    "question",
    [
        HEADER, HEADER + NAME, HEADER + NAME + b"\0\1\0", HEADER + b"\4mail\7exa", HEADER + b"\xc0\x0c\0\1\0\1",
        HEADER + b"\x40" + b"a" * 64 + b"\0\0\1\0\1", HEADER + b"\1a" * 127 + b"\1a\0\0\1\0\1",
        HEADER + NAME + b"\0\1\0\1junk",
        HEADER[:4] + b"\0\0" + HEADER[6:] + NAME + b"\0\1\0\1", HEADER[:4] + b"\0\2" + HEADER[6:] + NAME + b"\0\1\0\1",
        HEADER[:6] + b"\0\1" + HEADER[8:] + NAME + b"\0\1\0\1", HEADER[:8] + b"\0\1" + HEADER[10:] + NAME + b"\0\1\0\1",
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1",
        HEADER[:10] + b"\0\2" + NAME + b"\0\1\0\1" + b"\0\0\x29" + b"\0" * 8,
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\0\5abcd",
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\0\3\0\x0a\0",
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1" + b"\0\0\x29\4\xd0\0\0\0\0\0\5\0\x0a\0\2a",
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1" + b"\0\0\x01\4\xd0\0\0\0\0\0\0",
        HEADER[:10] + b"\0\1" + NAME + b"\0\1\0\1" + b"\1a\0\0\x29\4\xd0\0\0\0\0\0\0",
    ],
)  # fmt: skip
def test_malformed(example, question):
    """A header and FORMERR, never more than came."""
    reply = example.ask(question)
    assert reply == bytes.fromhex("0001 8101 0000 0000 0000 0000") and len(reply) <= len(question)
    assert example.server.stats().malformed == 1


def test_dropped(example):
    assert [DROPS[-1 - example.ask(HEADER[:size])] for size in (0, 1, 11)] == ["short"] * 3
    assert DROPS[-1 - example.ask(b"\0\1\x81" + HEADER[3:] + NAME + b"\0\1\0\1")] == "response"
    assert DROPS[-1 - example.ask(HEADER + NAME + b"\0\1\0\1", room=511)] == "small-room"
    assert example.ask(b"\0\1\x28" + HEADER[3:] + NAME + b"\0\1\0\1") == bytes.fromhex("0001 a804 0000 0000 0000 0000")
    assert example.server.stats().dropped == 5


def test_names_of_the_root(serving):
    asker = serving(
        "$TTL 60\n. SOA a. b. 1 2 3 4 5\n. NS a.\n. TXT x\na. A 192.0.2.1\nnet. NS a.net.\na.net. A 192.0.2.2\n"
    )
    assert shown(asker.query(".", "TXT").answer) == ['. txt "x"']
    assert shown(asker.query(".", "NS").answer) == [". ns a."]
    assert shown(asker.query("x.net", "A").additional) == ["a.net. a 192.0.2.2"]
    assert shown(asker.query("nobody", "A").authority) == [". soa a. b. 1 2 3 4 5"]


def test_large_answers(serving):
    """Many records, pointers beyond what they can point at, and an answer that does not fit a datagram at all."""
    names = "".join(f"many MX {i} {'x' * 50}{i}.{'y' * 50}{i}\n" for i in range(200))
    asker = serving(f"$ORIGIN a.\n$TTL 1\n@ SOA a b 1 2 3 4 5\n@ NS b\n{names}", size_max=65507)
    question = dns.message.make_query("many.a", "MX", use_edns=0, payload=65535)
    assert asker.message(question).flags & dns.flags.TC
    reply = asker.server.stats()
    assert reply.truncated == 1


@given(
    position=st.integers(0, 60), value=st.integers(0, 255), cut=st.integers(0, 60),
    name=st.sampled_from(["mail", "x.y.wild", "ftp", "b.sub", "nobody"]),
)  # fmt: skip
def test_mutations(example, position, value, cut, name):
    """Whatever a byte becomes: an answer that can be read, no larger than the limit, or a drop."""
    question = bytearray(dns.message.make_query(f"{name}.example.com", "A", use_edns=0).to_wire())
    question[position % len(question)] = value
    question = bytes(question[: max(len(question) - cut // 2, 0)])
    found = example.ask(question)
    if isinstance(found, bytes):
        assert len(found) <= 1232
        assert found[:2] == question[:2] and found[2] & 0x80
        dns.message.from_wire(found, one_rr_per_rrset=True)
    else:
        assert DROPS[-1 - found]
