"""Receive offload: cut again it is what came; streams keep their order; what is odd passes untouched."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import Bench
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.buffer import describe_meta
from wirespeed.mem.descriptor import CHAINED, CHECKSUM_VALID, META, NEEDS_CHECKSUM
from wirespeed.mem.pool import Cache, share
from wirespeed.traffic.gro import Gro
from wirespeed.traffic.gso import segment

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
FOUR, SIX = IP(src="10.0.0.1", dst="10.0.0.2", id=1, flags="DF"), IPv6(src="fd00::1", dst="fd00::2")
PAYLOAD = random.Random(1).randbytes(60_000)


@kernel
def cut(cache, desc, size, vector, room):
    return segment(Cache(cache), desc, size, vector, room)


def stream(sizes, network=FOUR, port=1, seq=1000, link=LINK, **fields):
    """TCP segments that follow each other, as bytes."""
    found, at = [], 0
    for number, size in enumerate(sizes):
        if IP in network:
            network = network.copy()
            network.id = 1 + number
        tcp = TCP(sport=port, dport=80, seq=(seq + at) & 0xFFFF_FFFF, ack=7, flags="A", options=[("Timestamp", (1, 2))])
        for name, value in fields.items():
            setattr(tcp, name, value)
        found.append(bytes(link / network / tcp / Raw(PAYLOAD[at : at + size])))
        at += size
    return found


def run(bench, table, frames, now=0, flush=True):
    """Descriptors that come out, in order."""
    out = []
    for frame in frames:
        count = table.add(bench.cache, bench.make(frame), now, bench.vector)
        out += bench.at(count)
    while flush and len(table):
        out += bench.at(table.flush(bench.cache, 1 << 60, bench.vector, 64))
    return out


def again(bench, descs):
    """Cut what was merged, as the frames it came from."""
    found = []
    for desc in descs:
        if desc & META:
            count = cut(bench.cache, desc, 0, bench.vector, 128)
            assert count > 1
            parts = bench.at(count)
            found += [bench.data(part) for part in parts]
            bench.release(*parts)
        else:
            found.append(bench.data(desc))
            bench.release(desc)
    return found


@pytest.mark.parametrize("network", [FOUR, SIX])
@pytest.mark.parametrize("link", [LINK, LINK / Dot1Q(vlan=3)])
def test_a_stream_becomes_one_packet(bench, network, link):
    frames = stream([1400] * 10 + [300], network, seq=0xFFFF_FFF0, link=link)
    with Gro() as table:
        descs = run(bench, table, frames)
        assert len(descs) == 1
        line = bench.line(descs[0])
        assert (line.gso_size, line.checksum_state, line.gso_type) == (
            1400,
            NEEDS_CHECKSUM,
            1 if network is FOUR else 4,
        )
        whole = Ether(bench.data(descs[0]))
        assert bytes(whole[TCP].payload) == PAYLOAD[:14_300]
        assert table.stats().merged == 10
        assert again(bench, descs) == frames


@settings(max_examples=30 if COMPILED else 15)
@given(st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8)), min_size=1, max_size=60), st.randoms())
def test_streams_keep_their_order_whatever_comes(events, rng):
    """Frames of six streams, some lost, odd or shuffled: each stream's frames come out as they came."""
    sources = [stream([200] * 60, port=port) for port in range(1, 4)]
    sources += [stream([100] * 60, SIX, port=9), stream([10] * 60, port=10), stream([700] * 60, port=11, flags="PA")]
    at, frames = [0] * 6, []
    for which, what in events:
        if what == 0:
            at[which] += 1  # lost
        frame = sources[which][at[which] % 60]
        if what == 1:
            frame = bytearray(frame)
            frame[-1] ^= 1  # a wrong checksum
        frames.append(bytes(frame))
        at[which] += what != 2  # 2: once more
    bench = Bench()
    with Gro(4) as table:
        descs = run(bench, table, frames)
        found = again(bench, descs)
    assert sorted(found) == sorted(frames)
    for port in (1, 2, 3, 9, 10, 11):
        assert [f for f in found if Ether(f)[TCP].sport == port] == [f for f in frames if Ether(f)[TCP].sport == port]
    bench.close()


def test_padding_is_not_payload(bench):
    frames = [frame + b"\0" * 4 for frame in stream([2, 2, 2])]
    with Gro() as table:
        descs = run(bench, table, frames)
        assert bytes(Ether(bench.data(descs[0]))[TCP].payload) == PAYLOAD[:6]
        bench.release(*descs)


@pytest.mark.parametrize(
    "change",
    [
        {"ack": 8}, {"flags": "SA"}, {"flags": "FA"}, {"flags": "UA"}, {"seq": 5}, {"options": [("Timestamp", (1, 3))]},
        {"options": []},
    ],
    ids=str,
)  # fmt: skip
def test_what_differs_is_not_merged(bench, change):
    first = stream([100])
    second = stream([100], **{"seq": 1100, **change})
    if "seq" in change:
        second = stream([100], seq=change["seq"])
    with Gro() as table:
        descs = run(bench, table, first + second)
        assert [bench.data(desc) for desc in descs] == first + second
        bench.release(*descs)


def test_other_packets_pass(bench):
    frames = [bytes(LINK / FOUR / UDP() / Raw(b"x" * 50)), bytes(LINK / Raw(b"y" * 60)), *stream([0]), b""]
    with Gro() as table:
        descs = run(bench, table, frames, flush=False)
        assert [bench.data(desc) for desc in descs] == frames
        bench.release(*descs)


def test_no_packet_grows_beyond_what_ip_can_say(bench):
    frames = stream([1448] * 41)
    frames += stream([1448] * 41, seq=1000 + 41 * 1448)
    with Gro() as table:
        descs = run(bench, table, frames)
        assert len(descs) == 2
        assert max(len(bench.data(desc)) for desc in descs) <= 65535
        bench.release(*descs)


def test_time_passes_on(bench):
    with Gro(wait_ns=1000) as table:
        assert run(bench, table, stream([100, 100]), now=50, flush=False) == []
        assert table.flush(bench.cache, 1049, bench.vector, 64) == 0
        assert table.flush(bench.cache, 1050, bench.vector, 64) == 1
        bench.release(*bench.at(1))


def test_bad_arguments():
    for arguments, message in (((0,), "0 streams"), ((4, -1), "a wait of -1 ns")):
        with pytest.raises(TableError, match=message):
            Gro(*arguments)
    assert ws.Gro is Gro


def add(bench, table, desc):
    """What comes out, as descriptors."""
    return bench.at(table.add(bench.cache, desc, 0, bench.vector))


def test_a_shared_segment_does_not_overtake_the_held_one(bench):
    first, second = stream([100, 100])
    with Gro() as table:
        assert add(bench, table, bench.make(first)) == []
        desc = share(bench.pool.cells, bench.make(second))
        out = add(bench, table, desc)
        assert [bench.data(each) for each in out] == [first, second]
        bench.release(*out, desc)


def test_first_fragments_are_not_merged(bench):
    """Even if the port says that their checksums are right."""
    frames = [bytearray(frame) for frame in stream([104, 104])]
    for frame in frames:
        frame[20] |= 0x20  # more fragments
        frame[24:26] = bytes(2)
        frame[24:26] = IP(bytes(frame[14:34])).chksum.to_bytes(2)
    with Gro() as table:
        out = []
        for frame in frames:
            ip = IP(bytes(frame[14:]))
            del ip.chksum
            desc = describe_meta(bench.pool.cells, bench.make(bytes(LINK / ip)))
            bench.line(desc).checksum_state = CHECKSUM_VALID
            out += add(bench, table, desc)
        assert len(out) == 2 and len(table) == 0
        bench.release(*out)


@pytest.mark.parametrize("field", ["gso_size", "vlan_tci"])
def test_what_the_port_said_is_not_lost(bench, field):
    """A super-packet keeps its segment size, and a tag that the port took off keeps packets apart."""
    with Gro() as table:
        descs = []
        for number, frame in enumerate(stream([100, 100])):
            desc = describe_meta(bench.pool.cells, bench.make(frame))
            bench.line(desc).checksum_state = CHECKSUM_VALID
            setattr(bench.line(desc), field, 50 + number)
            descs += add(bench, table, desc)
        while len(table):
            descs += bench.at(table.flush(bench.cache, 1 << 60, bench.vector, 64))
        assert [getattr(bench.line(desc), field) for desc in descs] == [50, 51]
        bench.release(*descs)


def test_a_segment_whose_last_cell_others_hold_is_not_cut(bench):
    """Padding would be cut off it."""
    frame = stream([100])[0]
    desc = describe_meta(bench.pool.cells, bench.make(frame[:-60]))
    bench.line(desc).checksum_state = CHECKSUM_VALID
    tail = share(bench.pool.cells, bench.make(frame[-60:] + bytes(2000)))
    line = bench.line(desc)
    line.next, line.length = tail, len(frame) + 2000
    with Gro() as table:
        out = add(bench, table, desc | CHAINED)
        assert out == [desc | CHAINED] and len(table) == 0
    bench.release(*out, tail)
