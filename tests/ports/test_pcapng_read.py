"""Reading pcapng: blocks written here byte by byte (draft-ietf-opsawg-pcapng)."""

import struct

import pytest

from wirespeed.errors import CaptureError
from wirespeed.jit import store32, store64
from wirespeed.mem.descriptor import META
from wirespeed.mem.region import Region
from wirespeed.ports.pcap.ng_read import MAX_INTERFACES, Interface, time_ns
from wirespeed.ports.port import port


def block(kind, body, order="<"):
    body += bytes(-len(body) % 4)
    length = struct.pack(order + "I", 12 + len(body))
    return struct.pack(order + "I", kind) + length + body + length


def section(order="<", major=1):
    return block(0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, major, 0, -1), order)


def interface(link=1, snap=0, options=b"", order="<"):
    return block(1, struct.pack(order + "HHI", link, 0, snap) + options, order)


def enhanced(data, number=0, ticks=0, order="<", captured=None):
    size = len(data) if captured is None else captured
    return block(
        6, struct.pack(order + "IIIII", number, ticks >> 32, ticks & 0xFFFFFFFF, size, len(data)) + data, order
    )


def simple(data, wire=None, order="<"):
    return block(3, struct.pack(order + "I", wire or len(data)) + data, order)


def old(data, number=0, ticks=0, order="<"):
    words = struct.pack(order + "HHIIII", number, 5, ticks >> 32, ticks & 0xFFFFFFFF, len(data), len(data))
    return block(2, words + data, order)


def frame(size, seed=0):
    return bytes((seed + i * 7) & 0xFF for i in range(size))


@pytest.fixture
def opened(tmp_path, pool):
    ports = []

    def open_(data, options=""):
        path = tmp_path / "in.pcapng"
        path.write_bytes(data)
        made = port(f"pcap:{path}{options}")
        made.open(pool, 1, 0)
        ports.append(made)
        return made

    yield open_
    for made in ports:
        made.close()


@pytest.mark.parametrize("order", ["<", ">"])
def test_all_kinds_of_packet_block(opened, worker, order):
    data = section(order) + interface(order=order)
    data += enhanced(frame(61), order=order) + simple(frame(62), order=order) + old(frame(63), order=order)
    data += block(0x0BAD, b"a block that nobody knows", order) + enhanced(frame(4000), order=order)
    data += block(4, b"names", order) + block(5, b"statistics", order)
    made = opened(data)
    assert worker.receive_all(made) == [frame(61), frame(62), frame(63), frame(4000)]
    assert made.fault() == ""
    assert made.stats().rx_errors == 0


def test_bursts_of_one(opened, worker):
    frames = [frame(60 + i, i) for i in range(40)]
    made = opened(section() + interface() + b"".join(map(enhanced, frames)))
    assert worker.receive_all(made, 1) == frames


def test_sections_begin_anew_in_either_order(opened, worker):
    data = section() + interface() + enhanced(frame(60))
    data += section(">") + interface(order=">") + enhanced(frame(61), order=">")
    data += section() + interface() + interface() + enhanced(frame(62), 1)
    assert worker.receive_all(opened(data)) == [frame(60), frame(61), frame(62)]


def test_interfaces_do_not_outlive_their_section(opened, worker):
    made = opened(section() + interface() + enhanced(frame(60)) + section() + enhanced(frame(61)))
    assert worker.receive_all(made) == [frame(60)]
    assert "interface that the file does not describe" in made.fault()


def test_a_simple_packet_is_cut_to_the_snap_length(opened, worker):
    made = opened(section() + interface(snap=96) + simple(frame(96), wire=1500))
    assert worker.receive_all(made) == [frame(96)]


def test_packets_of_another_link_type_are_errors(opened, worker):
    data = section() + interface() + interface(127) + enhanced(frame(60), 0) + enhanced(frame(61), 1)
    made = opened(data + enhanced(frame(62), 0))
    assert worker.receive_all(made) == [frame(60), frame(62)]
    assert made.stats().rx_errors == 1
    assert made.fault() == ""


def test_empty_and_too_long_packets_are_errors(opened, worker):
    made = opened(section() + interface() + enhanced(b"") + enhanced(frame(65536)) + enhanced(frame(65535)))
    assert worker.receive_all(made) == [frame(65535)]
    assert made.stats().rx_errors == 2


def test_more_interfaces_than_are_remembered(opened, worker):
    many = MAX_INTERFACES + 1
    data = section() + interface() * many + enhanced(frame(60), many - 2) + enhanced(frame(61), many - 1)
    made = opened(data)
    assert worker.receive_all(made) == [frame(60)]
    assert made.stats().rx_errors == 1
    assert made.fault() == ""


def test_no_interface_of_ethernet(opened):
    with pytest.raises(CaptureError, match=r"link type 113 \(Linux cooked v1\) is not"):
        opened(section() + block(4, b"names") + interface(113) + interface(127) + enhanced(frame(60)) + interface(1))


def test_one_interface_of_ethernet_among_others(opened, worker):
    made = opened(section() + interface(113) + interface(1) + enhanced(frame(60), 0) + enhanced(frame(61), 1))
    assert worker.receive_all(made) == [frame(61)]
    assert made.stats().rx_errors == 1


@pytest.mark.parametrize("times", ["", ",timestamps=yes"])
def test_interfaces_are_marks(opened, worker, times):
    data = section() + interface() * 3 + enhanced(frame(60), 2) + enhanced(frame(4000), 1) + enhanced(frame(61), 0)
    made = opened(data, f",interfaces=yes{times}")
    descs = worker.burst(made)
    assert [worker.header(desc).mark for desc in descs] == [2, 1, 0]
    assert all(desc & META for desc in descs)
    assert [worker.packet(desc) for desc in descs] == [frame(60), frame(4000), frame(61)]
    worker.free(descs)


@pytest.mark.parametrize("data", [section(), section() + interface(), section() + block(77, b"")])
def test_no_packets(opened, worker, data):
    made = opened(data)
    assert worker.receive_all(made) == []
    assert made.fault() == ""


def resolution(value):
    return struct.pack("<HHB3x", 9, 1, value)


@pytest.mark.parametrize(
    ("options", "ticks", "expected_ns"),
    [
        (b"", 1_600_000_000_123_456, 1_600_000_000_123_456_000),
        (resolution(6), 1_600_000_000_123_456, 1_600_000_000_123_456_000),
        (resolution(9), 1_600_000_000_123_456_789, 1_600_000_000_123_456_789),
        (resolution(0), 1_600_000_000, 1_600_000_000_000_000_000),
        (resolution(12), 1_600_000_123_456_789_012, 1_600_000_123_456_789),
        (resolution(0x80), 1_600_000_000, 1_600_000_000_000_000_000),
        (resolution(0x80 | 10), 1_600_000_000 * 1024 + 512, 1_600_000_000_500_000_000),
        (resolution(0x80 | 32), (1_600_000_000 << 32) + (1 << 31), 1_600_000_000_500_000_000),
        (struct.pack("<HHq", 14, 8, 100) + bytes(4), 1_000_000, 101_000_000_000),
        (struct.pack("<HHq", 14, 8, -100), 200_000_000, 100_000_000_000),
        (struct.pack("<HH4s", 2, 3, b"eth") + resolution(9) + bytes(4), 77, 77),
        (struct.pack("<HH", 9, 500), 1, 1000),  # an option longer than its block
    ],
)
def test_timestamps_in_the_unit_of_the_interface(opened, worker, options, ticks, expected_ns):
    data = section() + interface(options=options) + enhanced(frame(60), ticks=ticks) + old(frame(61), ticks=ticks)
    descs = worker.burst(opened(data + simple(frame(62)), ",timestamps=yes"))
    assert [bool(desc & META) for desc in descs] == [True, True, False]
    assert [worker.header(desc).timestamp for desc in descs[:2]] == [expected_ns] * 2
    worker.free(descs)


@pytest.mark.parametrize("unit", [0, 6, 9, 18, 19, 127, -1, -31, -63, -64, -127])
def test_no_unit_is_too_strange(unit):
    with Region(4096, "test-interface", huge=False) as memory:
        known = Interface(memory.address)
        store64(memory.address + 8, unit)
        store64(memory.address + 16, 0)
        store32(memory.address, 1)
        seconds = 3
        ticks = seconds * 10**unit if unit >= 0 else seconds << -unit
        expected = seconds * 10**9 if ticks < 1 << 63 and -64 < unit <= 18 else 0
        assert known.unit == unit
        if ticks < 1 << 64:
            assert time_ns(memory.address, ticks - (1 << 64) if ticks >> 63 else ticks) in (
                expected,
                seconds * 10**9,
            )


GOOD = section() + interface() + enhanced(frame(60))


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (struct.pack("<II", 6, 8), "ends in the middle"),
        (struct.pack("<III", 6, 8, 8), "length is not possible"),
        (struct.pack("<III", 6, 13, 13), "length is not possible"),
        (struct.pack("<III", 6, 0, 0), "length is not possible"),
        (struct.pack("<III", 6, 0xFFFFFFFC, 0), "longer than what is left"),
        (struct.pack("<III", 6, 12, 16), "two lengths differ"),
        (block(6, bytes(16)), "length is not possible"),
        (block(2, bytes(16)), "length is not possible"),
        (block(3, b""), "length is not possible"),
        (block(1, bytes(4)), "length is not possible"),
        (enhanced(frame(60), captured=61), "longer than its block"),
        (enhanced(frame(60), captured=0xFFFFFFFF), "longer than its block"),
        (simple(frame(60), wire=61), "longer than its block"),
        (enhanced(frame(60), number=1), "interface that the file does not describe"),
        (old(frame(60), number=0xFFFF), "interface that the file does not describe"),
        (block(0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4E, 1, 0, -1)), "byte order or version"),
        (section(major=2), "byte order or version"),
        (block(0x0A0D0D0A, struct.pack("<IHHI", 0x1A2B3C4D, 1, 0, 0)) + bytes(9), "length is not possible"),
        (section()[:20], "ends in the middle"),
    ],
)
def test_a_broken_block_ends_the_input_with_a_fault(opened, worker, bad, says):
    made = opened(GOOD + bad)
    assert worker.receive_all(made) == [frame(60)]
    assert says in made.fault()
    assert f"packet 2, at byte {len(GOOD)}" in made.fault()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (section()[:20], "cut off after 20 bytes"),
        (section().replace(b"\x4d\x3c\x2b\x1a", b"oops"), "byte order is 6f6f7073"),
    ],
)
def test_a_broken_beginning_is_refused(opened, data, says):
    with pytest.raises(CaptureError, match=says):
        opened(data)


def test_interfaces_are_unsigned_numbers(opened, worker):
    made = opened(section() + interface() + enhanced(frame(60), number=0xFFFFFFFF))
    assert worker.receive_all(made) == []
    assert "does not describe" in made.fault()
