"""Matches in compiled code beside their reference."""

import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.ports.test_wrap import TCP, UDP

from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.region import Region
from wirespeed.ports.match import matches, parse_matches
from wirespeed.ports.match_path import Rule, any_matches, write_rules

RULES = [
    "any", "tcp", "udp", "udp/4096", "udp/53", "sport/53", "sport/0-65535", "tcp/8000-9000", "vlan/7", "vlan/7&udp",
    "ether/0x88b5", "arp", "ip", "ip6", "icmp", "proto/47", "from/10.0.0.0/8", "to/10.0.0.2", "from/10.0.0.0/31",
    "to/10.0.0.0/30&udp", "from/::/0", "to/2001:db8::/33", "from/2001:db8::1", "teid/42", "vni/7", "icmp|udp/4096|arp",
    "from/0.0.0.0/0",
]  # fmt: skip

IP6 = bytes.fromhex("60000000 0008 11 40 20010db8000000000000000000000001 20010db8800000000000000000000002")
GTP = bytes.fromhex("0868 0868 0020 0000 30ff 0008 0000002a")
VXLAN = bytes.fromhex("1000 12b5 0020 0000 08000000 000007 00")
FRAMES = [
    UDP, TCP,
    UDP[:12] + bytes.fromhex("8100 2007") + UDP[12:],
    UDP[:12] + bytes.fromhex("88a8 0008 8100 0007") + UDP[12:],
    UDP[:20] + b"\x20\x00" + UDP[22:], UDP[:20] + b"\x00\x01" + UDP[22:],
    UDP[:34] + GTP, UDP[:34] + VXLAN, UDP[:14] + b"\x46" + UDP[15:34] + bytes(4) + UDP[34:],
    UDP[:12] + b"\x86\xdd" + IP6 + UDP[34:], UDP[:12] + b"\x86\xdd" + IP6 + GTP, UDP[:12] + b"\x86\xdd" + IP6 + TCP[34:],
    UDP[:12] + b"\x08\x06" + bytes(46), UDP[:12] + b"\x88\xb5" + bytes(46), b"",
]  # fmt: skip


@kernel
def asked(rules, count, cells, desc):  # type: ignore[no-untyped-def]
    return any_matches(rules, count, cells, desc)


def agree(worker, region, text, frame):
    alternatives = parse_matches(text)
    write_rules(region.address, alternatives)
    desc = worker.make(frame)
    found = asked(region.address, len(alternatives), worker.pool.cells, desc)
    worker.free([desc])
    assert bool(found) == any(matches(match, frame) for match in alternatives), (text, frame.hex())


def test_every_rule_with_every_frame(worker):
    """And each frame cut off anywhere, for the compiled code; interpreted, at some places."""
    with Region(8 * Rule.SIZE, "rules", huge=False) as region:
        for text in RULES:
            for frame in FRAMES:
                for size in range(len(frame), -1, -1 if COMPILED else -20):
                    agree(worker, region, text, frame[:size])


changes = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), max_size=4)


@given(text=st.sampled_from(RULES), frame=st.sampled_from(FRAMES), changed=changes)
@settings(max_examples=1000 if COMPILED else 50, deadline=None)
def test_any_bytes(worker, text, frame, changed):
    data = bytearray(frame)
    for at, value in changed:
        if data:
            struct.pack_into("B", data, at % len(data), value)
    with Region(8 * Rule.SIZE, "rules", huge=False) as region:
        agree(worker, region, text, bytes(data))
