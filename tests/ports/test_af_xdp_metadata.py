"""What XDP knows of a packet besides its bytes, on veth, whose driver tells XDP programs the kernel's flow hash."""

import struct
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import LEFT_ADDRESS, Hand, Space, cable, eventually, hand, needs_namespaces, spaces

from wirespeed.jit import load64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.ports.af_xdp import metadata, query
from wirespeed.ports.netdev import facts, within
from wirespeed.ports.offloads import Offload

NAMES = ("bpf_xdp_metadata_rx_timestamp", "bpf_xdp_metadata_rx_hash")


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Space, Space]]:
    """A host, and a namespace with the other end of its cable."""
    with spaces("l", "m") as (left, middle):
        cable(left, middle, "left", LEFT_ADDRESS)
        yield left, middle


def udp(flow: int) -> bytes:
    """A UDP packet; the flow is its source port."""
    header = bytes.fromhex("4500002e00000000401100000a4d00010a4d0002")
    return b"\x02" * 12 + b"\x08\x00" + header + struct.pack(">HHHH", flow, 7, 26, 0) + bytes(18)


def told(ends: Hand, count: int) -> list[tuple[bool, int, int]]:
    """Of the next packets: whether the header line says something, the time, the hash."""
    vector, found = ends._memory.address, []

    def enough() -> bool:
        got = ends._receive(ends.port.rx[0], ends.pool.cache(0), vector, 64)
        for i in range(got):
            desc = load64(vector + 8 * i)
            line = CellHeader(header_of(ends.pool.cells, desc))
            found.append((bool(desc & META), line.timestamp, line.rss_hash))
        ends.pool.release(vector, got)
        return len(found) >= count

    eventually(enough, f"{count} packets")
    return found


@needs_namespaces
@pytest.mark.parametrize("mode", ["native", "generic"])
def test_the_time_of_receipt(hosts, mode: str) -> None:
    left, middle = hosts
    with hand(f"af_xdp:left,netns={middle.name},mode={mode},timestamps=yes") as ends, left.raw() as wire:
        assert Offload.RX_TIMESTAMP in ends.port.offloads
        times = [time.time_ns()]
        for flow in range(3):
            wire.send(udp(flow))
            times.append(time.time_ns())
        for (there, stamp, _), before in zip(told(ends, 3), times, strict=False):
            assert there
            # The kernel's clocks are adjusted one by one, by some microseconds.
            assert before - 100_000 < stamp < before + 1_000_000_000


@needs_namespaces
def test_the_hash_of_the_flow(hosts) -> None:
    """The kernel's own has a secret seed: equal for equal flows, different for others."""
    left, middle = hosts
    if not within(middle.name, lambda: query.metadata_of(facts("test", "left").index)) & query.FEATURE_HASH:
        pytest.skip("needs a driver that tells XDP programs the hash: veth, Linux 6.7")
    with hand(f"af_xdp:left,netns={middle.name},mode=native,rss_hash=yes") as ends, left.raw() as wire:
        assert Offload.RX_HASH in ends.port.offloads
        assert "RSS hash" in ends.port.facts()["metadata"]
        for flow in (1, 2, 3, 1, 2, 3):
            wire.send(udp(flow))
        hashes = [hash for _, _, hash in told(ends, 6)]
        assert hashes[:3] == hashes[3:]
        assert len(set(hashes)) == 3
        ends.port.rules.add("udp/8", "drop")
        wire.send(udp(2))
        assert [hash for _, _, hash in told(ends, 1)] == [hashes[1]]  # the rules' program writes it, too


@needs_namespaces
def test_a_hash_that_only_software_has(hosts) -> None:
    _, middle = hosts
    with hand(f"af_xdp:left,netns={middle.name},mode=generic,rss_hash=yes") as ends:
        assert Offload.RX_HASH not in ends.port.offloads  # the workers compute it then
        assert ends.port.facts()["metadata"] == "none"


@needs_namespaces
def test_nothing_asked_for_nothing_written(hosts) -> None:
    left, middle = hosts
    with hand(f"af_xdp:left,netns={middle.name}") as ends, left.raw() as wire:
        assert ends.port.offloads & (Offload.RX_TIMESTAMP | Offload.RX_HASH) == Offload.NONE
        wire.send(udp(1))
        assert [there for there, _, _ in told(ends, 1)] == [False]


# Type information ------------------------------------------------------------------------------------------


def btf(*kinds: tuple[int, int, str], more: bytes = b"") -> bytes:
    """Types of (kind, members, name), laid out as Documentation/bpf/btf.rst says."""
    texts, types = b"\0", b""
    for kind, members, name in kinds:
        fixed, each = metadata._REST.get(kind, (0, 0))
        if b"\0" + name.encode() + b"\0" not in texts:
            texts += name.encode() + b"\0"
        at = texts.index(b"\0" + name.encode() + b"\0") + 1 if name else 0
        types += struct.pack("<III", at, kind << 24 | members, 0) + b"\xff" * (fixed + each * members)
    return struct.pack("<HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(types), len(types), len(texts)) + types + texts + more


def test_functions_are_found_by_name_and_kind() -> None:
    data = btf((1, 0, "int"), (4, 3, "xdp_md"), (8, 0, NAMES[0]), (12, 0, NAMES[0]), (13, 2, ""), (12, 0, NAMES[1]))
    assert metadata.find_functions(data, NAMES) == {NAMES[0]: 4, NAMES[1]: 6}
    assert metadata.find_functions(btf((12, 0, "x" + NAMES[0])), NAMES) == {}


def test_type_information_that_is_none() -> None:
    data = btf((1, 0, "int"), (12, 0, NAMES[0]))
    for size in range(len(data)):
        metadata.find_functions(data[:size], NAMES)  # finds or does not; never raises
    assert metadata.find_functions(b"", NAMES) == metadata.find_functions(b"\0" * 64, NAMES) == {}


def test_functions_of_this_kernel() -> None:
    if not metadata._BTF.exists():
        pytest.skip("needs a kernel with type information: /sys/kernel/btf/vmlinux")
    names = (*NAMES, "schedule", "no_such_function_anywhere")
    found = metadata.find_functions(metadata._BTF.read_bytes(), names)
    assert "schedule" in found
    assert "no_such_function_anywhere" not in found
    assert len(set(found.values())) == len(found)
