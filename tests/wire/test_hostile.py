"""Any bytes at all: nothing is read outside the cell, views lie inside the frame, both machines agree."""

import random

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from wirespeed.jit import COMPILED
from wirespeed.mem.descriptor import CELL
from wirespeed.wire.arp import Arp
from wirespeed.wire.ethernet import Ethernet
from wirespeed.wire.icmp import Icmp, Icmp6
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp
from wirespeed.wire.vlan import Vlan

SIZES = {
    "eth": Ethernet.SIZE, "vlan": Vlan.SIZE, "qinq": Vlan.SIZE, "arp": Arp.SIZE, "ipv4": Ipv4.SIZE,
    "ipv6": Ipv6.SIZE, "icmp": Icmp.SIZE, "icmp6": Icmp6.SIZE, "udp": Udp.SIZE, "tcp": Tcp.SIZE,
}  # fmt: skip

byte = st.integers(0, 255)
ethertype = st.sampled_from([b"\x08\0", b"\x86\xdd", b"\x08\6"])
tags = st.lists(st.sampled_from([b"\x81\0\0\5", b"\x88\xa8\0\5", b"\x91\0\0\5"]), max_size=3).map(b"".join)
protocol = st.sampled_from([0, 1, 6, 17, 43, 44, 51, 58, 59, 60])
v4 = st.builds(
    lambda first, length, fragment, protocol: (
        bytes([first, 0]) + length.to_bytes(2, "big") + b"\0\0" + fragment.to_bytes(2, "big") + bytes([64, protocol])
    ),
    st.sampled_from([0x45, 0x46, 0x4F, 0x44, 0x65]),
    st.one_of(st.integers(0, 200), st.integers(0, 0xFFFF)),
    st.sampled_from([0, 0, 0x4000, 0x2000, 0x2001, 1, 0x1FFF]),
    protocol,
)
v6 = st.builds(
    lambda length, protocol: b"\x60\0\0\0" + length.to_bytes(2, "big") + bytes([protocol, 64]) + bytes(32),
    st.one_of(st.integers(0, 200), st.integers(0, 0xFFFF)),
    protocol,
)
extension = st.builds(lambda following, size: bytes([following, size]) + bytes(6), protocol, st.integers(0, 3))
plausible = st.builds(
    lambda *parts: b"".join(parts),
    st.just(bytes(12)), tags, ethertype, st.one_of(v4, v6), st.lists(extension, max_size=10).map(b"".join),
    st.binary(max_size=120),
)  # fmt: skip
frames = st.one_of(
    plausible,
    st.binary(max_size=200),
    plausible.flatmap(lambda f: st.integers(0, len(f)).map(lambda n: f[:n])),
)


@settings(
    max_examples=800 if COMPILED else 300,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@example(b"")
@given(frames)
def test_views_lie_inside_the_frame(cells, twin, data):
    desc = cells.put(data, offset=CELL - len(data))
    found = dict(zip(twin.NAMES, twin.places(cells.base, desc), strict=True))
    for name, size in SIZES.items():
        assert found[name] == -1 or 0 <= found[name] <= len(data) - size
    assert 0 <= found["limit"] <= len(data)
    if found["payload"] >= 0:
        assert found["payload"] + found["payload_length"] == found["limit"] <= len(data)
    assert (found["ipv4"] >= 0) + (found["ipv6"] >= 0) + (found["arp"] >= 0) <= 1
    assert sum(found[name] >= 0 for name in ("icmp", "icmp6", "udp", "tcp")) <= 1


def plausible_frames(count: int) -> list[bytes]:
    """Frames that go deep into the parser, from a fixed seed."""
    dice = random.Random(2024)
    frames = []
    for _ in range(count):
        tag = b"".join(dice.choice([b"\x81\0\0\5", b"\x88\xa8\0\5"]) for _ in range(dice.choice([0, 0, 1, 2, 3])))
        body = dice.randbytes(dice.randrange(120))
        following = dice.choice([0, 1, 6, 17, 43, 44, 51, 58, 60])
        if dice.random() < 0.6:  # a UDP length that may be right
            body = body[:4] + dice.choice([len(body), 8, 9]).to_bytes(2, "big") + body[6:]
            following = dice.choice([17, 17, 6, following])
        length = dice.choice([len(body), len(body), dice.randrange(200), dice.randrange(65536)])
        if dice.random() < 0.5:
            total = (length + 20) & 0xFFFF
            first = dice.choice([0x45, 0x45, 0x46, 0x4A, 0x43])
            fragment = dice.choice([0, 0, 0x2000, 1])
            head = b"\x08\0" + bytes([first, 0]) + total.to_bytes(2, "big") + b"\0\1" + fragment.to_bytes(2, "big")
            head += bytes([64, following]) + bytes(10)
        else:
            head = b"\x86\xdd\x60\0\0\0" + length.to_bytes(2, "big") + bytes([following, 64]) + bytes(32)
            body = b"".join(
                bytes([dice.choice([17, 6, 58, 60, 44, 51, 0]), dice.randrange(3)]) + dice.randbytes(6)
                for _ in range(dice.randrange(10))
            ) + body  # fmt: skip
        frame = bytes(12) + tag + head + body
        frames.append(frame[: dice.choice([len(frame), len(frame), dice.randrange(len(frame))])])
    return frames


def test_both_machines_find_the_same(cells, twin, other_machine):
    corpus = [b"", bytes(13), bytes(14), *plausible_frames(600)]
    here = [tuple(int(word) for word in twin.places(cells.base, cells.put(frame))) for frame in corpus]
    assert here == other_machine(corpus)
    deep = sum(found[twin.NAMES.index("udp")] >= 0 for found in here)
    assert deep > 10, "the corpus should reach UDP"
