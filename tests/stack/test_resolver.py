"""The stub resolver: answers made by dnspython, a transport that is a script, and time that stands still."""

import asyncio
import contextlib
from ipaddress import ip_address
from random import Random

import dns.flags
import dns.message
import dns.rcode
import dns.rrset
import pytest

from wirespeed.stack.dns_answer import ADDRESSES_MAX, NEGATIVE_MAX_S, BadAnswer, NoSuchName, Question, ResolveError
from wirespeed.stack.resolver import FAILED_S, UNDER_WAY_MAX, Resolver
from wirespeed.stack.resolver_kernel import read_hosts

ONE, TWO = ip_address("192.0.2.53"), ip_address("2001:db8::53")
SOA = ("example.", 600, "SOA", "ns.example. root.example. 1 2 3 4 300")
HERE = ip_address("192.0.2.1")


class Servers:
    """Answers by name and type: a list of records, a code, an exception, or a function of the query."""

    def __init__(self, **more):
        self.zone, self.asked, self.now_s = {}, [], 100.0
        self.resolver = Resolver(
            self.send, more.pop("servers", (ONE,)), now=lambda: self.now_s, random=Random(1), timeout_s=0.01, **more
        )

    async def send(self, server, payload):
        query = dns.message.from_wire(payload)
        question = query.question[0]
        key = (question.name.to_text(omit_final_dot=True), dns.rdatatype.to_text(question.rdtype))
        self.asked.append((server, *key))
        said = self.zone.get((server, *key), self.zone.get(key, dns.rcode.NXDOMAIN))
        if isinstance(said, BaseException):
            raise said
        if said == "silence":
            await asyncio.sleep(60)
        if callable(said):
            return said(query)
        return answer(query, said).to_wire()

    def __getitem__(self, asked):
        name, kind = asked if isinstance(asked, tuple) else (asked, "A")
        return [str(each) for each in asyncio.run(self.resolver.resolve(name, kind))]


def answer(query, said):
    made = dns.message.make_response(query)
    if isinstance(said, dns.rcode.Rcode):
        made.set_rcode(said)
        said = [SOA] if said == dns.rcode.NXDOMAIN else []
    for name, ttl, kind, *values in said:
        records = dns.rrset.from_text(name, ttl, "IN", kind, *values)
        (made.authority if kind == "SOA" else made.answer).append(records)
    return made


def test_a_name_and_its_cache():
    net = Servers()
    net.zone["www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1", "192.0.2.2")]
    assert sorted(net["WWW.example."]) == ["192.0.2.1", "192.0.2.2"]
    assert len(net["www.example"]) == 2
    assert len(net.asked) == 1
    net.now_s += 60
    assert len(net["www.example"]) == 2
    assert len(net.asked) == 2
    net.resolver.forget()
    assert len(net["www.example"]) == 2
    assert len(net.asked) == 3


def test_no_such_name_is_remembered_as_the_zone_says():
    """RFC 2308 section 5: the lesser of the SOA's TTL and its minimum."""
    net = Servers()
    for _ in range(2):
        with pytest.raises(NoSuchName):
            net["no.example"]
    assert len(net.asked) == 1
    net.now_s += 300
    with pytest.raises(NoSuchName):
        net["no.example"]
    assert len(net.asked) == 2


def test_a_name_without_that_type():
    net = Servers()
    net.zone["four.example", "AAAA"] = [SOA]
    net.zone["four.example", "A"] = [("four.example.", 60, "A", "192.0.2.1")]
    assert net["four.example", "AAAA"] == []
    assert asyncio.run(net.resolver.addresses("four.example")) == (HERE,)
    net.zone["none.example", "A"] = net.zone["none.example", "AAAA"] = [SOA]
    with pytest.raises(NoSuchName, match="no address"):
        asyncio.run(net.resolver.addresses("none.example"))


def test_aliases():
    net = Servers()
    chain = [("a.example.", 60, "CNAME", "b.example."), ("b.example.", 5, "CNAME", "c.example.")]
    net.zone["a.example", "A"] = [*chain, ("c.example.", 60, "A", "192.0.2.1")]
    assert net["a.example"] == ["192.0.2.1"]
    net.now_s += 5  # the least of all TTLs
    assert net["a.example"] == ["192.0.2.1"]
    assert len(net.asked) == 2
    net.zone["d.example", "A"] = [("d.example.", 60, "CNAME", "a.example.")]
    assert net["d.example"] == ["192.0.2.1"]


def test_aliases_without_end():
    net = Servers()
    for i in range(20):
        net.zone[f"{i}.example", "A"] = [(f"{i}.example.", 60, "CNAME", f"{i + 1}.example.")]
    with pytest.raises(ResolveError, match="aliases"):
        net["0.example"]
    net.zone["loop.example", "A"] = [("loop.example.", 60, "CNAME", "loop.example.")]
    with pytest.raises(ResolveError):
        net["loop.example"]


def test_what_was_not_asked_for_is_not_believed():
    net = Servers()
    net.zone["www.example", "A"] = [
        ("www.example.", 60, "A", "192.0.2.1"), ("bank.example.", 60, "A", "203.0.113.66"),
    ]  # fmt: skip
    assert net["www.example"] == ["192.0.2.1"]
    with pytest.raises(NoSuchName):
        net["bank.example"]


def forged(change):
    def say(query):
        made = answer(query, [("www.example.", 60, "A", "203.0.113.66")])
        said = change(made)
        return made.to_wire() if said is None else said

    return say


def another_number(made):
    made.id ^= 1


def another_question(made):
    other = dns.message.make_response(dns.message.make_query("other.example.", "A"))
    made.question = other.question


def a_query(made):
    made.flags &= ~dns.flags.QR


FORGED = {
    "number": another_number, "question": another_question, "a query": a_query, "nothing": lambda made: b"",
    "noise": lambda made: Random(3).randbytes(200), "cut": lambda made: made.to_wire()[:20],
    "refused": lambda made: made.set_rcode(dns.rcode.REFUSED),
}  # fmt: skip


@pytest.mark.parametrize("how", FORGED)
def test_the_next_server_is_asked_when_one_is_no_use(how):
    net = Servers(servers=(ONE, TWO))
    net.zone[ONE, "www.example", "A"] = forged(FORGED[how])
    net.zone[TWO, "www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1")]
    assert net["www.example"] == ["192.0.2.1"]
    assert net.resolver.stats.bad_answers == 1


@pytest.mark.parametrize("how", ["silence", OSError("unreachable"), dns.rcode.SERVFAIL])
def test_nobody_can_tell(how):
    """Each server twice; then nobody is asked for a while (RFC 9520 section 3.2)."""
    net = Servers(servers=(ONE, TWO))
    net.zone["www.example", "A"] = how
    for _ in range(2):
        with pytest.raises(ResolveError):
            net["www.example"]
    assert [server for server, *_ in net.asked] == [ONE, TWO, ONE, TWO]
    net.now_s += FAILED_S
    net.zone["www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1")]
    assert net["www.example"] == ["192.0.2.1"]


def test_truncated_answers_come_by_a_stream():
    async def stream(server, payload):
        return answer(dns.message.from_wire(payload), [("www.example.", 60, "A", "192.0.2.1")]).to_wire()

    def truncated(query):
        made = answer(query, [])
        made.flags |= dns.flags.TC
        return made.to_wire()

    for net in (Servers(stream=stream), Servers()):
        net.zone["www.example", "A"] = truncated
        if net.resolver._stream:
            assert net["www.example"] == ["192.0.2.1"]
        else:
            with pytest.raises(ResolveError):
                net["www.example"]


def test_names_that_nobody_is_asked_for():
    net = Servers(hosts={"Printer": [HERE]}, servers=())
    assert net["192.0.2.9"] == ["192.0.2.9"]
    assert net["192.0.2.9", "AAAA"] == []
    assert net["printer."] == ["192.0.2.1"]
    assert net["a.localhost"] == ["127.0.0.1"]
    assert net["localhost", "AAAA"] == ["::1"]
    with pytest.raises(NoSuchName):
        net["some.invalid"]
    for name in ("", "a..b", "x" * 64, "a." * 200, "www.example"):
        with pytest.raises(ResolveError):
            net[name]
    with pytest.raises(ResolveError, match="MX"):
        net["www.example", "MX"]
    assert net.asked == []


def test_search_domains():
    net = Servers(search=("lab.example", "example"))
    net.zone["www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1")]
    assert net["www"] == ["192.0.2.1"]
    assert [name for _, name, _ in net.asked] == ["www.lab.example", "www.example"]
    with pytest.raises(NoSuchName):
        net["www."]


def test_equal_questions_are_one_and_their_number_is_bounded():
    net = Servers()
    net.zone["www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1")]

    async def many():
        asked = [net.resolver.resolve("www.example") for _ in range(50)]
        asked += [net.resolver.resolve(f"{i}.example") for i in range(UNDER_WAY_MAX)]
        return await asyncio.gather(*asked, return_exceptions=True)

    found = asyncio.run(many())
    assert found[:50] == [(HERE,)] * 50
    assert sum("under way" in str(each) for each in found) == 1
    assert net.resolver.stats.shared == 49


def test_who_gives_up_does_not_take_the_answer_from_others():
    net = Servers()
    net.zone["www.example", "A"] = [("www.example.", 60, "A", "192.0.2.1")]

    async def two():
        first = asyncio.create_task(net.resolver.resolve("www.example"))
        second = asyncio.create_task(net.resolver.resolve("www.example"))
        await asyncio.sleep(0)
        first.cancel()
        return await second

    assert asyncio.run(two()) == (HERE,)


def test_what_is_remembered_is_bounded():
    net = Servers(limit=3)
    for i in range(6):
        net.zone[f"{i}.example", "A"] = [(f"{i}.example.", 60, "A", "192.0.2.1")]
        assert net[f"{i}.example"]
    assert net.resolver.stats.evicted == 3
    assert net["5.example"]
    assert len(net.asked) == 6


def test_one_answer_is_bounded_too():
    net = Servers()
    many = [f"10.0.0.{i}" for i in range(60)]
    net.zone["big.example", "A"] = [("big.example.", 1 << 30, "A", *many)]
    assert len(net["big.example"]) == ADDRESSES_MAX
    endless = ("example.", 1 << 30, "SOA", "ns.example. root.example. 1 2 3 4 1000000000")
    query = Question("no.example", "A").encode(Random(1))
    said = answer(dns.message.from_wire(query), [endless])
    assert Question("no.example", "A").read(query, said.to_wire()).ttl_s == NEGATIVE_MAX_S


def test_no_noise_makes_it_fall():
    """Answers changed at random: an answer, or BadAnswer; nothing else."""
    random, question = Random(5), Question("www.example", "A")
    query = question.encode(random)
    said = answer(dns.message.from_wire(query), [("www.example.", 60, "CNAME", "a.example."), SOA]).to_wire()
    for _ in range(2000):
        changed = bytearray(said)
        for _ in range(random.randint(1, 4)):
            changed[random.randrange(len(changed))] = random.randrange(256)
        with contextlib.suppress(BadAnswer):
            question.read(query, bytes(changed[: random.randint(0, len(changed))]))


def test_hosts_file():
    lines = ["# a comment", "192.0.2.1 one One.example. # two", "::1 one", "nonsense here", "", "192.0.2.7"]
    found = read_hosts(lines)
    assert found == {"one": (HERE, ip_address("::1")), "one.example": (HERE,)}
