"""Fragmentation and reassembly against scapy's, the RFCs' rules, and hostile fragments."""

import random
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import Bench
from scapy.layers.inet import ICMP, IP, TCP, UDP, IPOption_NOP, IPOption_Router_Alert, defragment
from scapy.layers.inet6 import (
    IPv6,
    IPv6ExtHdrDestOpt,
    IPv6ExtHdrFragment,
    IPv6ExtHdrHopByHop,
    PadN,
    defragment6,
    fragment6,
)
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Raw

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, write_bytes
from wirespeed.mem.buffer import describe_meta
from wirespeed.mem.descriptor import (
    CHAINED,
    CHECKSUM_VALID,
    META,
    NEEDS_CHECKSUM,
    address_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.mem.pool import Cache, share
from wirespeed.traffic.fragment import fragment
from wirespeed.traffic.reassembly import HELD, MOST, REFUSED, Reassembly

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
S = 1_000_000_000


@kernel
def cut(cache, desc, mtu, identification, vector, room):
    return fragment(Cache(cache), desc, mtu, identification, vector, room)


def data(length, seed=1):
    return random.Random(seed).randbytes(length)


def cut_up(bench, packet, mtu, room=128, identification=77):
    """The fragments as bytes, or None when it could not be cut."""
    desc = bench.make(bytes(packet))
    count = cut(bench.cache, desc, mtu, identification, bench.vector, room)
    if count == 0:
        assert bench.data(desc) == bytes(packet)
        bench.release(desc)
        return None
    descs = bench.at(count)
    found = [bench.data(each) for each in descs]
    bench.release(*descs)
    return found


@pytest.mark.parametrize("mtu", [68, 1000, 1500, 4000])
@pytest.mark.parametrize("size", [1600, 4000, 9000])
@pytest.mark.parametrize("link", [LINK, LINK / Dot1Q(vlan=7)])
def test_ipv4_like_scapy(bench, mtu, size, link):
    packet = link / IP(src="10.0.0.1", dst="10.0.0.2", id=0x1234, ttl=9) / UDP(sport=1, dport=2) / data(size)
    expected = [bytes(link / piece) for piece in IP(bytes(packet.getlayer(IP))).fragment((mtu - 20) // 8 * 8)]
    if len(expected) > 128:
        assert cut_up(bench, packet, mtu) is None
    else:
        assert cut_up(bench, packet, mtu) == expected


def test_ipv4_options_are_copied_or_blanked(bench):
    header = IP(src="10.0.0.1", dst="10.0.0.2", id=5, options=[IPOption_Router_Alert(), IPOption_NOP()])
    packet = LINK / header / UDP() / data(3000)
    first, *rest = cut_up(bench, packet, 1500)
    for piece in (first, *rest):
        ip = Ether(piece)[IP]
        assert ip.ihl == header.__class__(bytes(packet[IP])).ihl
        assert bytes(ip)[20:24] == b"\x94\x04\x00\x00"
        assert IP(bytes(ip)).chksum == checked(ip)


def checked(ip):
    again = ip.copy()
    del again.chksum
    return IP(bytes(again)).chksum


def test_record_route_stays_in_the_first(bench):
    raw = bytearray(bytes(IP(src="10.0.0.1", dst="10.0.0.2", id=5, options=[IPOption_NOP()] * 8) / UDP() / data(3000)))
    raw[20:28] = b"\x07\x07\x04\x01\x02\x03\x04\x00"
    ip = IP(bytes(raw))
    del ip.chksum
    pieces = cut_up(bench, LINK / ip, 1500)
    assert [bytes(Ether(piece)[IP])[20:28] for piece in pieces] == [
        b"\x07\x07\x04\x01\x02\x03\x04\x00", *[b"\x01" * 7 + b"\x00"] * (len(pieces) - 1)
    ]  # fmt: skip


def test_a_fragment_is_cut_further(bench):
    whole = IP(src="10.0.0.1", dst="10.0.0.2", id=9) / UDP() / data(4000)
    again = []
    for piece in IP(bytes(whole)).fragment(1480):
        again += cut_up(bench, LINK / piece, 700)
    merged = defragment([Ether(each)[IP] for each in again])
    assert bytes(merged[0]) == bytes(IP(bytes(whole)))


@pytest.mark.parametrize("mtu", [1280, 1500])
def test_ipv6_like_scapy(bench, mtu):
    for extension in ((), (IPv6ExtHdrHopByHop(options=[PadN(optdata=b"\0" * 4)]),)):
        inner = UDP(sport=5, dport=6) / Raw(data(5000))
        with_marker = LINK / IPv6(src="fd00::1", dst="fd00::2")
        plain = LINK / IPv6(src="fd00::1", dst="fd00::2")
        for header in extension:
            with_marker /= header
            plain /= header
        with_marker = with_marker / IPv6ExtHdrFragment(id=77) / inner
        plain /= inner
        ours = cut_up(bench, plain, mtu)
        theirs = fragment6(IPv6(bytes(with_marker[IPv6])), mtu)
        assert all(len(each) - 14 <= mtu for each in ours)
        assert [Ether(each)[IPv6ExtHdrFragment].id for each in ours] == [77] * len(ours)
        assert bytes(defragment6([Ether(each)[IPv6] for each in ours])) == bytes(
            defragment6([IPv6(bytes(each)) for each in theirs])
        )


def test_what_cannot_be_cut(bench):
    udp = UDP() / data(3000)
    address = {"src": "10.0.0.1", "dst": "10.0.0.2"}
    assert cut_up(bench, LINK / IP(flags="DF", **address) / udp, 1500) is None
    assert cut_up(bench, LINK / IP(**address) / udp, 27) is None
    assert cut_up(bench, LINK / IP(**address) / udp, 1500, room=2) is None
    assert cut_up(bench, LINK / Raw(data(3000)), 1500) is None
    six = IPv6(src="fd00::1", dst="fd00::2")
    assert cut_up(bench, LINK / six / IPv6ExtHdrFragment(id=1) / udp, 1280) is None
    small = bytes(LINK / IP(**address) / UDP() / b"x")
    assert cut_up(bench, Ether(small), 1500) == [small]


def test_what_the_header_line_says_goes_with_each_piece(bench):
    desc = bench.make(bytes(LINK / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / data(3000)))
    desc = describe_meta(bench.pool.cells, desc)
    bench.line(desc).mark = 5
    bench.line(desc).gso_size = 1000
    count = cut(bench.cache, desc, 1500, 0, bench.vector, 8)
    assert count == 3
    for piece in bench.at(count):
        assert piece & META and (bench.line(piece).mark, bench.line(piece).gso_size) == (5, 0)
    bench.release(*bench.at(count))


def test_offsets_do_not_wrap(bench):
    """A late fragment that is too long would become pieces at the front of the datagram."""
    assert cut_up(bench, LINK / IP(src="10.0.0.1", dst="10.0.0.2", frag=8180, proto=17) / data(3000), 1500) is None


def test_a_packet_that_others_hold_is_not_summed_in_place(bench):
    packet = LINK / IP(src="10.0.0.1", dst="10.0.0.2", id=3) / UDP(sport=1, dport=2) / data(3000)
    raw = bytearray(bytes(packet))
    expected = bytes(raw)
    raw[40:42] = bytes(2)
    total = sum(struct.unpack("!9H", bytes(raw[26:34]) + b"\0\x11" + bytes(raw[38:40]) + bytes(6)))
    raw[40:42] = (total % 0xFFFF).to_bytes(2)
    desc = describe_meta(bench.pool.cells, bench.make(bytes(raw)))
    line = bench.line(desc)
    line.checksum_state, line.checksum_start, line.checksum_offset = NEEDS_CHECKSUM, 34, 6
    desc = share(bench.pool.cells, desc)
    count = cut(bench.cache, desc, 1500, 0, bench.vector, 8)
    descs = bench.at(count)
    assert bytes(defragment([Ether(bench.data(each))[IP] for each in descs])[0]) == expected[14:]
    bench.release(*descs)
    assert bench.data(desc) == bytes(raw)
    assert line.checksum_state == NEEDS_CHECKSUM
    bench.release(desc)


@pytest.mark.parametrize("length", [1584, 1592])
def test_headers_as_long_as_a_cell(bench, length):
    """In a cell that grew in front: a piece's headers must fit a fresh one."""
    options = bytes((17, length // 8 - 1)) + b"\x01\x04" + bytes(length - 4)
    packet = LINK / IPv6(src="fd00::1", dst="fd00::2", nh=43) / Raw(options + data(1600))
    raw = bytes(packet)
    desc = bench.make(raw)
    pieces = [bench.make(raw[:1000]), bench.make(raw[1000:])]
    bench.release(desc)
    cell = pieces[0]
    at = address_of(bench.pool.cells, cell) & ~2047
    write_bytes(at + 64, raw[:1900])
    line = bench.line(cell)
    line.next, line.length = bench.make(raw[1900:]), len(raw)
    bench.release(pieces[1])
    long = with_data(cell, 64, 1900) | CHAINED
    assert bench.data(long) == raw
    assert cut(bench.cache, long, 3000, 0, bench.vector, 8) == 0
    bench.release(long)


# Reassembly --------------------------------------------------------------------------------------------------


def put(bench, table, packets, now=0):
    """What came out, as bytes; everything that was refused is freed."""
    out = []
    for packet in packets:
        desc = bench.make(bytes(packet))
        found = table.add(bench.cache, desc, now)
        if found == REFUSED:
            bench.release(desc)
        elif found != HELD:
            out.append(bench.data(found))
            bench.release(found)
    return out


def pieces4(size, mtu=1500, identification=9, source="10.0.0.1"):
    whole = LINK / IP(src=source, dst="10.0.0.2", id=identification) / UDP(sport=3, dport=4) / data(size)
    return bytes(whole), [LINK / each for each in IP(bytes(whole[IP])).fragment((mtu - 20) // 8 * 8)]


def pieces6(size, mtu=1280, identification=9):
    whole = LINK / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrHopByHop() / UDP(sport=3, dport=4) / data(size)
    marked = IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrHopByHop() / IPv6ExtHdrFragment(id=identification)
    marked = marked / UDP(bytes(whole[UDP]))
    return bytes(whole), [LINK / each for each in fragment6(IPv6(bytes(marked)), mtu)]


@settings(max_examples=60 if COMPILED else 10)
@given(
    st.randoms(use_true_random=False),
    st.integers(1500, 8000),
    st.booleans(),
    st.sampled_from((pieces4, pieces6)),
    st.sampled_from((1280, 3000)),
)
def test_any_order_twice_or_padded(rng, size, twice, pieces, mtu):
    whole, parts = pieces(max(size, mtu), mtu)
    parts = [bytes(part) + rng.randbytes(rng.randrange(20)) for part in parts]  # padding behind is cut off
    rng.shuffle(parts)
    bench = Bench()
    with Reassembly(16) as table:
        if twice:
            parts = [part for part in parts[:-1] for _ in range(2)] + parts[-1:]
        assert put(bench, table, parts) == [whole]
        assert len(table) == 0
        assert table.stats().whole == 1
    bench.close()


def test_many_datagrams_at_once(bench):
    with Reassembly(256) as table:
        sets = [pieces4(4000, identification=i, source=f"10.0.{i % 5}.1") for i in range(40)]
        out = []
        for turn in range(3):
            out += put(bench, table, [parts[turn] for _, parts in sets])
        assert sorted(out) == sorted(whole for whole, _ in sets)


def test_what_is_no_fragment_passes(bench):
    packets = [LINK / IP(src="10.0.0.1", dst="10.0.0.2") / ICMP(), LINK / IPv6() / TCP(), LINK / Raw(b"x" * 50)]
    with Reassembly(16) as table:
        assert put(bench, table, packets) == [bytes(packet) for packet in packets]
        atomic = (
            LINK / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt() / IPv6ExtHdrFragment(id=3) / UDP() / b"abc"
        )
        without = LINK / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrDestOpt() / UDP() / b"abc"
        assert put(bench, table, [atomic]) == [bytes(without)]  # RFC 6946
        assert table.stats().waiting == 0


def piece(start, size, more=1, **fields):
    fields = {"src": "10.0.0.1", "dst": "10.0.0.2", "id": 1, "proto": 17, **fields}
    return LINK / IP(flags=more, frag=start // 8, **fields) / Raw(b"\xaa" * size)


@pytest.mark.parametrize(
    "parts",
    [
        [piece(0, 800), piece(400, 800)],
        [piece(400, 800), piece(0, 800)],
        [piece(0, 800), piece(0, 808)],
        [piece(0, 4000), piece(800, 80)],
        [piece(800, 100, 0), piece(1600, 80)],
        [piece(800, 100, 0), piece(880, 80, 0)],
    ],
)
def test_overlaps_kill_the_datagram(bench, parts):
    with Reassembly(16) as table:
        assert put(bench, table, parts) == []
        assert (table.stats().overlaps, len(table)) == (1, 0)


@pytest.mark.parametrize(
    "part",
    [piece(0, 801), piece(65528, 80, 0), piece(0, 0), piece(65520, 1000)],
)
def test_fragments_that_make_no_sense(bench, part):
    with Reassembly(16) as table:
        assert put(bench, table, [part]) == []
        assert (table.stats().malformed, len(table)) == (1, 0)


def test_too_many_pieces(bench):
    with Reassembly(16) as table:
        assert put(bench, table, [piece(16 * i, 8) for i in range(MOST + 1)]) == []
        assert (table.stats().malformed, len(table)) == (1, 0)
        assert bench.pool.in_use == 0


def test_a_full_set_lets_the_oldest_go(bench):
    with Reassembly(4) as table:
        for i in range(6):
            put(bench, table, [piece(0, 80, id=i)], now=i)
        assert (len(table), table.stats().evicted, bench.pool.in_use) == (4, 2, 4)
        assert put(bench, table, [piece(80, 80, 0, id=5)], now=9)
        assert table.expire(bench.cache, now_ns=100 * S) == 3


def test_the_longest_datagrams_of_the_smallest_links(bench):
    four = LINK / IP(src="10.0.0.1", dst="10.0.0.2") / UDP() / data(65507)
    six = LINK / IPv6(src="fd00::1", dst="fd00::2") / IPv6ExtHdrHopByHop() / UDP() / data(65519)
    for whole in map(bytes, (four, six)):
        parts = cut_up(bench, whole, 1280)
        assert len(parts) in (53, 54)
        with Reassembly(16) as table:
            assert put(bench, table, parts) == [whole]


def piece6(start, size, more=1, header=b"", kind=17, fill=b"\xaa"):
    """``header``: extension headers in front of the fragment header, whose type is hop-by-hop."""
    fields = {"src": "fd00::1", "dst": "fd00::2", "nh": 0 if header else 44}
    marker = bytes((kind, 0)) + (start | more).to_bytes(2) + bytes(4)
    return LINK / IPv6(**fields) / Raw(header + marker + fill * size)


def test_a_first_header_that_makes_it_too_long(bench):
    """Each fragment is within 65,535 bytes, the datagram with the first one's options is not (Linux: out_oversize)."""
    options = bytes((44, 149)) + b"\x01\x04" + bytes(1196)
    step = 1440
    late = [piece6(at, min(step, 65528 - at), int(at + step < 65528)) for at in range(160, 65528, step)]
    router = [IPOption_NOP()] * 40
    old = [piece(at, min(step, 65512 - at), int(at + step < 65512)) for at in range(160, 65512, step)]
    with Reassembly(16) as table:
        assert put(bench, table, [*late, piece6(0, 160, header=options)]) == []
        assert (table.stats().malformed, len(table), bench.pool.in_use) == (1, 0, 0)
        assert put(bench, table, [*old, piece(0, 160, options=router)]) == []
        assert (table.stats().malformed, len(table), bench.pool.in_use) == (2, 0, 0)


def test_a_first_fragment_holds_all_headers(bench):
    """RFC 7112 section 5: else a firewall could not see them."""
    tcp, options = bytes(TCP()), bytes((6, 0)) + bytes(6)
    for kind, content in ((6, tcp[:16]), (17, b""), (60, options), (60, options + tcp[:8]), (0, bytes(8))):
        with Reassembly(16) as table:
            assert put(bench, table, [piece6(0, len(content), kind=kind, fill=b"")]) == []
            frame = piece6(0, 1, kind=kind, fill=content)
            assert put(bench, table, [frame]) == []
            assert (table.stats().malformed, len(table)) == (2, 0)


def test_an_authentication_header_in_front_of_the_fragment_header(bench):
    """RFC 4302: it counts in words of four bytes."""
    front = bytes((51, 0)) + b"\x01\x04" + bytes(4)
    front += bytes((44, 4)) + bytes(22)
    data = bytes(UDP(sport=1, dport=2, len=32)) + bytes(24)
    parts = [piece6(0, 1, header=front, fill=data[:16]), piece6(16, 1, 0, header=front, fill=data[16:])]
    with Reassembly(16) as table:
        (whole,) = put(bench, table, parts)
    assert whole[54:] == front[:8] + bytes((17,)) + front[9:] + data


def test_congestion_is_not_forgotten(bench):
    """RFC 3168 section 5.3, and what Linux's ip_frag_ecn_table makes of it."""
    with Reassembly(16) as table:
        for marks, expected in (((2, 3), 3), ((3, 2), 3), ((2, 1), 2), ((0, 0), 0)):
            parts = [piece(0, 80, tos=marks[0]), piece(80, 80, 0, tos=marks[1])]
            (found,) = put(bench, table, parts)
            ip = Ether(found)[IP]
            assert (ip.tos, ip.chksum) == (expected, checked(ip))
        assert put(bench, table, [piece(0, 80, tos=0), piece(80, 80, 0, tos=3)]) == []
        assert (table.stats().malformed, len(table)) == (1, 0)


def tagged(frame, *tags):
    head = Ether(src=frame.src, dst=frame.dst)
    for tag in tags:
        head /= Dot1Q(vlan=tag)
    return head / frame[IP]


def test_networks_do_not_mix(bench):
    """Two VLANs may use the same addresses."""
    first, last = piece(0, 80), piece(80, 80, 0)
    with Reassembly(16) as table:
        for tags in ((7,), (8,), (7, 9), (8, 9)):
            assert put(bench, table, [tagged(first, *tags)]) == []
        assert put(bench, table, [last]) == []
        for tags in ((7,), (8,), (7, 9), (8, 9)):
            (found,) = put(bench, table, [tagged(last, *tags)])
            assert [tag.vlan for tag in Ether(found).iterpayloads() if isinstance(tag, Dot1Q)] == list(tags)
        table.expire(bench.cache, 1 << 60)


def test_what_the_header_line_says_of_a_first_fragment_is_not_said_of_the_whole(bench):
    first = describe_meta(bench.pool.cells, bench.make(bytes(piece(0, 80))))
    line = bench.line(first)
    line.mark, line.checksum_state, line.gso_size = 5, CHECKSUM_VALID, 8
    with Reassembly(16) as table:
        assert table.add(bench.cache, first, 0) == HELD
        whole = table.add(bench.cache, bench.make(bytes(piece(80, 80, 0))), 0)
    line = bench.line(whole)
    assert whole & META and (line.mark, line.checksum_state, line.gso_size) == (5, 0, 0)
    bench.release(whole)


def test_a_fragment_whose_last_cell_others_hold_is_refused(bench):
    tail = share(bench.pool.cells, bench.make(b"\xaa" * 40))
    desc = bench.make(bytes(piece(0, 80)))
    line = bench.line(desc)
    line.next, line.length = tail, length_of(desc)
    start = with_data(desc, offset_of(desc), length_of(desc) - 40) | CHAINED
    with Reassembly(16) as table:
        assert table.add(bench.cache, start, 0) == REFUSED
    bench.release(start, tail)


def test_what_waits_too_long_goes(bench):
    with Reassembly(64, timeout_ns=30 * S) as table:
        whole, parts = pieces4(3000)
        put(bench, table, parts[:2], now=0)
        assert table.expire(bench.cache, 30 * S) == 0
        assert table.expire(bench.cache, 30 * S + 1) == 1
        put(bench, table, parts[:1], now=50 * S)
        assert put(bench, table, parts, now=90 * S) == [whole]  # the first piece again: it was too old to count
        assert table.stats().timeouts == 2


def test_first_fragments_of_what_waits_too_long_are_given_out(bench):
    """For who tells their senders; of a datagram whose first one never came, nothing is."""
    with Reassembly(64, timeout_ns=30 * S) as table:
        _, parts = pieces4(3000)
        put(bench, table, parts[:2], now=0)
        _, others = pieces4(3000, identification=7)
        put(bench, table, others[1:], now=0)
        assert table.expire(bench.cache, 30 * S + 1, vector=bench.vector) == 2
        assert table.late == 1
        (given,) = bench.at(1)
        assert bench.data(given) == bytes(parts[0])
        bench.release(given)
        assert table.expire(bench.cache, 90 * S, vector=bench.vector) == table.late == 0


def test_a_fragment_that_others_hold_is_refused(bench):
    desc = share(bench.pool.cells, bench.make(bytes(piece(0, 80))))
    with Reassembly(16) as table:
        assert table.add(bench.cache, desc, 0) == REFUSED
    bench.release(desc, desc)


def test_random_fragments_never_break_anything():
    rng = random.Random(5)
    bench = Bench()
    with Reassembly(8, timeout_ns=1000) as table:
        for step in range(20_000 if COMPILED else 300):
            part = bytearray(
                bytes(piece(rng.randrange(40) * 8, rng.randrange(100), rng.randrange(2), id=rng.randrange(4)))
            )
            for _ in range(rng.randrange(3)):
                part[rng.randrange(len(part))] = rng.randrange(256)
            put(bench, table, [bytes(part)], step * 10)
            assert bench.pool.in_use <= 8 * 48
        table.expire(bench.cache, 1 << 50)
    bench.close()


def test_bad_arguments():
    for arguments, message in (((0,), "0 datagrams"), ((4, 0), "a timeout of 0 ns")):
        with pytest.raises(TableError, match=message):
            Reassembly(*arguments)
    assert ws.Reassembly is Reassembly
