"""The generator: its frames against scapy's idea of them, its flows against sets, its pacer against the clock
that the test says it is."""

import warnings
from collections import Counter
from ipaddress import ip_address, ip_network

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6EchoRequest, IPv6
from scapy.layers.l2 import Dot1Q, Ether

from wirespeed.errors import PortError
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.region import Region
from wirespeed.ports.generator.fields import addresses
from wirespeed.ports.generator.flows import choose
from wirespeed.ports.generator.path import FRACTION, GeneratorQueue, allowance, spend
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.port import port

START = (0x20010DB8 << 96) + (1 << 64) - 16  # soon to carry into the upper half
MANY = 1000 if COMPILED else 60


@pytest.fixture
def generate(pool, worker):
    """``generate(text or port, packets)``: that many packets of queue 0 (or ``queue``), from a fresh port."""

    def run(made, packets, queues=1, queue=0, room=32):
        made = port(f"generator:{made}") if isinstance(made, str) else made
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


def recomputed(data):
    """The same packet with every length and checksum left to scapy."""
    frame = Ether(data)
    for layer in (IP, IPv6, UDP, TCP, ICMP, ICMPv6EchoRequest):
        if layer in frame:
            for name in ("len", "plen", "chksum", "cksum"):
                if name in frame[layer].fields:
                    del frame[layer].fields[name]
    return bytes(frame)


def five_tuple(data):
    frame = Ether(data)
    ip = frame[IP] if IP in frame else frame[IPv6]
    return (ip.src, ip.dst, ip.payload.sport, ip.payload.dport)


def test_every_field_of_a_frame_of_64_bytes(generate):
    (data,) = generate("src=10.0.0.1,dst=10.0.0.2,sport=1000,dport=2000", 1)
    assert data == bytes.fromhex(
        "020000000002 020000000001 0800"
        "4500002e 00004000 401126bd 0a000001 0a000002"
        "03e807d0 001a1c33"
        "2a2b2c2d2e2f303132333435363738393a3b"
    )
    assert len(data) == 60  # the FCS is on the field only


@pytest.mark.parametrize("proto", ["udp", "tcp", "icmp"])
@pytest.mark.parametrize("family", ["dst=10.1.0.0/16", "dst=2001:db8::/64,src=2001:db8:1::-2001:db8:1::ff"])
@pytest.mark.parametrize("vlan", ["", ",vlan=42"])
@pytest.mark.parametrize("size", [82, 128, 129, 130, 1518, 1796, 1797, 9018])
def test_scapy_agrees_with_every_byte(generate, proto, family, vlan, size):
    for data in generate(f"{family},proto={proto},size={size}{vlan}", 3):
        assert len(data) == size - 4
        assert data == recomputed(data)
        frame = Ether(data)
        assert (Dot1Q in frame) == bool(vlan)
        assert not vlan or frame[Dot1Q].vlan == 42
        start = 14 + 4 * bool(vlan) + (20 if IP in frame else 40) + (20 if proto == "tcp" else 8)
        assert data[start:] == bytes(k & 0xFF for k in range(start, size - 4))


def test_tcp_and_icmp_fields(generate):
    (data,) = generate("proto=tcp,sport=7,dport=8,smac=02:00:00:00:00:0A,dmac=02:00:00:00:00:0b", 1)
    frame = Ether(data)
    assert (frame.src, frame.dst) == ("02:00:00:00:00:0a", "02:00:00:00:00:0b")
    assert (frame[TCP].sport, frame[TCP].dport, str(frame[TCP].flags), frame[TCP].dataofs) == (7, 8, "A", 5)
    assert (frame[IP].ttl, str(frame[IP].flags)) == (64, "DF")
    (data,) = generate("proto=icmp,sport=7,dport=8", 1)
    assert (Ether(data)[ICMP].type, Ether(data)[ICMP].id, Ether(data)[ICMP].seq) == (8, 7, 8)


def test_imix_is_seven_to_four_to_one_for_each_flow(generate):
    made = port("generator:imix=yes,flows=5,sport=0-4")
    packets = generate(made, 60)
    assert Counter(len(data) for data in packets) == {60: 35, 590: 20, 1514: 5}
    for sport in range(5):
        own = [len(data) for data in packets if five_tuple(data)[2] == sport]
        assert Counter(own) == {60: 7, 590: 4, 1514: 1}
    assert all(data == recomputed(data) for data in packets[:24])


def test_flows_are_distinct_and_come_round_in_order(generate):
    flows = [five_tuple(data) for data in generate("dst=10.0.0.0/30,sport=5-9,flows=20", 45)]
    assert len(set(flows)) == 20
    assert flows[20:40] == flows[:20]
    assert flows[40:] == flows[:5]
    assert [dst for _, dst, _, _ in flows[:5]] == ["10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.0"]
    assert [sport for _, _, sport, _ in flows[:5]] == [5, 5, 5, 5, 6]


def test_random_flows_are_distinct_within_bounds_and_repeatable(generate):
    text = "dst=10.0.0.0/24,dst_mode=random,sport=10-13,sport_mode=random,src=10.9.0.1-10.9.0.3,flows=3000"
    made = [port(f"generator:{text},seed={seed}") for seed in (7, 7, 8)]
    first, again, other = ([five_tuple(d) for d in generate(one, MANY)] for one in made)
    assert first == again != other
    assert len(set(first)) == MANY
    for src, dst, sport, _ in first:
        assert ip_address(dst) in ip_network("10.0.0.0/24")
        assert 10 <= sport <= 13
        assert src in ("10.9.0.1", "10.9.0.2", "10.9.0.3")


@settings(deadline=None, max_examples=60 if COMPILED else 15)
@given(
    spans=st.tuples(*[st.sampled_from([1, 2, 3, 7, 256, 5000])] * 3),
    modes=st.tuples(*[st.sampled_from(["counting", "random", "constant"])] * 3),
    seed=st.integers(0, 1 << 40),
    wanted=st.integers(1, 3000),
)
def test_any_choice_of_flows_is_distinct_and_within_bounds(spans, modes, seed, wanted):
    fields = [
        addresses("t", name, f"{ip_address(START)}-{ip_address(START + span - 1)}", mode)
        for name, span, mode in zip("abc", spans, modes, strict=True)
    ]
    wanted = min(wanted, int(np.prod([field.span for field in fields])))
    columns = choose(fields, wanted, seed)
    rows = set()
    for i in range(wanted):
        row = tuple((int(columns[n].high[i]) << 64) + int(columns[n].low[i]) for n in "abc")
        assert all(0 <= value - f.first < f.span for value, f in zip(row, fields, strict=True))
        rows.add(row)
    assert len(rows) == wanted


@settings(
    deadline=None,
    max_examples=40 if COMPILED else 8,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    size=st.integers(82, 9018),
    proto=st.sampled_from(["udp", "tcp", "icmp"]),
    dst=st.sampled_from(["10.0.0.0/8", "192.0.2.7-192.0.2.200", "2001:db8::/32", "2001:db8::5-2001:db8::70"]),
    mode=st.sampled_from(["", "random"]),
    vlan=st.sampled_from(["", ",vlan=0", ",vlan=4094"]),
    flows=st.sampled_from([1, 3, 100]),
    redraw=st.booleans(),
    seed=st.integers(0, 1 << 64),
)
def test_any_options_make_right_packets(generate, size, proto, dst, mode, vlan, flows, redraw, seed):
    flows = 0 if redraw and mode else flows
    text = f"size={size},proto={proto},dst={dst},dst_mode={mode},flows={flows},seed={seed}{vlan}"
    for data in generate(text, 4):
        assert len(data) == size - 4
        assert data == recomputed(data)


@pytest.mark.parametrize("proto", ["udp", "tcp", "icmp"])
@pytest.mark.parametrize("family", ["dst=10.3.0.0/16,src=10.0.0.9-10.0.0.30", "dst=2001:db8::/32"])
def test_drawn_for_every_packet_with_right_checksums(generate, proto, family):
    text = f"{family},proto={proto},size=82,flows=0,dst_mode=random,src_mode=random,sport_mode=random"
    packets = generate(text, 4 * MANY)
    assert len(set(packets)) == 4 * MANY
    for data in packets[:: 20 if COMPILED else 4]:
        assert data == recomputed(data)
    destinations = {ip_address(Ether(d).payload.dst) for d in packets}
    inside = ip_network(family[4:].split(",")[0])
    assert all(address in inside for address in destinations)
    assert len(destinations) > MANY
    if "src" in family:
        sources = {int(ip_address(Ether(d)[IP].src)) & 0xFF for d in packets}
        assert sources == set(range(9, 31))


def test_headers_that_need_more_than_64_bytes_get_it(generate):
    assert [len(data) for data in generate("dst=::1", 2)] == [62, 62]
    assert Counter(len(data) for data in generate("dst=::1,imix=yes", 12)) == {62: 7, 590: 4, 1514: 1}


def test_a_udp_checksum_is_never_zero(generate):
    """Every value of the 16 bits that decide it, so that one of the sums would be 0."""
    for data in generate("flows=0,sport=0-65535,sport_mode=random,dport=0-65535,dport_mode=random", 3 * MANY):
        assert data[40:42] != b"\0\0"
    if COMPILED:
        packets = generate("flows=65536,sport=0-65535", 65536)
        checksums = [data[40:42] for data in packets]
        assert b"\0\0" not in checksums
        assert b"\xff\xff" in checksums


@pytest.mark.parametrize("queues", [1, 2, 3])
def test_queues_partition_the_flows(generate, queues):
    shares = [
        {five_tuple(d) for d in generate("flows=50,dst=10.0.0.0/24", 40, queues, queue)} for queue in range(queues)
    ]
    assert sum(len(share) for share in shares) == (40 if queues == 1 else 50)
    if queues > 1:
        assert len(set.union(*shares)) == 50


def test_a_queue_without_flows_has_ended(generate):
    assert generate("flows=1", 5, queues=2, queue=1) == []
    assert len(generate("flows=1,count=5", 9, queues=2, queue=0)) == 5


@pytest.mark.parametrize("options", ["count=77", "count=77,size=4000", "count=77,imix=yes", "count=0"])
@pytest.mark.parametrize("queues", [1, 3])
def test_count_ends_exactly(pool, worker, options, queues):
    made = port(f"generator:{options}")
    made.open(pool, queues, 0)
    found = 0
    for queue in range(queues):
        while (descs := worker.burst(made, 32, queue)) is not None:
            found += len(descs)
            worker.free(descs)
        assert GeneratorQueue(made.rx[queue]).ended == 1
        assert worker.burst(made, 32, queue) is None
    assert found == made.stats().rx_packets == made.options.count
    made.close()


def test_bytes_are_counted_without_fcs(pool, worker):
    made = port("generator:count=10,size=4000")
    made.open(pool, 1, 0)
    assert len(worker.receive_all(made)) == 10
    assert made.stats().rx_bytes == 39960
    made.close()


def test_an_empty_pool_gives_what_there_is(pool, worker):
    made = port("generator:size=9018")  # six cells each
    made.open(pool, 1, 0)
    held = []
    while descs := worker.burst(made, 512):
        held += descs
    assert len(held) >= (2048 - 6 * 85) // 6
    worker.free(held[: len(held) // 2])
    worker.free(held[len(held) // 2 :])
    assert pool.in_use == 0
    made.close()


def test_destinations_of_an_array_and_a_file(generate, tmp_path):
    wanted = np.array([0x0A000001, 0xC0000205, 0x08080808], np.uint32)
    text = ["10.0.0.1", "192.0.2.5", "8.8.8.8"]
    made = Generator.from_options(size=64, flows=6, imix=False, destinations=wanted)
    assert [five_tuple(d)[1] for d in generate(made, 6)] == text * 2
    (tmp_path / "list").write_text("# three\n10.0.0.1\n\n192.0.2.5 # one\n8.8.8.8\n")
    np.save(tmp_path / "list.npy", wanted)
    for name in ("list", "list.npy"):
        assert [five_tuple(d)[1] for d in generate(f"destinations={tmp_path / name}", 3)] == text
    made = Generator.from_options(flows=200, dst_mode="random", destinations=wanted)
    assert {five_tuple(d)[1] for d in generate(made, 200)} == set(text)


# The pacer -------------------------------------------------------------------------------------------------


@kernel
def step(address, now, room):
    record = GeneratorQueue(address)
    packets = allowance(record, now, room)
    spend(record, packets)
    return packets


@pytest.fixture
def paced():
    """A record of 100.5 cycles a packet that saves up 1000 cycles."""
    with Region(GeneratorQueue.SIZE, "test-pacer", huge=False) as memory:
        record = GeneratorQueue(memory.address)
        record.cost = int(100.5 * (1 << FRACTION))
        record.depth = 1000 << FRACTION
        yield record


def test_pace(paced):
    at = paced.address
    assert [step(at, now, 32) for now in (5000, 5000, 5100, 5101, 5201)] == [1, 0, 0, 1, 1]
    assert step(at, 5201 + 402, 32) == 4
    assert step(at, 5201 + 402 + 50, 32) == 0


def test_pace_keeps_what_room_did_not_allow_but_no_more_than_its_depth(paced):
    at = paced.address
    assert step(at, 1, 32) == 1
    assert [step(at, 402 + 1, 2), step(at, 402 + 1, 32)] == [2, 2]
    assert [step(at, 1 << 50, 32), step(at, 1 << 50, 32)] == [9, 0]


def test_pace_survives_a_clock_that_steps_back(paced):
    at = paced.address
    assert [step(at, 1000, 32), step(at, 10, 32), step(at, 111, 32)] == [1, 0, 1]


@settings(
    deadline=None,
    max_examples=50 if COMPILED else 20,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.lists(st.integers(0, 900), min_size=1, max_size=60))
def test_pace_never_drifts(paced, steps):
    """While nobody is late by more than the depth, the sum is that of the rate, to a packet."""
    paced.last = paced.credit = 0
    now, sent = 1 << 40, 0
    for elapsed in (0, *steps):
        now += elapsed
        sent += step(paced.address, now, 512)
    assert sent == 1 + int((now - (1 << 40)) / 100.5)


def test_rates_of_a_record(pool):
    from wirespeed.eal.clock import tsc_hz

    for text, rate in (("rate=1M", 1e6), ("rate_bits=10G", 10e9 / 8 / 84), ("rate_bits=1G,imix=yes", None)):
        made = port(f"generator:{text}")
        made.open(pool, 2, 0)
        per_queue = tsc_hz() * (1 << FRACTION) / GeneratorQueue(made.rx[1]).cost
        assert per_queue == pytest.approx((rate or 1e9 / 8 / ((7 * 84 + 4 * 614 + 1538) / 12)) / 2, rel=1e-3)
        made.close()


def test_a_paced_port_starts_with_one_packet(pool, worker):
    made = port("generator:rate=1")
    made.open(pool, 1, 0)
    first = worker.burst(made)
    assert len(first) == 1
    assert worker.burst(made) == []
    worker.free(first)
    made.close()


# What is refused -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("size=63", "size=63 must be 64 to 9018"),
        ("size=9019", "size=9019 must be 64 to 9018"),
        ("size=81,dst=::1,proto=tcp,vlan=1", "size=81 must be 82 to 9018"),
        ("imix=yes,size=64", "size and imix exclude"),
        ("vlan=4095", "vlan=4095 must be -1 to 4094"),
        ("count=-2", "must be"),
        ("rate=2G", "rate=2000000000 must be 0 to 1000000000"),
        ("rate=1,rate_bits=1", "rate and rate_bits exclude"),
        ("proto=sctp", "proto='sctp' must be one of udp, tcp, icmp"),
        ("dst=10.0.0.0/33", "dst='10.0.0.0/33' must be an address, a prefix or a range"),
        ("src=10.0.0.2-10.0.0.1", "src='10.0.0.2-10.0.0.1' must be"),
        ("src=10.0.0.1,dst=::1", "use one version"),
        ("sport=65536", "sport='65536' must be 0 to 65535"),
        ("dport=9-8", "dport='9-8' must be 0 to 65535"),
        ("sport=", "sport='' must be"),
        ("dst=10.0.0.0/8,dst_mode=shuffled", "dst_mode='shuffled' must be one of constant, counting, random"),
        ("flows=5000000", "flows=5000000 must be -1 to 4194304"),
        ("sport=1,flows=2", "flows=2 must be at most 1"),
        ("flows=0", "none is random"),
        ("flows=0,dst=::1-::1:0:0,dst_mode=random", "needs a prefix"),
        ("smac=02:00", "smac='02:00' must be six bytes"),
        ("destinations=/nowhere", "destinations='/nowhere' cannot be read"),
        ("bursts=3", "has no option 'bursts'"),
    ],
)
def test_bad_options_name_the_option_and_its_bound(options, says):
    with pytest.raises(PortError) as refused:
        port(f"generator:{options}")
    assert says in str(refused.value)


def test_destinations_exclude_dst_and_nothing(tmp_path):
    with pytest.raises(PortError, match="exclude"):
        Generator.from_options(dst="10.0.0.1", destinations=np.array([1], np.uint32))
    with pytest.raises(PortError, match="no address"):
        Generator.from_options(destinations=np.array([], np.uint32))
    (tmp_path / "six").write_text("2001:db8::1\n")
    with pytest.raises(PortError, match="IPv4 addresses only"):
        port(f"generator:destinations={tmp_path / 'six'}")


def test_nothing_warns(generate):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        generate("dst=2001:db8::/32,dst_mode=random,flows=50,imix=yes", 20)
