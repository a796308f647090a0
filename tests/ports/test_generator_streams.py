"""Streams of any packets: templates from scapy and declarations, field programs against their distributions, mixes;
stamps as bytes; trains, rounds and what a generator says of its own pace."""

from collections import Counter
from ipaddress import ip_address, ip_network

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.errors import PortError
from wirespeed.jit import COMPILED, kernel, read_bytes, write_bytes
from wirespeed.mem.region import Region
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.generator.queue import FRACTION, GeneratorQueue, allowance, spend
from wirespeed.ports.stamp import MAGIC, STAMP, find, is_stamp, stamp_offset, write_stamp

MANY = 2000 if COMPILED else 200
DST = "02:00:00:00:00:02"
WEB = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02") / IP(src="198.18.0.1", dst="198.19.0.1") / TCP(dport=443)
NAMES = Ether(dst=DST) / IP(src="198.18.0.1", dst="198.19.0.1") / UDP(sport=1024, dport=53)


@pytest.fixture
def generate(pool, worker):
    """``generate(port, packets)``: that many packets of queue 0 (or ``queue``), from a fresh port."""

    def run(made, packets, queues=1, queue=0, room=32):
        made = ws.port(f"generator:{made}") if isinstance(made, str) else made
        made.open(pool, queues, 0)
        try:
            found = []
            while len(found) < packets:
                descs = worker.burst(made, min(room, packets - len(found)), queue)
                if descs is None:
                    break
                found += [worker.packet(desc) for desc in descs]
                worker.free(descs)
            return found
        finally:
            made.close()

    return run


def streams(*given, **options):
    return Generator.from_streams(*given, **options)


def test_no_two_queues_number_packets_of_one_stream(generate):
    """Else a meter would take the packets of one for those of the other."""
    found = Counter()
    for queue in range(2):
        for packet in generate(streams(ws.Stream(WEB), ws.Stream(NAMES)), 40, queues=2, queue=queue):
            _, stream, _, sequence = stamp_of(packet, packet.index(MAGIC.to_bytes(4, "big")))
            found[stream, sequence] += 1
    assert len(found) == 80
    assert {stream for stream, _ in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("options", [{"rate": 1, "burst": 1024}, {"rate_bits": 1, "burst": 256}])
def test_very_slow(pool, options):
    """What a burst costs is bounded by what 64 bits hold."""
    made = streams(ws.Stream(bytes(WEB)), **options)
    made.open(pool, 64, 0)
    record = GeneratorQueue(made.rx[0])
    assert 0 < record.cost * options["burst"] <= record.depth <= 1 << 62
    made.close()


def recomputed(data):
    """The same packet with lengths and checksums left to scapy."""
    frame = Ether(data)
    for layer in (IP, IPv6, UDP, TCP, ICMP):
        if layer in frame:
            for name in ("len", "plen", "chksum"):
                frame[layer].fields.pop(name, None)
    return bytes(frame)


def stamp_of(data, at):
    """(magic, stream, time, sequence) of a stamp in bytes, checked by hand."""
    words = [int.from_bytes(data[at + i : at + i + 2], "big") for i in range(0, STAMP, 2)]
    assert sum(words) % 0xFFFF == 0
    return (words[0] << 16 | words[1], words[2], words[3] << 32 | words[4] << 16 | words[5], words[6] << 16 | words[7])


# Stamps ----------------------------------------------------------------------------------------------------


@kernel
def stamp(at, stream, time, sequence):  # type: ignore[no-untyped-def]
    write_stamp(at, stream, time, sequence)


@kernel
def look(start, length, last):  # type: ignore[no-untyped-def]
    return stamp_offset(start, length, last)


def test_a_stamp_byte_by_byte():
    with Region(64, "test-stamp", huge=False) as memory:
        stamp(memory.address, 0x1234, 0x0102_0304_0506_0708, 0x9_A0B0_C0D0)
        found = read_bytes(memory.address, STAMP)
        assert found[:16] == b"WSts" + bytes.fromhex("1234 0304 05060708 a0b0c0d0")
        assert stamp_of(found, 0) == (MAGIC, 0x1234, 0x0304_0506_0708, 0xA0B0_C0D0)


@given(
    st.integers(0, 0xFFFF), st.integers(0, 1 << 62), st.integers(0, 1 << 40), st.integers(0, 60), st.integers(0, 143)
)
def test_a_stamp_is_found_and_a_damaged_one_is_not(stream, time, sequence, place, bit):
    with Region(256, "test-stamp", huge=False) as memory:
        start, at = memory.address, 2 * place
        stamp(start + at, stream, time, sequence)
        assert stamp_of(read_bytes(start, 256), at) == (MAGIC, stream, time % (1 << 48), sequence % (1 << 32))
        for last in (-1, 0, at, 200, 1 << 30):
            assert look(start, at + STAMP, last) == at
        assert look(start, at + STAMP - 1, at) == -1  # cut off
        byte = start + at + bit // 8
        write_bytes(byte, bytes([read_bytes(byte, 1)[0] ^ (1 << bit % 8)]))
        assert look(start, 256, at) == -1


def test_bytes_that_are_no_stamp():
    with Region(2048, "test-stamp", huge=False) as memory:
        assert look(memory.address, 2048, 42) == look(memory.address, 0, 0) == find(memory.address, 17) == -1
        write_bytes(memory.address + 600, b"WSts" + bytes(14))
        assert not is_stamp(memory.address + 600)


@pytest.mark.parametrize("proto", ["udp", "tcp", "icmp"])
@pytest.mark.parametrize("family", ["dst=10.1.0.0/16", "dst=2001:db8::/64"])
@pytest.mark.parametrize("rest", ["", ",vlan=7", ",size=1518", ",imix=yes", ",size=4000", ",sizes=100:2/1000:1"])
def test_stamped_packets_have_right_checksums(generate, proto, family, rest):
    packets = generate(f"{family},proto={proto},stamp=yes,stream=9{rest}", 24)
    start = 14 + 4 * ("vlan" in rest) + (20 if "10." in family else 40) + (20 if proto == "tcp" else 8)
    before = 0
    for number, data in enumerate(packets):
        assert data == recomputed(data)
        magic, stream, time, sequence = stamp_of(data, start)
        assert (magic, stream, sequence) == (MAGIC, 9, number)
        assert time >= before
        before = time
        assert data[start + STAMP :] == bytes(k & 0xFF for k in range(start + STAMP, len(data)))


def test_the_smallest_stamped_frame(generate):
    assert {len(data) for data in generate("stamp=yes", 3)} == {60}
    assert {len(data) for data in generate("stamp=yes,proto=tcp", 3)} == {72}
    with pytest.raises(PortError, match="size=64 must be 76 to 9018"):
        ws.port("generator:stamp=yes,proto=tcp,size=64")


def test_each_queue_is_a_stream(generate):
    for queue in range(3):
        found = [stamp_of(data, 42)[1::2] for data in generate("stamp=yes,stream=5,flows=10", 6, queues=3, queue=queue)]
        assert found == [(5 + queue, number) for number in range(6)]


# Templates -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "packet",
    [WEB, NAMES, Ether(dst=DST) / Dot1Q(vlan=5) / IP() / UDP() / Raw(b"abc"),
     Ether(dst=DST) / IPv6(dst="2001:db8::1") / TCP(), Ether(dst=DST) / IP(options=b"\x01" * 8) / UDP(),
     Ether(dst=DST) / IP() / ICMP(), Ether(dst=DST) / IP(frag=5) / UDP(),
     Ether(dst=DST) / Dot1Q(vlan=1) / Dot1Q(vlan=2) / IPv6() / UDP() / Raw(bytes(301))],
)  # fmt: skip
@pytest.mark.parametrize("size", [0, 600, 3000])
def test_scapys_packets_at_any_size(generate, packet, size):
    base = bytes(packet)
    for data in generate(streams(ws.Stream(packet, sizes=size, stamp=False, packets=3)), 3):
        assert len(data) == (size - 4 if size else max(60, len(base), len(base) + len(base) % 2))
        assert data == recomputed(data)
        assert data[:12] == base[:12]
    for data in generate(streams(ws.Stream(packet, sizes=size, packets=3)), 3):
        assert data == recomputed(data)


def test_what_is_no_ip_is_bytes(generate):
    (data,) = generate(streams(ws.Stream(Ether(dst=DST) / ARP(), stamp=False)), 1)
    assert data[:42] == bytes(Ether(dst=DST) / ARP())
    (data,) = generate(streams(ws.Stream(bytes(12) + b"\x88\xb5", packets=1)), 1)
    assert stamp_of(data, 14)[0] == MAGIC


def test_inside_a_tunnel(generate):
    inner = Ether(dst=DST) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=1, dport=2) / Raw(bytes(STAMP))
    packet = Ether(dst=DST) / IP() / UDP(sport=7, dport=4789, chksum=0) / VXLAN(vni=42) / inner
    made = streams(ws.Stream(packet, fields={(54, 3): range(5)}, stamp_at=-STAMP))  # no checksum outside: any VNI
    for number, data in enumerate(generate(made, 7)):
        frame = Ether(data)
        assert frame[UDP].chksum == 0
        inside = frame[VXLAN].payload
        assert bytes(inside) == recomputed(bytes(inside))
        assert stamp_of(data, len(data) - STAMP)[3] == number


class Telemetry(ws.Header):
    """A header of one's own."""

    kind = ws.u8(0)
    urgent = ws.bits(8, 3)
    hop = ws.bits(11, 5)
    value = ws.be32(4)
    SIZE = 8


def test_header_declarations_and_fields_of_ones_own(generate):
    packet = [
        (ws.Ethernet, {"dst": "02:00:00:00:00:02", "src": 1, "ethertype": 0x0800}),
        (ws.Ipv4, {"src": "10.0.0.1", "dst": "10.0.0.2", "protocol": 17}),
        (ws.Udp, {"sport": 5, "dport": 4242}),
        (Telemetry, {"kind": 7, "urgent": 5, "hop": 1}),
    ]
    fields = {"telemetry.hop": range(32), "telemetry.value": [1 << 31, 3], "ipv4.ttl": 9, "eth.src": [1, 2]}
    made = streams(ws.Stream(packet, fields=fields))
    for number, data in enumerate(generate(made, 40)):
        assert data == recomputed(data)
        frame = Ether(data)
        assert (frame.dst, frame[IP].ttl, frame[UDP].dport) == ("02:00:00:00:00:02", 9, 4242)
        assert frame.src == f"00:00:00:00:00:0{1 + number % 2}"
        assert data[42:50] == bytes([7, 5 << 5 | number % 32, 0, 0]) + [1 << 31, 3][number % 2].to_bytes(4, "big")


# Field programs --------------------------------------------------------------------------------------------


def chi_square(found, expected):
    """Of counts, by expected counts; the 99.9 % points used below are from any table."""
    return float(((np.array(found) - np.array(expected)) ** 2 / np.array(expected)).sum())


def test_programs_and_their_distributions(generate):
    fields = {
        "ipv4.dst": ws.Random("198.19.0.0/28"),
        "tcp.dport": {443: 6, 80: 3, 22: 1},
        "tcp.sport": ws.Counting(1000, 1006, 3),
        "ipv4.src": ["10.0.0.1", "10.0.0.9"],
        "ipv4.ttl": 17,
        "ipv4.dscp": ws.Random(0, 63),
        "eth.src": ws.Random("02:00:00:00:00:00", "02:00:00:00:00:ff"),
    }
    made = streams(ws.Stream(WEB, fields, packets=MANY), seed=3)
    frames = [Ether(data) for data in generate(made, MANY)]
    inside = Counter(int(ip_address(frame[IP].dst)) & 15 for frame in frames)
    assert all(ip_address(frame[IP].dst) in ip_network("198.19.0.0/28") for frame in frames)
    assert chi_square([inside[i] for i in range(16)], [MANY / 16] * 16) < 37.7  # 15 degrees of freedom
    doors = Counter(frame[TCP].dport for frame in frames)
    assert chi_square([doors[443], doors[80], doors[22]], [MANY * 0.6, MANY * 0.3, MANY * 0.1]) < 13.8  # 2 degrees
    classes = Counter(frame[IP].tos >> 2 for frame in frames)
    assert chi_square([classes[i] for i in range(64)], [MANY / 64] * 64) < 103.5  # 63 degrees
    assert [frame[TCP].sport for frame in frames[:5]] == [1000, 1003, 1006, 1000, 1003]
    assert [frame[IP].src for frame in frames[:3]] == ["10.0.0.1", "10.0.0.9", "10.0.0.1"]
    assert {frame[IP].ttl for frame in frames} == {17}
    assert all(frame.src.startswith("02:00:00:00:00:") for frame in frames)
    assert all(bytes(frame) == recomputed(bytes(frame)) for frame in frames[:100])


def test_the_same_seed_makes_the_same_packets(generate):
    def packets(seed):
        stream = ws.Stream(NAMES, {"ipv4.dst": ws.Random("10.0.0.0/8")}, packets=50, stamp=False)
        return generate(streams(stream, seed=seed), 50)

    assert packets(1) == packets(1) != packets(2)


def test_from_a_routing_table(generate, tmp_path):
    file = tmp_path / "routes.txt"
    file.write_text("10.0.0.0/8\n192.0.2.0/28\n198.51.100.7/32\n")
    routes = [ip_network(line) for line in file.read_text().split()]
    for made in (streams(ws.Stream(NAMES, {"ipv4.dst": ws.FromRoutes(str(file))})), f"routes={file},flows=500"):
        found = [ip_address(Ether(data)[IP].dst) for data in generate(made, 300)]
        hits = Counter(next(route for route in routes if address in route) for address in found)
        assert chi_square([hits[route] for route in routes], [100] * 3) < 13.8


def test_ipv6_programs_carry_into_the_upper_half(generate):
    packet = Ether(dst=DST) / IPv6(src="2001:db8::1", dst="::") / UDP()
    stream = ws.Stream(packet, {"ipv6.dst": ws.Counting("2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::2")})
    found = [Ether(data)[IPv6].dst for data in generate(streams(stream), 4)]
    assert found == ["2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::", "2001:db8:0:1::1", "2001:db8:0:1::2"]


@settings(max_examples=25 if COMPILED else 4)
@given(st.dictionaries(st.integers(64, 3000), st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 20))
def test_sizes_come_as_often_as_they_weigh(generate, sizes, packets):
    whole = sum(sizes.values()) * packets
    found = generate(streams(ws.Stream(NAMES, {"udp.sport": range(packets)}, sizes, packets=packets)), whole)
    seen = Counter((int.from_bytes(data[34:36], "big"), len(data) + 4) for data in found)
    assert seen == {(sport, size): weight for sport in range(packets) for size, weight in sizes.items()}


def test_streams_take_turns_by_weight_and_count_for_themselves(generate):
    a = ws.Stream(WEB, sizes={76: 1}, weight=3, packets=4)
    b = ws.Stream(NAMES, sizes={64: 1, 1518: 1}, packets=5, number=40)
    c = ws.Stream(NAMES / Raw(b"plain"), stamp=False)
    packets = generate(streams(a, b, c), 500)
    kinds = [TCP in Ether(data) for data in packets]
    assert sum(kinds) == 300
    assert all(sum(kinds[i : i + 5]) == 3 for i in range(0, 500, 5))
    for port, at, stream, count in ((443, 54, 0, 300), (53, 42, 40, 100)):
        own = [d for d in packets if Ether(d)[IP].payload.dport == port and b"plain" not in d]
        assert [stamp_of(data, at)[1::2] for data in own] == [(stream, n) for n in range(count)]
    assert sum(b"plain" in data for data in packets) == 100
    assert Counter(len(d) for d in packets if UDP in Ether(d) and b"plain" not in d) == {60: 50, 1514: 50}
    assert all(data == recomputed(data) for data in packets)


def test_streams_over_queues(generate):
    made = [ws.Stream(WEB, {"tcp.sport": range(10)}, packets=10), ws.Stream(NAMES, packets=1)]
    sports = []
    for queue in range(3):
        packets = generate(streams(*made), 40, queues=3, queue=queue)
        sports.append({Ether(data)[TCP].sport for data in packets if TCP in Ether(data)})
        assert any(UDP in Ether(data) for data in packets) == (queue == 0)
    assert set.union(*sports) == set(range(10)) and sum(map(len, sports)) == 10


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: streams(), "there is none"),
        (lambda: streams(ws.Stream(WEB), size=64), "size is said by a stream"),
        (lambda: streams(ws.Stream(b"short")), "its packet has 5 bytes"),
        (lambda: streams(ws.Stream(5)), "its packet has"),
        (lambda: streams(ws.Stream(object())), "cannot be made into bytes"),
        (lambda: streams(ws.Stream(WEB, {"udp.sport": 1})), "no header for field 'udp.sport'"),
        (lambda: streams(ws.Stream(WEB, {"ipv4.tl": 1})), "no field 'tl': did you mean 'ttl'"),
        (lambda: streams(ws.Stream(WEB, {(2, 17): 1})), "must be"),
        (lambda: streams(ws.Stream(WEB, {(600, 2): 1})), "their first"),
        (lambda: streams(ws.Stream(WEB, {(200, 2): 1})), "a field ends at byte 202"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": []})), "a list without values"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": {1: -1}})), "must be positive"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": ws.Random(5, 4)})), "has nothing in it"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": range(5, 1)})), "nothing in it"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": "http"})), "no IP address"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": -1})), "no negative"),
        (lambda: streams(ws.Stream(WEB, {"tcp.dport": 1.5})), "use a number"),
        (lambda: streams(ws.Stream(WEB, sizes={70: 1})), "size=70 must be 76 to 9018"),
        (lambda: streams(ws.Stream(WEB, sizes={128: 0})), "must have weights"),
        (lambda: streams(ws.Stream(WEB, weight=0)), "weight=0 must be 1 to"),
        (lambda: streams(ws.Stream(WEB, packets=0)), "packets=0 must be"),
        (lambda: streams(ws.Stream(WEB, number=70000)), "number=70000"),
        (lambda: streams(ws.Stream(WEB, stamp_at=43)), "even offset"),
        (lambda: streams(ws.Stream(WEB / Raw(bytes(900)))), "even offset"),
        (lambda: streams(ws.Stream([(ws.Udp, {})])), "begins with an Ethernet header"),
        (lambda: streams(ws.Stream([(ws.Ethernet, {"destination": 1})])), "has no field 'destination'"),
        (lambda: ws.port("generator:sizes=64:a"), "must be like 64:7/1518:1"),
        (lambda: ws.port("generator:sizes=10:1"), "size=10 must be"),
        (lambda: ws.port("generator:sizes=64:1,imix=yes"), "exclude each other"),
        (lambda: ws.port("generator:burst=2"), "give rate"),
        (lambda: ws.port("generator:burst=0,rate=1"), "burst=0 must be 1 to 1024"),
        (lambda: ws.port("generator:seconds=-1"), "seconds=-1.0 must be"),
        (lambda: ws.port("generator:stamp=yes,flows=0,dst_mode=random,dst=10.0.0.0/8"), "stamps go with flows"),
        (lambda: ws.port("generator:stream=65536"), "stream=65536"),
    ],
)
def test_what_is_refused(make, says):
    with pytest.raises(PortError, match=says):
        make()


# Pace ------------------------------------------------------------------------------------------------------


@kernel
def step(address, now, room):  # type: ignore[no-untyped-def]
    record = GeneratorQueue(address)
    packets = allowance(record, now, room)
    spend(record, packets)
    return packets


@settings(max_examples=50 if COMPILED else 15)
@given(st.integers(2, 200), st.lists(st.tuples(st.integers(0, 5000), st.integers(1, 64)), min_size=1, max_size=60))
def test_trains_are_whole_and_do_not_drift(train, steps):
    with Region(GeneratorQueue.SIZE, "test-pacer", huge=False) as memory:
        record = GeneratorQueue(memory.address)
        record.cost, record.train = 10 << FRACTION, train
        record.depth = 1 << 50
        now = begun = 1 << 40
        sent = step(record.address, now, 512)
        assert sent == train
        for elapsed, room in steps:
            now += elapsed
            sent += step(record.address, now, room)
            assert sent <= train * (1 + (now - begun) // (10 * train))
        while got := step(record.address, now, 64):
            sent += got
        assert sent == train * (1 + (now - begun) // (10 * train))


def test_what_cannot_be_made_up_for_is_counted():
    with Region(GeneratorQueue.SIZE, "test-pacer", huge=False) as memory:
        record = GeneratorQueue(memory.address)
        record.cost, record.depth = 100 << FRACTION, 1000 << FRACTION
        assert [step(record.address, now, 512) for now in (1, 10_001)] == [1, 10]
        assert record.missed == 9000


def test_rounds(pool, worker):
    made = ws.port("generator:stamp=yes")
    made.wait_for_rounds()
    made.open(pool, 1, 0)
    assert worker.burst(made) == []
    assert made.idle
    sequences = []
    for count in (70, 5, 0):
        made.send(count)
        assert made.idle == (count == 0)
        while descs := worker.burst(made):
            sequences += [stamp_of(worker.packet(desc), 42)[3] for desc in descs]
            worker.free(descs)
        assert made.idle
        assert made.pace().packets == count
    assert sequences == list(range(75))  # they go on: a meter sees one stream
    made.close()


def test_pace_is_what_the_clock_says(pool, worker):
    from wirespeed.eal.clock import tsc_hz

    made = ws.port("generator:rate=20k,count=200")
    made.open(pool, 1, 0)
    sent = 0
    while (descs := worker.burst(made)) is not None:
        sent += len(descs)
        worker.free(descs)
    record, pace = GeneratorQueue(made.rx[0]), made.pace()
    assert sent == pace.packets == 200
    assert pace.target == 20_000
    by_hand = (200 - record.burst) * tsc_hz() / (record.sent - record.begun)
    assert pace.achieved == pytest.approx(by_hand)
    assert pace.error_ppm == pytest.approx((by_hand / 20_000 - 1) * 1e6)
    assert made.extended() == {"target_rate": 20_000, "achieved_rate": round(by_hand), "missed": pace.missed}
    assert made.facts()["packets"] == "1,024 of 64 bytes"
    assert made.facts()["stamped streams"] == "none"
    made.close()
    assert made.pace() == pace


def test_seconds(pool, worker):
    made = ws.port("generator:seconds=0.02,rate=100k")
    made.open(pool, 1, 0)
    while (descs := worker.burst(made)) is not None:
        worker.free(descs)
    record = GeneratorQueue(made.rx[0])
    assert record.ended == 1
    assert 1 <= record.packets <= 2001
    made.close()


def test_a_mix_of_short_and_chained_frames_returns_what_it_did_not_need(generate, pool):
    sizes = {64: 1, 1518: 1, 9018: 1}
    packets = generate(streams(ws.Stream(NAMES, sizes=sizes)), 300)
    assert Counter(len(data) for data in packets) == {60: 100, 1514: 100, 9014: 100}
    assert all(data == recomputed(data) for data in packets[:9])
