"""A whole service on a port that the test holds the other end of; the packets are scapy's."""

import asyncio
import ipaddress
import logging
import re
import sys
import time
from pathlib import Path

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, PadN, fragment6
from scapy.layers.l2 import Ether
from scapy.packet import Raw

import wirespeed as ws

sys.path.append(str(Path(__file__).parent))
from floods import KINDS, Strangers

US, PEER, OTHER = "02:77:73:00:00:01", "02:00:00:00:00:02", "02:00:00:00:00:03"
HERE, THERE, ELSEWHERE = "10.7.0.1", "10.7.0.2", "10.7.0.3"
HERE6, THERE6 = "fd07::1", "fd07::2"
DEADLINE_S = 60


class Wire:
    """What the service is connected to; it and the service run in one event loop."""

    def __init__(self):
        self.loop = asyncio.new_event_loop()
        self.service = ws.Service(
            "host:wire", address=[f"{HERE}/24", f"{HERE6}/64"], mac=US,
            neighbours={THERE: PEER, THERE6: PEER, ELSEWHERE: OTHER},
        )  # fmt: skip
        self.ask = self.service.endpoint()

    def start(self):
        self.serving = self.loop.create_task(self.service.serve())
        self.run(asyncio.sleep(0))

    def run(self, coroutine):
        assert not self.serving.done(), self.serving.exception()
        return self.loop.run_until_complete(coroutine)

    def talk(self, *packets, wanted=None):
        """Send packets; the first datagrams that come back, as many as ``wanted`` (one for each packet)."""
        for packet in packets:
            assert self.service.port.send(bytes(packet))
        return self.run(self.heard(len(packets) if wanted is None else wanted))

    async def heard(self, wanted):
        found, end_s = [], time.monotonic() + DEADLINE_S
        while len(found) < wanted and time.monotonic() < end_s:
            await asyncio.sleep(0.001)
            frames = [Ether(each.data) for each in self.service.port.poll()]
            found += [frame for frame in frames if UDP in frame]
        return found

    async def until(self, condition):
        end_s = time.monotonic() + DEADLINE_S
        while not condition() and time.monotonic() < end_s:
            await asyncio.sleep(0.001)

    def stop(self):
        self.serving.cancel()
        with pytest.raises(asyncio.CancelledError):
            self.loop.run_until_complete(self.serving)
        self.loop.close()
        return self.service.report


@pytest.fixture(scope="module")
def wire():
    wire = Wire()
    service = wire.service

    @service.udp(port=7)
    def echo(request, reply):
        reply.write(request.payload)

    @service.udp(port=8)
    def in_parts(request, reply):
        for number in range(3):
            reply.u8(48 + number)
            reply.send()
        reply.be16(0x656E)

    @service.udp(port=11)
    def only_parts(request, reply):
        reply.keep(1)
        reply.send()

    @service.udp(port=12)
    def to_another(request, reply):
        reply.keep(request.length)
        if request.six == 0:
            reply.send_to(0x0A070003, 77)
        else:
            reply.send_to6(0xFD07 << 48, 2, 78)

    @service.udp(port=9, compiled=False, drops=["dull"])
    def plain(request, reply):
        if request.payload == b"dull":
            return "dull"
        if request.payload == b"broken":
            raise LookupError("as asked")
        if request.payload == b"large":
            reply.write(bytes(2000))
            return None
        if request.payload == b"parts":
            reply.write(b"one")
            reply.send()
        reply.write(f"{request.source} {request.source_port} {request.destination} {request.port} ".encode())
        reply.write(request.payload.upper())
        return None

    @service.udp(port=10)
    async def forward(request, reply):
        reply.write(await wire.ask.request(request.payload, (ELSEWHERE, 53), timeout_s=0.05, retries=1))

    @service.udp(port=14, amplification=3)
    def longer(request, reply):
        reply.keep(request.length)
        while reply.length < 7:
            reply.u8(46)

    @service.udp(port=15, compiled=False, amplification=3)
    def longer_plain(request, reply):
        reply.write(request.payload)
        reply.send()
        reply.write(b"." * (7 - request.length))

    reminders, sent, outbox = ws.Timers(64), ws.per_worker(number=0), service.outbox

    @reminders.on_expire
    def remind(timer):
        sent.number += 1
        outbox.send4(13, timer.word, 99, sent.address, timer.periods * 8)
        outbox.send6(13, 0xFD07 << 48, 2, 99, sent.address, timer.periods * 8)
        reminders.remove(timer.handle)

    @service.udp(port=13, drops=["asked"])
    def register(request, reply):
        reminders.start(reminders.add(remind, request.source), 1_000_000)
        return "asked"

    wire.start()
    yield wire
    report = wire.stop()
    assert report.in_use == 0


def ask(port, payload, source=THERE, sport=4000):
    return Ether(src=PEER, dst=US) / IP(src=source, dst=HERE) / UDP(sport=sport, dport=port) / payload


def ask6(port, payload):
    return Ether(src=PEER, dst=US) / IPv6(src=THERE6, dst=HERE6) / UDP(sport=4000, dport=port) / payload


def sound(frame):
    again = frame.copy()
    for layer in (IP, IPv6, UDP):
        if layer in again:
            for field in ("len", "chksum", "plen"):
                if field in again[layer].default_fields:
                    delattr(again[layer], field)
    return bytes(again) == bytes(frame)


def payloads(frames):
    assert all(sound(frame) for frame in frames)
    return [bytes(frame[UDP].payload)[: frame[UDP].len - 8] for frame in frames]  # short frames are padded


@pytest.mark.parametrize("make", [ask, ask6])
def test_answers(wire, make):
    sent = [bytes([number]) * number for number in range(1, 40)]
    assert payloads(wire.talk(*(make(7, each) for each in sent))) == sent


@pytest.mark.parametrize("make", [ask, ask6])
def test_an_answer_of_several_datagrams(wire, make):
    found = wire.talk(make(8, b"?"), wanted=4)
    assert sorted(payloads(found)) == [b"0", b"1", b"2", b"en"]
    assert {(frame[Ether].dst, frame[UDP].sport, frame[UDP].dport) for frame in found} == {(PEER, 8, 4000)}
    assert payloads(wire.talk(make(11, b"xyz"))) == [b"x"]


def test_an_answer_to_somebody_else(wire):
    (found,) = wire.talk(ask(12, b"for him"))
    assert (found[Ether].dst, found[IP].src, found[IP].dst) == (OTHER, HERE, ELSEWHERE)
    assert (found[UDP].sport, found[UDP].dport) == (12, 77)
    assert payloads([found]) == [b"for him"]
    (found,) = wire.talk(ask6(12, b"for him"))
    assert (found[IPv6].src, found[IPv6].dst, found[UDP].dport) == (HERE6, THERE6, 78)
    assert payloads([found]) == [b"for him"]


def test_a_timer_sends(wire):
    for number in (1, 2):
        found = wire.talk(ask(13, b"later"), wanted=2)
        assert payloads(found) == [number.to_bytes(8, "little")] * 2
        four, six = sorted(found, key=lambda frame: IPv6 in frame)
        assert (four[Ether].dst, four[IP].src, four[IP].dst) == (PEER, HERE, THERE)
        assert (six[Ether].dst, six[IPv6].src, six[IPv6].dst) == (PEER, HERE6, THERE6)
        assert {(frame[UDP].sport, frame[UDP].dport) for frame in found} == {(13, 99)}


def test_plain_python(wire, caplog):
    assert payloads(wire.talk(ask(9, b"abc"))) == [f"{THERE} 4000 {HERE} 9 ABC".encode()]
    assert payloads(wire.talk(ask6(9, b"abc"))) == [f"{THERE6} 4000 {HERE6} 9 ABC".encode()]
    many = [ask(9, b"%d" % number, sport=1000 + number) for number in range(300)]
    assert payloads(wire.talk(*many)) == [f"{THERE} {1000 + n} {HERE} 9 {n}".encode() for n in range(300)]
    assert sorted(payloads(wire.talk(ask(9, b"parts"), wanted=2))) == [f"{THERE} 4000 {HERE} 9 PARTS".encode(), b"one"]


@pytest.mark.parametrize("port", [14, 15])
def test_a_limit_of_amplification(wire, port):
    """Seven bytes are too much for two, and not for three."""
    found = wire.talk(ask(port, b"ab"), ask(port, b"abc"), wanted=1 if port == 14 else 2)
    assert b"".join(sorted((each[Raw].load for each in found), reverse=True)) == b"abc...."
    if port == 14:
        report = wire.service.engine.report
        wire.run(wire.until(lambda: "longer: amplified" in report().drops))  # counted after the other was sent
        assert report().drops["longer: amplified"] == 1
    else:
        (plain,) = [each for each in wire.service.plain if "longer_plain" in each.spec]
        assert plain.dropped == {"amplified": 1}


def test_plain_python_that_fails_goes_on(wire, caplog):
    with caplog.at_level(logging.ERROR, "wirespeed.service"):
        found = wire.talk(ask(9, b"dull"), ask(9, b"broken"), ask(9, b"x"), wanted=1)
    assert payloads(found)[0].endswith(b" X")
    (said,) = caplog.records
    assert "plain failed on <request from 10.7.0.2 port 4000 to port 9: b'broken'>" in said.getMessage()
    assert said.exc_info[0] is LookupError


def test_a_coroutine_asks_somebody_else(wire):
    """Of two that ask at once, the one whose server is silent is asked for again, and then gets no answer."""
    (asked,) = wire.talk(ask(10, b"who?"))
    assert (asked[Ether].dst, asked[IP].dst, asked[UDP].dport) == (OTHER, ELSEWHERE, 53)
    assert (asked[UDP].sport, payloads([asked])) == (wire.ask.port, [b"who?"])
    found = wire.talk(
        Ether(src=OTHER, dst=US) / IP(src=ELSEWHERE, dst=HERE) / UDP(sport=54, dport=wire.ask.port) / b"wrong port",
        Ether(src=OTHER, dst=US) / IP(src=ELSEWHERE, dst=HERE) / UDP(sport=53, dport=wire.ask.port) / b"me",
        wanted=1,
    )
    while found[-1][UDP].dport == 53:  # asked once more meanwhile
        found += wire.run(wire.heard(1))
    assert (found[-1][Ether].dst, found[-1][UDP].sport, payloads(found[-1:])) == (PEER, 10, [b"me"])
    assert wire.ask.unasked.get_nowait() == (b"wrong port", ipaddress.ip_address(ELSEWHERE), 54)


def test_nobody_answers(wire, caplog):
    with caplog.at_level(logging.ERROR, "wirespeed.service"):
        asked = wire.talk(ask(10, b"anybody?"), wanted=2)
        end_s = time.monotonic() + DEADLINE_S
        while not caplog.records and time.monotonic() < end_s:
            wire.run(asyncio.sleep(0.01))
    assert payloads(asked) == [b"anybody?"] * 2
    (said,) = caplog.records
    assert isinstance(said.exc_info[1], TimeoutError)
    assert "10.7.0.3 port 53 did not answer: asked 2 times" in str(said.exc_info[1])


def test_fragments_behind_options_for_routers(wire):
    """RFC 8200 section 4.5: what stands before the fragment header is in every fragment, and stays in front."""
    data = bytes(range(250)) * 5
    options = IPv6ExtHdrHopByHop(options=[PadN(optdata=bytes(4))])
    whole = IPv6(src=THERE6, dst=HERE6) / options / IPv6ExtHdrFragment(id=77) / UDP(sport=4000, dport=7) / data
    first, second = (Ether(src=PEER, dst=US) / each for each in fragment6(whole, 1280))
    for pieces in ((first, second), (second, first)):
        assert payloads(wire.talk(*pieces, wanted=1)) == [data]


@pytest.mark.parametrize("kind", KINDS)
def test_floods_of_strangers(wire, kind):
    """An established peer is answered each time, tables keep their limits, every packet leaves by a named door."""
    strangers, service = Strangers(US, kind), wire.service
    frames = [bytes(getattr(strangers, kind)()) for _ in range(120)]
    addresses, groups = service.addresses, service.interface.settings.groups

    def counted():
        return service.engine.report().nodes["plain_udp"].packets, service.port.stats().rx_packets

    before = counted()
    for turn in range(6):
        for frame in frames:
            assert service.port.send(frame)
        number = b"still here %d" % turn
        found = wire.talk(ask(7, number))
        while not (mine := [each for each in found if each[Ether].dst == PEER]):
            found = wire.run(wire.heard(1))  # before it, answers to strangers whose address we learned
            assert found, number
        assert payloads(mine) == [number]
    expected = (before[0] + 6 * 121, before[1] + 6 * 121)
    wire.run(wire.until(lambda: counted() == expected))  # the last are counted after they were answered
    assert counted() == expected
    host = service.host
    assert max(len(host.four), len(host.six), len(host.links.mtus) / 2) <= 1024
    assert service.fragments.stats().waiting <= 64
    assert (service.addresses, service.interface.settings.groups) == (addresses, groups)


def plain_echo(request, reply):
    reply.write(request.payload)


async def later_echo(request, reply):
    reply.write(request.payload)


@pytest.mark.parametrize("functions", [(), (plain_echo,), (later_echo,), (plain_echo, later_echo)])
def test_services_without_compiled_handlers(functions):
    service = ws.Service("host:alone", address=f"{HERE}/24")
    for number, function in enumerate(functions, 7):
        service.udp(number, compiled=False)(function)
    for _ in range(2):
        service.build().check()
        assert len(service.plain) == len(functions)


def twice():
    service = ws.Service("host:w")
    service.udp(7)(plain_echo)
    service.udp(7)


@pytest.mark.parametrize(("wrong", "said"), [
    (lambda: ws.Service("host:w", address="10.7.0.1/33"), "'10.7.0.1/33' is no address"),
    (lambda: ws.Service("host:w", "10.7.0.1/24", gateway="10.8.0.1"), "gateway 10.8.0.1 is in none of 10.7.0.0/24"),
    (lambda: ws.Service("host:w", neighbours={"10.7.0.2": "02:0"}), "'02:0' is no Ethernet address"),
    (lambda: ws.Service("host:w").udp(0), "UDP port 0 must be 1 to 65535"),
    (twice, "UDP port 7 is taken by plain_echo"),
])  # fmt: skip
def test_bad_input(wrong, said):
    with pytest.raises(ws.WirespeedError, match=re.escape(said)):
        wrong()


def test_endpoints_before_the_start():
    service = ws.Service("host:w", address=f"{HERE}/24")
    endpoint = service.endpoint()
    assert endpoint.port >= 49152
    with pytest.raises(ws.WirespeedError, match="does not run yet"):
        endpoint.send(b"", (THERE, 53))
