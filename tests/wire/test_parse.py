"""The parser on literal frames. Addresses are offsets from the first byte; -1 is absent."""

import pytest

from wirespeed.mem.descriptor import CELL, CHAINED, META

ETH = bytes.fromhex("020000000002 020000000001")


def ether(ethertype: int, rest: bytes, tags: bytes = b"") -> bytes:
    return ETH + tags + ethertype.to_bytes(2, "big") + rest


def ipv4(payload: bytes, protocol: int = 17, options: bytes = b"", total: int | None = None, fragment=0, first=None):
    """RFC 791 header, 10.0.0.1 to 10.0.0.2; checksum not filled in, the parser does not look at it."""
    header = 20 + len(options)
    total = header + len(payload) if total is None else total
    first = 0x40 | header // 4 if first is None else first
    return (
        bytes([first, 0])
        + total.to_bytes(2, "big")
        + bytes([0, 1])
        + fragment.to_bytes(2, "big")
        + bytes([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2])
        + options
        + payload
    )


def ipv6(payload: bytes, following: int = 17, length: int | None = None, first: int = 0x60):
    length = len(payload) if length is None else length
    addresses = bytes.fromhex("20010db8000000000000000000000001 20010db8000000000000000000000002")
    return bytes([first, 0, 0, 0]) + length.to_bytes(2, "big") + bytes([following, 64]) + addresses + payload


def udp(data: bytes = b"abcd", length: int | None = None) -> bytes:
    length = 8 + len(data) if length is None else length
    return bytes([0x10, 0x92, 0, 53]) + length.to_bytes(2, "big") + b"\0\0" + data


def tcp(data: bytes = b"", offset: int = 5, options: bytes = b"") -> bytes:
    return bytes([0, 80, 0, 81]) + bytes(8) + bytes([offset << 4, 0x10, 0xFF, 0xFF, 0, 0, 0, 0]) + options + data


def expect(found: dict, **values: int) -> None:
    assert {name: found[name] for name in values} == values


def test_udp_over_ipv4_without_tags(where):
    found = where(ether(0x0800, ipv4(udp())))
    expect(found, eth=0, vlan=-1, qinq=-1, ethertype=0x0800, l3=14, ipv4=14, ipv6=-1, arp=-1, ip_bytes=32)
    expect(found, protocol=17, l4=34, udp=34, tcp=-1, icmp=-1, icmp6=-1, limit=46, payload=42, payload_length=4)


def test_padding_to_the_shortest_frame_is_no_payload(where):
    found = where(ether(0x0800, ipv4(udp(b"ab"))).ljust(60, b"\0"))
    expect(found, length=60, limit=44, payload=42, payload_length=2)


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8, 0x9100])
def test_one_tag(where, tpid):
    found = where(ether(0x0800, ipv4(udp()), tpid.to_bytes(2, "big") + b"\x20\x05"))
    expect(found, vlan=14, qinq=-1, ethertype=0x0800, l3=18, ipv4=18, udp=38)


def test_two_tags_the_outer_is_vlan(where):
    found = where(ether(0x86DD, ipv6(udp()), bytes.fromhex("88a8 0064 8100 0005")))
    expect(found, vlan=14, qinq=18, ethertype=0x86DD, l3=22, ipv6=22, udp=62)


def test_three_tags_are_too_many(where):
    found = where(ether(0x0800, ipv4(udp()), bytes.fromhex("88a8 0064 8100 0005 8100 0006")))
    expect(found, vlan=14, qinq=18, ethertype=0x8100, l3=22, ipv4=-1, udp=-1)


def test_a_cut_tag_is_none(where):
    found = where(ETH + bytes.fromhex("8100 00"))
    expect(found, eth=0, vlan=-1, ethertype=0x8100, l3=14)


@pytest.mark.parametrize("length", range(14))
def test_shorter_than_ethernet(where, length):
    found = where(ether(0x0800, b"")[:length])
    expect(found, eth=-1, ethertype=0, l3=-1, ipv4=-1, l4=-1, payload=-1, payload_length=0, limit=length)


def test_arp(where):
    arp = bytes.fromhex("0001080006040001 020000000001 0a000001 000000000000 0a000002")
    expect(where(ether(0x0806, arp).ljust(60, b"\0")), arp=14, payload=-1, l4=-1, protocol=0)
    expect(where(ether(0x0806, arp[:27])), arp=-1)
    expect(where(ether(0x0806, b"\0\6" + arp[2:])), arp=-1)  # IEEE 802 hardware
    expect(where(ether(0x0806, arp[:5] + b"\x10" + arp[6:])), arp=-1)  # 16-byte protocol address


def test_unknown_ethertype_leaves_its_payload(where):
    expect(where(ether(0x88F7, b"hello")), l3=14, payload=14, payload_length=5, limit=19, protocol=0)


def test_ipv4_options(where):
    found = where(ether(0x0800, ipv4(udp(), options=bytes.fromhex("94040000 01010100"))))
    expect(found, ipv4=14, l4=42, udp=42, payload=50, payload_length=4)


@pytest.mark.parametrize(
    ("packet", "why"),
    [
        (ipv4(udp(), first=0x55), "version 5"),
        (ipv4(udp(), first=0x44), "IHL 4"),
        (ipv4(b"", first=0x46), "IHL beyond total length"),
        (ipv4(udp(), total=19), "total length below header"),
        (ipv4(udp(), total=33), "total length beyond the frame"),
        (ipv4(udp(), total=0), "total length 0, no super-packet"),
        (ipv4(udp())[:19], "cut header"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_ipv4_that_lies_is_absent(where, packet, why):
    expect(where(ether(0x0800, packet)), eth=0, ipv4=-1, ip_bytes=0, l4=-1, udp=-1, payload=14)


def test_ipv4_fragments(where):
    more = where(ether(0x0800, ipv4(udp(bytes(16), length=1400), fragment=0x2000)))
    expect(more, l4=34, udp=34, payload=42, payload_length=16)  # first: the length is the datagram's
    later = where(ether(0x0800, ipv4(udp(bytes(16)), fragment=0x2001)))
    expect(later, ipv4=14, protocol=17, l4=-1, udp=-1, payload=34, payload_length=24)
    last = where(ether(0x0800, ipv4(udp(bytes(16)), fragment=0x0001)))
    expect(last, l4=-1, udp=-1, payload=34)
    whole = where(ether(0x0800, ipv4(udp(), fragment=0x4000)))
    expect(whole, udp=34)


@pytest.mark.parametrize(("length", "there"), [(7, False), (0, False), (8, True), (12, True), (13, False)])
def test_udp_length(where, length, there):
    found = where(ether(0x0800, ipv4(udp(b"abcd", length=length))))
    if there:
        expect(found, udp=34, limit=34 + length, payload_length=length - 8)
    else:
        expect(found, udp=-1, l4=34, payload=34, payload_length=12)


@pytest.mark.parametrize(
    ("segment", "there", "after"),
    [
        (tcp(b"xyz"), True, 20),
        (tcp(b"xyz", 6, b"\x02\x04\x05\xb4"), True, 24),
        (tcp(b"xyz", 4), False, 0),
        (tcp(b"xyz", 6), False, 0),
        (tcp()[:19], False, 0),
    ],
)
def test_tcp_data_offset(where, segment, there, after):
    found = where(ether(0x0800, ipv4(segment, protocol=6)).ljust(100, b"\0"))
    expect(found, tcp=34 if there else -1, l4=34, payload=34 + after)


def test_icmp_belongs_to_its_ip(where):
    echo = bytes.fromhex("0800000000010002") + b"ping"
    expect(where(ether(0x0800, ipv4(echo, protocol=1))), icmp=34, icmp6=-1, payload=42, payload_length=4)
    expect(where(ether(0x86DD, ipv6(echo, following=58))), icmp=-1, icmp6=54, payload=62)
    expect(where(ether(0x0800, ipv4(echo, protocol=58))), icmp=-1, icmp6=-1, payload=34)
    expect(where(ether(0x86DD, ipv6(echo, following=1))), icmp=-1, icmp6=-1, payload=54)
    expect(where(ether(0x0800, ipv4(echo[:7], protocol=1))), icmp=-1, payload=34)


def test_udp_over_ipv6(where):
    found = where(ether(0x86DD, ipv6(udp())))
    expect(found, ipv6=14, ipv4=-1, l4=54, udp=54, ip_bytes=52, limit=66, payload=62, payload_length=4)


@pytest.mark.parametrize(
    "packet",
    [ipv6(udp(), first=0x50), ipv6(udp(), length=13), ipv6(b"")[:39]],
    ids=["version 5", "length beyond the frame", "cut"],
)
def test_ipv6_that_lies_is_absent(where, packet):
    expect(where(ether(0x86DD, packet)), ipv6=-1, l4=-1, udp=-1, payload=14)


def extension(following: int, body: bytes = bytes(6)) -> bytes:
    return bytes([following, (len(body) + 2) // 8 - 1]) + body


def test_ipv6_empty(where):
    expect(where(ether(0x86DD, ipv6(b"", following=59)).ljust(60, b"\0")), ipv6=14, protocol=59, payload=-1)


def test_ipv6_extensions(where):
    chain = extension(43) + extension(60, bytes(14)) + extension(17) + udp()  # hop-by-hop, routing, options
    expect(where(ether(0x86DD, ipv6(chain, following=0))), protocol=17, l4=54 + 32, udp=54 + 32)


def test_ipv6_authentication_counts_in_words(where):
    ah = bytes([17, 4]) + bytes(22)  # (4 + 2) * 4 = 24 bytes
    expect(where(ether(0x86DD, ipv6(ah + udp(), following=51))), protocol=17, udp=54 + 24)


def test_ipv6_fragments(where):
    def fragment(word: int) -> bytes:
        return bytes([17, 0]) + word.to_bytes(2, "big") + bytes(4)

    expect(where(ether(0x86DD, ipv6(fragment(0) + udp(), 44))), udp=62)  # atomic, RFC 6946
    expect(where(ether(0x86DD, ipv6(fragment(1) + udp(length=1000), 44))), udp=62, payload_length=4)
    expect(where(ether(0x86DD, ipv6(fragment(8) + udp(), 44))), protocol=17, udp=-1, l4=-1, payload=62)
    expect(where(ether(0x86DD, ipv6(fragment(9) + udp(), 44))), udp=-1, l4=-1)


def test_ipv6_extensions_have_a_bound(where):
    expect(where(ether(0x86DD, ipv6(extension(60) * 7 + extension(17) + udp(), 60))), udp=54 + 64)
    expect(where(ether(0x86DD, ipv6(extension(60) * 8 + extension(17) + udp(), 60))), udp=-1, l4=-1, ipv6=14)


def test_ipv6_extension_beyond_the_end(where):
    cut = bytes([17, 200]) + bytes(6)
    expect(where(ether(0x86DD, ipv6(cut + udp(), 60))), ipv6=14, udp=-1, l4=-1, payload=-1)
    expect(where(ether(0x86DD, ipv6(b"\x11\0\0", 60))), udp=-1, l4=-1)


def test_a_frame_at_the_end_of_its_cell(where):
    frame = ether(0x0800, ipv4(udp()))
    expect(where(frame, offset=CELL - len(frame)), udp=34)
    for length in range(len(frame)):
        where(frame[:length], offset=CELL - length)  # interpreted: no access outside the cell


# Packets over several segments ---------------------------------------------------------------------------


def test_chained_ipv4(where, cells):
    cells.header().length = 14 + 20 + 1008
    frame = ether(0x0800, ipv4(udp(bytes(92), length=1008), total=1028))
    found = where(frame, flags=CHAINED)
    expect(found, length=1042, end=134, ipv4=14, ip_bytes=1028, udp=34, limit=134, payload_length=92)
    cells.header().length = 14 + 20 + 1007
    expect(where(frame, flags=CHAINED), ipv4=-1)


def test_chained_ipv6(where, cells):
    cells.header().length = 14 + 40 + 1008
    frame = ether(0x86DD, ipv6(udp(bytes(92), length=1008), length=1008))
    expect(where(frame, flags=CHAINED), ipv6=14, udp=54, ip_bytes=1048, payload_length=92)
    cells.header().length = 14 + 40 + 1007
    expect(where(frame, flags=CHAINED), ipv6=-1)


def test_super_packets_may_have_no_length(where, cells):
    header = cells.header()
    header.length, header.gso_size = 70_000, 1448
    four = ether(0x0800, ipv4(tcp(bytes(100)), protocol=6, total=0))
    six = ether(0x86DD, ipv6(tcp(bytes(100)), following=6, length=0))
    expect(where(four, flags=CHAINED | META), ipv4=14, ip_bytes=70_000 - 14, tcp=34, payload_length=100)
    expect(where(six, flags=CHAINED | META), ipv6=14, ip_bytes=70_000 - 14, tcp=54, payload_length=100)
    expect(where(four, flags=CHAINED), ipv4=-1)  # the header line is stale
    expect(where(six, flags=CHAINED), ipv6=14, ip_bytes=40, tcp=-1)
    header.gso_size = 0
    expect(where(four, flags=CHAINED | META), ipv4=-1)


def test_each_level_has_those_before_it(cells, twin):
    desc = cells.put(ether(0x0800, ipv4(udp())))
    full = (46, 0x0800, 0x0A000002, 53, 4)
    for level, known in enumerate((1, 2, 3, 5)):
        assert twin.by_level(cells.base, desc, level) == full[:known] + (0,) * (5 - known)
