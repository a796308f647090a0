"""Growing and shrinking: the extent moves, the headers follow, the cell is never left."""

import pytest

from wirespeed.jit import kernel
from wirespeed.mem.descriptor import CELL, CELL_HEADER, CHAINED, HEADROOM, META, SHARED, describe
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport

FRAME = bytes.fromhex(
    "020000000002 020000000001 08004500 0020 0001 0000 4011 0000 0a000001 0a0000021092 0035 000c 0000 61626364"
)


@kernel
def change(cells, desc, how, count):
    pkt = Packet()
    pkt.cells, pkt.desc, pkt.port, pkt.cache = cells, desc, 0, 0
    parse_transport(pkt)
    done = -1
    if how == 0:
        done = pkt.prepend(count)
    elif how == 1:
        done = pkt.adjust(count)
    elif how == 2:
        done = pkt.append(count)
    elif how == 3:
        done = pkt.trim(count)
    elif how == 4:
        done = pkt.push_vlan(0x8100, count)
    elif how == 5:
        done = pkt.pop_vlan()
    return (
        done,
        pkt.desc,
        pkt.length,
        pkt.end - pkt.start,
        pkt.eth.address - pkt.start if pkt.eth else -1,
        pkt.udp.address - pkt.start if pkt.udp else -1,
        pkt.vlan.vid,
    )


PREPEND, ADJUST, APPEND, TRIM, PUSH, POP = range(6)
KEPT = CHAINED | META | SHARED


@pytest.mark.parametrize(
    ("how", "count", "offset", "length"),
    [
        (PREPEND, 14, HEADROOM - 14, 60),
        (PREPEND, 0, HEADROOM, 46),
        (PREPEND, HEADROOM - CELL_HEADER, CELL_HEADER, 46 + HEADROOM - CELL_HEADER),
        (ADJUST, 14, HEADROOM + 14, 32),
        (ADJUST, 46, HEADROOM + 46, 0),
        (APPEND, 10, HEADROOM, 56),
        (APPEND, CELL - HEADROOM - 46, HEADROOM, CELL - HEADROOM),
        (TRIM, 4, HEADROOM, 42),
        (TRIM, 46, HEADROOM, 0),
    ],
)
def test_the_extent_moves(cells, how, count, offset, length):
    desc = cells.put(FRAME, cell=1, flags=SHARED)
    done, after, whole, segment, *_ = change(cells.base, desc, how, count)
    assert (done, whole, segment) == (1, length, length)
    assert after == describe(1, offset, length, SHARED)


@pytest.mark.parametrize(
    ("how", "count"),
    [
        (PREPEND, HEADROOM - CELL_HEADER + 1), (PREPEND, -1), (PREPEND, 1 << 40),
        (ADJUST, 47), (ADJUST, -1),
        (APPEND, CELL - HEADROOM - 46 + 1), (APPEND, -1), (APPEND, 1 << 50),
        (TRIM, 47), (TRIM, -1), (POP, 0),
    ],
)  # fmt: skip
def test_what_does_not_fit_changes_nothing(cells, how, count):
    desc = cells.put(FRAME)
    assert change(cells.base, desc, how, count) == (0, desc, 46, 46, 0, 34, 0)


def test_headers_are_found_anew(cells):
    desc = cells.put(bytes(4) + FRAME)
    assert change(cells.base, desc, ADJUST, 4)[4:6] == (0, 34)
    desc = cells.put(FRAME)
    assert change(cells.base, desc, TRIM, 1)[4:6] == (0, -1)  # the IPv4 length is no longer true


def test_vlan_tags(cells):
    desc = cells.put(FRAME)
    done, tagged, length, _, _, udp, vid = change(cells.base, desc, PUSH, 0x2005)
    assert (done, length, udp, vid) == (1, 50, 38, 5)
    assert cells.read(tagged) == FRAME[:12] + bytes.fromhex("81002005") + FRAME[12:]
    done, plain, length, _, _, udp, vid = change(cells.base, tagged, POP, 0)
    assert (done, plain, length, udp, vid) == (1, desc, 46, 34, 0)
    assert cells.read(plain) == FRAME


def test_no_tag_without_headroom_or_ethernet(cells):
    tight = cells.put(FRAME, offset=CELL_HEADER + 3)
    assert change(cells.base, tight, PUSH, 5)[0] == 0
    assert cells.read(tight) == FRAME
    assert change(cells.base, cells.put(FRAME[:13]), PUSH, 5)[0] == 0


def test_a_chain_keeps_its_books(cells):
    """What the header line counts from the first byte, or in all, moves with the first byte."""
    header = cells.header()
    desc = cells.put(FRAME, flags=CHAINED | META)
    header.length, header.checksum_start, header.checksum_offset, header.headers_length = 1000, 34, 6, 42
    done, after, whole, segment, *_ = change(cells.base, desc, PREPEND, 10)
    assert (done, whole, segment, after & KEPT) == (1, 1010, 56, CHAINED | META)
    assert (header.length, header.checksum_start, header.checksum_offset, header.headers_length) == (1010, 44, 6, 52)
    assert change(cells.base, after, ADJUST, 24)[:4:2] == (1, 986)
    assert (header.checksum_start, header.headers_length) == (20, 28)
    assert change(cells.base, desc, APPEND, 1)[0] == 0
    assert change(cells.base, desc, TRIM, 1)[0] == 0


def test_a_stale_header_line_is_left_alone(cells):
    header = cells.header()
    header.length, header.checksum_start = 7, 9
    change(cells.base, cells.put(FRAME), PREPEND, 10)
    assert (header.length, header.checksum_start) == (7, 9)


def test_a_chain_that_others_hold_keeps_its_extent(cells):
    """Their length is in the same header line."""
    header = cells.header()
    header.length = 1000
    desc = cells.put(FRAME, flags=CHAINED | SHARED)
    tagged = cells.put(FRAME[:12] + b"\x81\0\0\x05" + FRAME[12:], flags=CHAINED | SHARED)
    for each, how in ((desc, PREPEND), (desc, ADJUST), (tagged, POP)):
        before = cells.read(each)
        assert change(cells.base, each, how, 4)[:2] == (0, each)
        assert (header.length, cells.read(each)) == (1000, before)
