"""The name server beside NSD, and with dig, drill and dnsperf as its clients."""

import dataclasses
import re
import signal
import subprocess
from pathlib import Path

import pytest
from child import HERE, HERE6, Command
from nsd import Nsd, World, asked_for_any, is_any, of_type, refused, same, with_room
from topology import eventually

from wirespeed.apps.dns.serve import serve
from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.state import DnsView
from wirespeed.apps.dns.zone import read_zone
from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.region import Region

ZONE = Path(__file__).parents[2] / "examples/zone/example.zone"
QUESTIONS = 50_000
TOGETHER = 50
ODD = 5_000
MANY = "$GENERATE 1-9999 many$ A 192.0.2.9\n"  # so many that they are asked for ahead


@kernel
def _ask(state, now, peer, request, length, reply, room):
    return serve(DnsView(state), now, peer, request, length, reply, room)


class Both:
    """NSD and we, with the same random zone: delegations, aliases, wildcards, empty non-terminals."""

    def __init__(self, folder, seed):
        self.world = World(seed, 300)
        file = folder / "zone"
        file.write_text(self.world.text)
        self.region = Region(8192, "dns-interop", huge=False)
        self.server = DnsServer([read_zone(file)], rate=0)
        self.nsd = Nsd(folder, file, "example.com")

    def ask(self, question):
        """Our reply; None: we do not answer that."""
        write_bytes(self.region.address, question)
        at = self.region.address
        length = _ask(self.server.address, 0, 1, at, len(question), at, 4096)
        return read_bytes(at, length) if length > 0 else None

    def one_of_many(self, question):
        """Whether our answer to a question for any type is NSD's to a question for the type that we chose, which is
        what RFC 8482 section 4.1 leaves to a server."""
        question = with_room(question)
        ours = self.ask(question)
        kind = asked_for_any(ours)
        return kind != 0 and same(of_type(ours, kind), *self.nsd.ask(of_type(question, kind)))

    def close(self):
        self.nsd.stop()
        self.server.close()
        self.region.close()


@pytest.fixture
def both(tmp_path, request):
    made = Both(tmp_path, request.param)
    try:
        eventually(made.nsd.answers, "NSD answers")
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("both", [1, 9], indirect=True)
def test_the_same_answers_as_nsd(both):
    """Random questions: equal but for order."""
    world, others = both.world, 0
    for first in range(0, QUESTIONS, TOGETHER):
        questions = [world.question(number) for number in range(first, first + TOGETHER)]
        for question, theirs in zip(questions, both.nsd.ask(*questions), strict=True):
            ours = both.ask(question)
            if not same(ours, theirs):
                others += 1
                assert is_any(question) and both.one_of_many(question), question.hex()
    assert others < QUESTIONS // 100
    stats = dataclasses.asdict(both.server.stats())
    counted = ("answered", "no_data", "no_name", "referrals", "refused", "truncated")
    assert min(stats[each] for each in counted) > 20


@pytest.mark.parametrize("both", [2], indirect=True)
def test_odd_questions(both):
    """What is malformed, or not for such a server, gets no records: a header, or REFUSED, where NSD answers with
    another error, in part, or not at all. All others get the same answers."""
    equal = dict.fromkeys(("flags", "version", "option", "bytes"), 0)
    for number in range(ODD):
        kind, question = both.world.odd(number)
        ours, theirs = both.ask(question), both.nsd.ask_or_not(question)
        if ours is None:
            assert question[2] & 0x80 and theirs is None, question.hex()
        elif theirs is not None and same(ours, theirs):
            equal[kind] = equal.get(kind, 0) + 1
        elif refused(ours):
            assert kind not in ("flags", "version") and len(ours) <= len(question), (kind, question.hex())
            assert kind != "option" or theirs is None, question.hex()
        else:
            assert is_any(question) and both.one_of_many(question), (kind, question.hex())
    assert min(equal[kind] for kind in ("flags", "version", "option", "bytes")) > ODD // 40


class Server(Command):
    """``wirespeed dns`` with a zone that the tests may change."""

    def __init__(self, folder):
        self.zone, self.reloads = folder / "example.zone", 0
        self.zone.write_text(ZONE.read_text() + MANY)
        super().__init__(folder, "dns", "--zone", str(self.zone), "--rate", "0", ready="answering: example.com.")

    def reload(self):
        """Have the zone read anew, and wait for that."""
        self.reloads += 1
        self.process.send_signal(signal.SIGHUP)
        eventually(lambda: self.said().count("\nreloaded: ") == self.reloads, "the zone is read anew")

    def dig(self, *question, at=HERE):
        return self.host.run("dig", f"@{at}", "+tries=6", "+time=5", "+norecurse", *question)


@pytest.fixture(scope="module")
def server(tmp_path_factory, network):
    made = Server(tmp_path_factory.mktemp("dns"))
    yield made
    made.end()


@pytest.mark.parametrize("at", [HERE, HERE6])
def test_dig(server, at):
    assert server.dig("+short", "MX", "example.com", at=at).split() == [
        "10",
        "mail.example.com.",
        "20",
        "mail.example.net.",
    ]
    said = server.dig("ftp.example.com", "AAAA", at=at)
    assert "status: NOERROR" in said and "flags: qr aa;" in said and "ANSWER: 2, AUTHORITY: 1" in said
    assert "status: NXDOMAIN" in server.dig("nobody.example.com", at=at)
    assert "status: REFUSED" in server.dig("example.org", at=at)
    assert "flags: qr aa tc;" in server.dig("+noedns", "+ignore", "long.example.com", "TXT", at=at)


def test_drill(server):
    said = server.host.run("drill", f"@{HERE}", "host.sub.example.com")
    assert "rcode: NOERROR" in said and "AUTHORITY: 2, ADDITIONAL: 3" in said
    assert "192.0.2.99" in server.host.run("drill", f"@{HERE6}", "a.b.wild.example.com")


def test_dnsperf(server, tmp_path):
    """Thousands of questions, none of which is lost."""
    questions = tmp_path / "questions"
    questions.write_text("web.example.com A\nmany77.example.com A\nx.wild.example.com MX\nnobody.example.com A\n")
    said = server.host.run("dnsperf", "-s", HERE, "-d", str(questions), "-n", "2000", "-q", "20", "-t", "10")
    assert re.search(r"Queries completed: +8000 \(100\.00%\)", said)
    assert re.search(r"NOERROR 6000 \(75\.00%\), NXDOMAIN 2000 \(25\.00%\)", said)


def test_reload(server):
    server.zone.write_text(ZONE.read_text() + "fresh IN A 192.0.2.200\n")
    server.reload()
    assert "reloaded: 24 names" in server.said()
    assert server.dig("+short", "fresh.example.com").strip() == "192.0.2.200"
    server.zone.write_text(ZONE.read_text() + "broken IN A\n")
    server.process.send_signal(signal.SIGHUP)
    eventually(lambda: "not reloaded, the old zones stay: " in server.said(), "the zone is refused")
    assert f"{server.zone}:{len(ZONE.read_text().splitlines()) + 1}: " in server.said()
    assert server.dig("+short", "fresh.example.com").strip() == "192.0.2.200"


def test_nothing_is_lost_while_zones_are_reloaded(server, tmp_path):
    """Every question that comes meanwhile is answered, from the old names or the new: these are in both."""
    questions = tmp_path / "questions"
    questions.write_text("".join(f"few{i}.example.com A\n" for i in range(500)))
    server.zone.write_text(ZONE.read_text() + "".join(f"few{i} IN A 192.0.2.9\n" for i in range(500)))
    server.reload()
    asking = server.host.inside("dnsperf", "-s", HERE, "-d", str(questions), "-l", "1", "-q", "20", "-t", "10")
    before = server.reloads
    with subprocess.Popen(asking, stdout=subprocess.PIPE, text=True) as client:
        while client.poll() is None:
            server.reload()
        said = client.stdout.read()
    assert server.reloads > before + 1
    assert re.search(r"Queries completed: +\d{4,} \(100\.00%\)", said), said
    assert re.search(r"Response codes: +NOERROR \d+ \(100\.00%\)", said), said


def test_the_end(server):
    """The last of this server's tests: it balances."""
    report = server.report()
    assert report["dns"]["queries"] > 8000 and report["dns"]["loads"] == 1 + server.reloads
    assert report["leaks"] == {}
