"""ipv4_validate and ipv4_ttl against plain Python: RFC 1812 sections 5.2.2, 5.3.1 and 5.3.7, RFC 1071 for the sum."""

import random

from feed import Collect, Feed, hexed
from hypothesis import example, given
from hypothesis import strategies as st
from scapy.layers.inet import IP
from scapy.utils import checksum

import wirespeed as ws
from wirespeed.nodes import ipv4_ttl, ipv4_validate

LINK = bytes.fromhex("020000000001 020000000101 0800")
MARTIANS = {0, 127, *range(224, 256)}


def rfc1071(header):
    """Section 4.1, word by word: what the checksum field should be, whatever it is now."""
    words = [int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2) if i != 10]
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


def verdict(packet):
    """The door that an IPv4 packet (without its link header) must leave ipv4_validate by."""
    if len(packet) < 20:  # (1) the link layer's length holds a minimum header
        return "malformed"
    header_bytes, total = (packet[0] & 15) * 4, packet[2] << 8 | packet[3]
    if packet[0] >> 4 != 4 or header_bytes < 20:  # (3), (4)
        return "malformed"
    if total < header_bytes or total > len(packet):  # (5), and it is all there
        return "malformed"
    if not sum_holds(packet[:header_bytes]):  # (2)
        return "bad-checksum"
    if packet[12] in MARTIANS or packet[16] in (0, 127):  # section 5.3.7
        return "martian"
    return ""


def sum_holds(header):
    """RFC 1071 section 1 (3): all words, the checksum's too, add up to all ones."""
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total == 0xFFFF


@st.composite
def packets(draw):
    """IPv4 packets with options of any bytes, right; then, for half of them, up to two bytes are set to anything."""
    options = draw(st.binary(max_size=40).map(lambda b: b[: len(b) & ~3]))
    payload = draw(st.binary(max_size=16))
    head = bytearray(20 + len(options))
    head[0] = 0x40 | len(head) // 4
    head[1:9] = draw(st.binary(min_size=8, max_size=8))
    head[2:4] = (len(head) + len(payload)).to_bytes(2, "big")
    head[9] = draw(st.integers(0, 255))
    edges = st.sampled_from([0, 1, 126, 127, 128, 223, 224, 239, 240, 255])
    for at in (12, 16):
        head[at] = draw(edges | st.integers(0, 255))
        head[at + 1 : at + 4] = draw(st.binary(min_size=3, max_size=3))
    head[20:] = options
    head[10:12] = rfc1071(head).to_bytes(2, "big")
    packet = head + payload + bytes(draw(st.sampled_from([0, 0, 1, 26])))  # and the link's padding
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        at = draw(st.integers(0, 23) | st.integers(0, len(packet) - 1))
        packet[at % len(packet)] = draw(st.integers(0, 255))
    if draw(st.integers(0, 9)) == 0:
        del packet[draw(st.integers(0, len(packet))) :]
    return bytes(packet)


@given(packets())
@example(b"")
@example(bytes(20))
@example(b"\x45" + bytes(19))
@example(bytes.fromhex("4500001400000000401100000a0000010a000002"))  # checksum 0
@example(bytes.fromhex("45000014f8e80000ff110000c0000201c0000202"))
def test_validate_accepts_what_rfc_1812_accepts(packet):
    seen = ipv4_validate.trace(LINK + packet)
    assert seen.door == verdict(packet)
    assert not seen.changed and seen.dropped == (seen.door != "")


@given(packets())
def test_the_model_and_scapy_agree_on_the_checksum(packet):
    """The model is checked too: scapy's own sum over the same header."""
    if verdict(packet) in ("", "martian"):
        header = IP(packet[: (packet[0] & 15) * 4])
        said = header.chksum
        bare = bytearray(packet[: (packet[0] & 15) * 4])
        bare[10:12] = bytes(2)
        assert checksum(bytes(bare)) % 0xFFFF == said % 0xFFFF  # zero has two forms (RFC 1624 section 3)


def aged(packet):
    """The packet one hop further on: TTL one less, the sum done anew."""
    head = bytearray(packet)
    head[8] -= 1
    head[10:12] = rfc1071(head[: (head[0] & 15) * 4]).to_bytes(2, "big")
    return bytes(head)


@given(packets())
def test_ttl_keeps_the_checksum_right(packet):
    if verdict(packet) not in ("", "martian"):
        return
    seen = ipv4_ttl().trace(LINK + packet)
    if packet[8] <= 1:
        assert (seen.door, seen.data) == ("ttl-expired", LINK + packet)
        return
    after = seen.data[14:]
    assert seen.door == "" and after[8] == packet[8] - 1
    assert sum_holds(after[: (after[0] & 15) * 4])
    assert after[:8] + after[9:10] + after[12:] == packet[:8] + packet[9:10] + packet[12:]
    if packet[10:12] != b"\xff\xff":  # a sender that writes zero as all ones keeps doing so
        assert after == aged(packet)


@given(packets(), st.integers(0, 0xFFFF))
def test_ttl_keeps_a_wrong_checksum_wrong(packet, said):
    """RFC 1141, RFC 1624: an update must not repair what was broken before."""
    if verdict(packet) not in ("", "martian") or packet[8] <= 1:
        return
    bad = packet[:10] + said.to_bytes(2, "big") + packet[12:]
    after = ipv4_ttl().trace(LINK + bad).data[14:]
    length = (packet[0] & 15) * 4
    assert sum_holds(after[:length]) == sum_holds(bad[:length])


def test_every_ttl_and_every_carry_compiled():
    """All TTLs, with checksums around each carry; compiled, the same bytes as traced and as the model."""
    rng = random.Random(1812)
    frames, wanted, drops = [], [], {}
    for i in range(768):
        words = rng.choice([0, 0, 1, 5, 10])
        head = bytearray(rng.randbytes(20 + 4 * words))
        head[0], head[2:4], head[8] = 0x45 + words, len(head).to_bytes(2, "big"), i & 255
        head[12], head[16] = rng.choice([10, 10, 10, 224]), rng.choice([10, 10, 10, 127])
        head[4:6] = bytes(2)
        sum_now = rfc1071(head)
        target = (0x0000, 0x0001, 0x00FF, 0x0100, 0xFEFF, 0xFF00, 0xFFFE, sum_now)[
            i % 8
        ]  # the identification makes it so
        ident = (sum_now - target) % 0xFFFF
        head[4:6] = ident.to_bytes(2, "big")
        head[10:12] = rfc1071(head).to_bytes(2, "big")
        assert int.from_bytes(head[10:12], "big") % 0xFFFF == target % 0xFFFF
        if i % 16 == 15:
            head[rng.randrange(len(head))] ^= 1 << rng.randrange(8)
        packet = bytes(head)
        frames.append(LINK + packet)
        door, node = verdict(packet), "ipv4_validate"
        if door == "" and packet[8] <= 1:
            door, node = "ttl-expired", "ipv4_ttl"
        if door:
            drops[f"{node}: {door}"] = drops.get(f"{node}: {door}", 0) + 1
        else:
            wanted.append(ipv4_ttl().trace(LINK + packet).data)
            assert wanted[-1] == LINK + aged(packet)
    graph, out = ws.Graph(), Collect()
    graph.add(Feed(frames) >> ipv4_validate >> ipv4_ttl() >> out)
    report = ws.run(graph)
    assert hexed(out.packets) == hexed(wanted)
    assert report.drops == drops
