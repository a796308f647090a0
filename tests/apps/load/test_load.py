"""The packet path of a load, driven with frames: what leaves and when, what answers are counted as."""

import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from wirespeed.apps.load import state
from wirespeed.apps.load.load import Load
from wirespeed.apps.load.path import see, send_due
from wirespeed.apps.load.report import load_text
from wirespeed.apps.load.requests import dns_requests, memcached_requests, udp_requests
from wirespeed.apps.load.state import LoadQueue
from wirespeed.eal.clock import tsc_hz
from wirespeed.jit import kernel, load64, read_bytes, write_bytes
from wirespeed.mem.descriptor import address_of, length_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.queue import ENDED

HERE, THERE = ipaddress.ip_address("10.7.0.1"), ipaddress.ip_address("10.7.0.2")
HERE6, THERE6 = ipaddress.ip_address("fd07::1"), ipaddress.ip_address("fd07::2")
START = 10**12


@kernel
def _send(queue, cache, vector, room, now):
    return send_due(queue, cache, vector, room, now)


@kernel
def _see(load, at, length, connection, now):
    see(load, at, length, connection, now)


class Rig:
    """A load of a thousand requests a second unless said; ``now`` is its cycle counter."""

    def __init__(self, requests=None, six=False, protocol=state.UDP, port=7, rate=1000.0, count=10**6, **options):
        ends = ((HERE6, 20000), (THERE6, port)) if six else ((HERE, 20000), (THERE, port))
        self.load = Load(requests or udp_requests(64), *ends, protocol=protocol, **{"connections": 4, **options})
        self.load.address_to(0x0200_0000_0002, 0x0200_0000_0001)
        self.pool, self.region = Pool(2048), Region(8192, "load-test", huge=False)
        self.step = tsc_hz() * self.load.workers / rate
        self.now = START
        self.load.send(count, rate)

    def send(self, room=32, worker=0):
        """Frames that are due now, of a worker."""
        vector = self.region.address
        queue = self.load.address + worker * self.load.stride
        got = _send(queue, self.pool.cache(0), vector, room, round(self.now))
        if got == ENDED:
            return None
        descs = [load64(vector + 8 * i) for i in range(got)]
        found = [read_bytes(address_of(self.pool.cells, desc), length_of(desc)) for desc in descs]
        self.pool.release(vector, got)
        return [Ether(frame) for frame in found]

    def answer(self, data, connection, worker=0):
        """Bytes that came for a connection now, to a worker."""
        at = self.region.address + self.region.size - len(data)
        write_bytes(at, bytes(data))
        _see(self.load.address + worker * self.load.stride, at, len(data), connection, round(self.now))
        return self.load.result()

    def close(self):
        assert self.pool.in_use == 0
        self.load.close()
        self.pool.close()
        self.region.close()


@pytest.fixture
def make():
    made = []

    def build(*arguments, **options):
        made.append(Rig(*arguments, **options))
        return made[-1]

    yield build
    for rig in made:
        rig.close()


@pytest.fixture(scope="module")
def endless():
    """One for all examples of hypothesis."""
    made = Rig(protocol=state.MEMCACHED, requests=memcached_requests())
    made.now += 10 * made.step
    made.send()
    yield made
    made.close()


def sound(frame):
    """Whether scapy, asked to compute lengths and checksums anew, comes to the same bytes."""
    again = frame.copy()
    for layer in (IP, IPv6, UDP):
        if layer in again:
            for name in ("len", "chksum", "plen"):
                if name in again[layer].fields:
                    del again[layer].fields[name]
    return bytes(again) == bytes(frame)


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("size", [8, 9, 64, 1400])
def test_frames(make, six, size):
    """Numbered, in turn from each port, all sums right."""
    rig = make(udp_requests(size), six=six, connections=3)
    rig.now += 9 * rig.step
    frames = []
    while len(frames) < 9:
        frames += rig.send()
        rig.now += rig.step
    for number, frame in enumerate(frames[:9]):
        assert sound(frame), number
        assert (frame.src, frame.dst) == ("02:00:00:00:00:01", "02:00:00:00:00:02")
        assert (frame[UDP].sport, frame[UDP].dport) == (20000 + number % 3, 7)
        payload = bytes(frame[UDP].payload)[:size]
        assert struct.unpack("!Q", payload[:8]) == (number,)
        assert payload[8:] == bytes(i % 256 for i in range(size - 8))


def test_the_schedule(make):
    """Number n leaves at n steps and not before; what was held up leaves at once, late."""
    rig = make()
    assert len(rig.send()) == 1
    rig.now = START + 0.99 * rig.step
    assert rig.send() == []
    rig.now = START + 1.01 * rig.step
    assert len(rig.send()) == 1
    rig.now = START + 21.01 * rig.step
    assert len(rig.send()) == 20
    assert rig.load.result().behind_ns == pytest.approx(19.01e6, rel=0.01)
    assert rig.send() == []


def test_latency_counts_from_when_it_was_due(make):
    """Twenty requests left 19 to 0 ms late; each was answered half a millisecond after it left."""
    rig = make()
    rig.send()
    rig.now = START + 20 * rig.step + 10
    frames = rig.send()
    assert len(frames) == 20
    rig.now += 0.5 * rig.step
    for frame in reversed(frames):
        found = rig.answer(bytes(frame[UDP].payload), frame[UDP].sport - 20000)
    assert (found.sent, found.answered, found.lost) == (21, 20, 1)
    assert found.latency.percentile(100) == pytest.approx(19.5e6, rel=0.01)
    assert found.latency.percentile(50) == pytest.approx(9.5e6, rel=0.1)
    assert found.latency.smallest == pytest.approx(0.5e6, rel=0.01)
    assert found.kinds == {"answer": 20}


def test_answers_that_are_none(make):
    rig = make(timeout_s=0.01)
    first = rig.send()[0]
    data = bytes(first[UDP].payload)
    rig.now += 0.1 * rig.step
    rig.answer(data, 0)
    rig.answer(data, 0)
    rig.answer(data, 1)  # to another port
    rig.answer(data[:7], 0)
    rig.answer(struct.pack("!Q", 4), 0)  # not sent yet
    found = rig.answer(struct.pack("!q", -4), 0)
    assert (found.answered, found.duplicates, found.strangers, found.short, found.late) == (1, 1, 3, 1, 0)
    rig.now = START + rig.step + 10
    data = bytes(rig.send()[0][UDP].payload)
    rig.now += 11 * rig.step
    found = rig.answer(data, 1)
    assert (found.answered, found.late) == (2, 1)


def test_an_end(make):
    """It waits for another round, and counts anew what leaves then."""
    rig = make(count=3)
    rig.send()
    for _ in range(2):
        rig.now += 10 * rig.step
        rig.send()
    assert (rig.load.idle, rig.load.sent, rig.send()) == (True, 3, [])
    rig.answer(bytes(8), 0)
    rig.load.send(5, 1000.0)
    frames = rig.send()
    assert [bytes(frame[UDP].payload)[:8] for frame in frames] == [struct.pack("!Q", 3)]
    assert [frame[UDP].sport for frame in frames] == [20003]
    found = rig.answer(struct.pack("!Q", 1), 1)  # of the round before, at last
    assert (found.answered, found.earlier, found.latency.count) == (0, 1, 0)
    found = rig.answer(struct.pack("!Q", 3), 3)
    assert (found.sent, found.answered, found.duplicates, found.latency.count) == (1, 1, 0, 1)
    assert found.latency.largest < 1e6


def test_stragglers_before_a_round_begins(make):
    """What comes between the word and the first request belongs to neither."""
    rig = make(count=1, protocol=state.DNS, requests=[bytes(12)], port=53)
    rig.send()
    rig.load.send(1, 1000.0)
    found = rig.answer(struct.pack("!HBBQ", 0, 0x84, 0, 0), 0)
    assert (found.sent, found.answered, found.earlier) == (0, 0, 0)
    rig.send()
    found = rig.answer(struct.pack("!HBBQ", 0, 0x84, 0, 0), 0)
    assert (found.sent, found.answered, found.earlier) == (1, 0, 1)
    found = rig.answer(struct.pack("!HBBQ", 0, 0x84, 0, 0), 1)
    assert (found.sent, found.answered, found.earlier) == (1, 1, 1)


def test_dns(make, tmp_path):
    """Questions as dnspython writes them; identities wrap with the connections."""
    file = tmp_path / "names"
    file.write_text("; a comment\nwww.example.com A\n\nexample.com  MX\nexample.net\n")
    rig = make(dns_requests(file), protocol=state.DNS, port=53, connections=2)
    frames = rig.send()
    rig.now += 5.5 * rig.step
    frames += rig.send()
    assert len(frames) == 6
    asked = [(frame[UDP].sport, frame[DNS].id, frame[DNS].qd[0].qname, frame[DNS].qd[0].qtype) for frame in frames]
    names = [(b"www.example.com.", 1), (b"example.com.", 15), (b"example.net.", 1)] * 2
    assert asked == [(20000 + i % 2, i // 2, *names[i]) for i in range(6)]
    assert all(sound(frame) for frame in frames)
    for number, (flags, rcode) in enumerate([(0x84, 0), (0x84, 3), (0x86, 0), (0x84, 2), (0x04, 0), (0x84, 13)]):
        found = rig.answer(struct.pack("!HBBQ", number // 2, flags, rcode, 0), number % 2)
    assert found.kinds == {
        "noerror": 1, "nxdomain": 1, "truncated": 1, "servfail": 1, "not-an-answer": 1, "other-rcode": 1,
    }  # fmt: skip
    assert (found.answered, found.errors) == (6, 3)


def test_identities_wrap(make):
    """The 16 bits come round; what is due is that of the last time round."""
    rig = make(protocol=state.DNS, requests=[bytes(12)], port=53, connections=1, rate=10_000, timeout_s=0.5)
    record = LoadQueue(rig.load.address)
    rig.send()
    record.packets, record.identity, record.credit = 70_000, 70_000, 0
    rig.now = record.start + 70_000 * rig.step
    record.last = round(rig.now - 1.01 * rig.step)
    frames = rig.send()
    assert [bytes(frame[UDP].payload)[:2] for frame in frames] == [(70_000 % 65536).to_bytes(2, "big")]
    found = rig.answer(struct.pack("!HBBQ", 70_000 % 65536, 0x84, 0, 0), 0)
    assert found.answered == 1
    assert found.latency.largest < 1e6


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"VALUE k 0 1\r\na\r\nEND\r\n", "hit"), (b"END\r\n", "miss"), (b"STORED\r\n", "stored"),
        (b"NOT_STORED\r\n", "not-stored"), (b"ERROR\r\n", "error"), (b"SERVER_ERROR out of memory\r\n", "server-error"),
        (b"CLIENT_ERROR bad data chunk\r\n", "client-error"), (b"", "other"),
    ],
)  # fmt: skip
def test_memcached(make, body, kind):
    rig = make(memcached_requests(keys=100, gets=1, sets=1), protocol=state.MEMCACHED, port=11211)
    rig.send()
    found = rig.answer(struct.pack("!HHHH", 0, 0, 1, 0) + body, 0)
    assert (found.kinds, found.answered) == ({kind: 1}, 1)


def test_an_answer_in_several_datagrams(make):
    rig = make(memcached_requests(), protocol=state.MEMCACHED, port=11211)
    rig.send()
    for number in range(3):
        found = rig.answer(struct.pack("!HHHH", 0, number, 3, 0) + b"VALUE", 0)
        assert (found.answered, found.parts) == (number == 2, min(number + 1, 2))


def asked_of(frame):
    """(command, number of its key) of a frame to memcached."""
    data = bytes(frame[UDP].payload)
    assert data[2:8] == bytes.fromhex("0000 0001 0000")
    words = data[8:].split(b"\r\n")[0].split()
    assert (words[1][:1], len(words[1])) == (b"k", 16)
    if words[0] == b"set":
        assert data.endswith(b" 0 0 11\r\nabcdefghijk\r\n")
    return words[0].decode(), int(words[1][1:])


@pytest.mark.parametrize("six", [False, True])
def test_what_memcached_is_asked(make, six):
    """Gets and sets by their ratio, of keys from all over a billion; every checksum is right."""
    asked = memcached_requests(keys=10**9, gets=3, sets=1, value_bytes=11)
    rig = make(asked, protocol=state.MEMCACHED, port=11211, six=six)
    found = []
    for _ in range(10):
        rig.now += 32 * rig.step
        frames = rig.send()
        assert all(sound(frame) for frame in frames)
        found += [asked_of(frame) for frame in frames]
    keys = [key for _, key in found]
    assert 0.65 < sum(command == "get" for command, _ in found) / len(found) < 0.85
    assert len(set(keys)) == len(found) >= 280
    assert min(keys) < 5e7
    assert 9.5e8 < max(keys) < 10**9


def test_every_key_is_stored_once(make):
    """By two workers, which have every second; then come gets of the same keys."""
    asked = memcached_requests(keys=41, gets=1, sets=0, value_bytes=11)
    rig = make(asked, protocol=state.MEMCACHED, port=11211, workers=2, connections=5, count=7)
    rig.now += 10 * rig.step
    for worker in range(2):
        rig.send(worker=worker)
    rig.now += 10 * rig.step
    for worker in range(2):
        rig.send(worker=worker)
    assert (rig.load.idle, rig.load.sent) == (True, 7)
    rig.load.send(41, 1000.0, filling=True)
    found = []
    for _ in range(2):
        for worker in range(2):
            frames = rig.send(worker=worker)
            assert {frame[UDP].sport % 2 for frame in frames} == {worker}
            assert all(sound(frame) for frame in frames)
            found += [asked_of(frame) for frame in frames]
        rig.now += 50 * rig.step
    assert sorted(found) == [("set", key) for key in range(41)]
    rig.load.send(41, 1000.0)
    found = [asked_of(frame) for worker in range(2) for frame in rig.send(worker=worker)]
    rig.now += 50 * rig.step
    found += [asked_of(frame) for worker in range(2) for frame in rig.send(worker=worker)]
    assert {command for command, _ in found} == {"get"}
    assert max(key for _, key in found) < 41


@pytest.mark.parametrize("protocol", [state.UDP, state.DNS])
def test_an_answer_comes_to_another_worker(make, protocol):
    """Each is counted where it comes, once; the worker that asked says when it was due."""
    requests = udp_requests(64) if protocol == state.UDP else [bytes(12)]
    rig = make(requests, protocol=protocol, workers=3, connections=8, rate=3000.0)
    frames = []
    for worker in range(3):
        rig.send(worker=worker)
    rig.now += 30.01 * rig.step
    for worker in range(3):
        frames += rig.send(worker=worker)
    assert len({frame[UDP].sport for frame in frames}) == 8
    rig.now += rig.step
    for number, frame in enumerate(frames):
        data = bytearray(bytes(frame[UDP].payload)[:64])
        if protocol == state.DNS:
            data[2] = 0x84
        for _ in range(2):
            found = rig.answer(bytes(data), frame[UDP].sport - 20000, worker=number % 3)
    assert (found.sent, found.answered, found.duplicates) == (len(frames) + 3, len(frames), len(frames))
    assert found.latency.count == found.answered
    assert found.latency.largest == pytest.approx(30e6, rel=0.01)
    assert found.latency.smallest == pytest.approx(1e6, rel=0.02)
    assert found.offered == pytest.approx(3000, rel=0.01)


def test_requests_take_turns_whatever_their_length(make):
    """A thousand of fifty lengths; each frame is the one of its request."""
    payloads = [number.to_bytes(8, "big") + bytes(number % 50 * [number % 256]) for number in range(1000)]
    rig = make([bytes(2) + each for each in payloads], protocol=state.DNS, rate=1e6, timeout_s=0.1)
    rig.now += 1010 * rig.step
    frames = [rig.send()]
    for _ in range(40):
        rig.now += 32 * rig.step
        frames.append(rig.send())
    seen = [bytes(frame[UDP].payload)[: frame[UDP].len - 8] for each in frames for frame in each][:1000]
    assert [each[2:] for each in seen] == payloads
    assert all(sound(frame) for frame in frames[1])


def test_percentiles_of_what_is_lost(make):
    """A lost request is later than all others: beyond their share there is no figure."""
    rig = make(timeout_s=0.5, rate=1000.0)
    frames = rig.send()
    rig.now += 19 * rig.step + 10
    frames += rig.send()
    for frame in frames[1:]:  # the first is lost
        found = rig.answer(bytes(frame[UDP].payload), frame[UDP].sport - 20000)
    assert (found.sent, found.lost, found.latency.count) == (20, 1, 19)
    assert found.latency.percentile(99) == found.percentile(95) == found.latency.largest
    assert found.percentile(96) is None
    assert found.percentile(50) == pytest.approx(9e6, rel=0.01)
    assert found.percentiles((5.0, 95.1)) == {"p5": found.percentile(5), "p95.1": None}
    said = load_text(found)
    assert "of answered; 1 lost" in said
    assert "p99 > 500,000 " in said


@given(st.binary(max_size=64), st.integers(0, 3))
def test_hostile(endless, data, connection):
    before = endless.load.result()
    after = endless.answer(data, connection)
    counted = [
        getattr(after, name) - getattr(before, name)
        for name in ("answered", "duplicates", "strangers", "earlier", "short", "parts")
    ]
    assert sum(counted) == 1
