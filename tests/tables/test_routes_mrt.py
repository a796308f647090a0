"""MRT files, written here by hand after RFC 6396, and read by others too: mrtparse and bgpdump, where installed."""

import bz2
import contextlib
import ipaddress
import os
import random
import shutil
import struct
import subprocess

import pytest

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.tables.prefix import prefix_text
from wirespeed.tables.prefix6 import prefix_text6
from wirespeed.tables.routes import read_routes

TIME = 1_767_225_600


def record(kind, subtype, body):
    return struct.pack(">IHHI", TIME, kind, subtype, len(body)) + body


def peer_table(peers=((4, "192.0.2.1", 64500), (16, "2001:db8::1", 64501))):
    """RFC 6396 section 4.3.1; AS numbers of four bytes."""
    body = bytes([198, 51, 100, 1]) + struct.pack(">H", 4) + b"view" + struct.pack(">H", len(peers))
    for size, address, number in peers:
        body += bytes([2 | (size == 16)]) + bytes([10, 0, 0, 1]) + ipaddress.ip_address(address).packed
        body += struct.pack(">I", number)
    return record(13, 1, body)


def attribute(kind, value, flags=0x40):
    if flags & 0x10:
        return struct.pack(">BBH", flags, kind, len(value)) + value
    return struct.pack(">BBB", flags, kind, len(value)) + value


def attributes(hop, whole=False, more=b""):
    """ORIGIN IGP, AS_PATH of one sequence, and the next hop (NEXT_HOP, or MP_REACH_NLRI in short or whole)."""
    packed = ipaddress.ip_address(hop).packed
    path = attribute(1, b"\0") + attribute(2, b"\2\1" + struct.pack(">I", 64500), 0x50)
    if len(packed) == 4:
        return path + attribute(3, packed) + more
    short = bytes([16]) + packed
    return path + more + attribute(14, b"\0\2\1" + short + b"\0" if whole else short, 0x80)


def entry(peer, data, path=None):
    return struct.pack(">HI", peer, TIME) + (b"" if path is None else struct.pack(">I", path)) + struct.pack(
        ">H", len(data)
    ) + data  # fmt: skip


def rib(prefix, *entries, sequence=0, subtype=None, noise=0):
    network = ipaddress.ip_network(prefix)
    packed = bytearray(network.network_address.packed[: (network.prefixlen + 7) // 8])
    if packed and network.prefixlen % 8:
        packed[-1] |= noise & (0xFF >> network.prefixlen % 8)
    body = (
        struct.pack(">IB", sequence, network.prefixlen) + packed + struct.pack(">H", len(entries)) + b"".join(entries)
    )
    return record(13, subtype or (2 if network.version == 4 else 4), body)


SMALL = (
    peer_table()
    + rib("0.0.0.0/0", entry(0, attributes("192.0.2.1")))
    + rib("1.0.0.0/24", entry(0, attributes("192.0.2.9")), entry(1, attributes("192.0.2.8")), sequence=1)
    + rib("1.0.4.0/22", entry(0, attributes("192.0.2.1", more=attribute(8, bytes(400), 0xD0))), sequence=2)
    + rib("203.0.113.7/32", entry(1, attributes("192.0.2.1")), sequence=3)
    + rib("::/0", entry(1, attributes("2001:db8::1")), sequence=4)
    + rib("2001:db8::/29", entry(1, attributes("2001:db8::1")), sequence=5)
    + rib("2001:db8::/32", entry(1, attributes("2001:db8::2")), sequence=6)
    + rib("2001:db8:1234:5678:9abc:def0:1234:5678/128", entry(1, attributes("2001:db8::1")), sequence=7)
)
ROUTES = [
    ("0.0.0.0/0", "192.0.2.1"), ("1.0.0.0/24", "192.0.2.9"), ("1.0.4.0/22", "192.0.2.1"),
    ("203.0.113.7/32", "192.0.2.1"),
    ("::/0", "2001:db8::1"), ("2001:db8::/29", "2001:db8::1"), ("2001:db8::/32", "2001:db8::2"),
    ("2001:db8:1234:5678:9abc:def0:1234:5678/128", "2001:db8::1"),
]  # fmt: skip


def routes_of(path):
    file = read_routes(path)
    assert file.form == "mrt"
    four = zip(file.addresses.tolist(), file.lengths.tolist(), file.hops.tolist(), strict=True)
    six = zip(file.addresses6.tolist(), file.lengths6.tolist(), file.hops6.tolist(), strict=True)
    return [(prefix_text(address << 6 | length), file.next_hops[hop]) for address, length, hop in four] + [
        (prefix_text6(high, low, length), file.next_hops[hop]) for (high, low), length, hop in six
    ]


@pytest.mark.parametrize("pack", [bytes, bz2.compress])
def test_a_table(tmp_path, pack):
    path = tmp_path / "rib"
    path.write_bytes(pack(SMALL))
    assert routes_of(path) == ROUTES
    assert read_routes(path).skipped == 0


def test_whole_next_hop_attributes_paths_and_what_is_passed_over(tmp_path):
    path = tmp_path / "rib"
    path.write_bytes(
        peer_table()
        + record(13, 6, b"generic")
        + record(16, 4, b"an update among the tables")
        + rib("2001:db8::/32", entry(1, attributes("2001:db8::2", whole=True)))
        + rib("10.0.0.0/8", entry(0, attributes("192.0.2.1"), path=7), subtype=8)  # RFC 8050
        + rib("2001:db9::/32", entry(0, attributes("2001:db8::3"), path=7), subtype=10)
        + rib("11.0.0.0/8", subtype=2)
        + rib("2001:db8::/29", entry(1, attributes("2001:db8::1")), noise=0xFF)
    )
    assert routes_of(path) == [
        ("10.0.0.0/8", "192.0.2.1"), ("2001:db8::/32", "2001:db8::2"), ("2001:db9::/32", "2001:db8::3"),
        ("2001:db8::/29", "2001:db8::1"),
    ]  # fmt: skip
    assert read_routes(path).skipped == 3


FINE = rib("10.0.0.0/8", entry(0, attributes("192.0.2.1")))


def changed(data, at, value):
    return data[:at] + bytes([value]) + data[at + 1 :]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        (FINE[:7], "longer than what is left of the file"),
        (FINE[:-1], "longer than what is left of the file"),
        (record(13, 2, b"\0\0\0\0"), "too short for a prefix"),
        (record(13, 2, b"\0\0\0\0\x20\1\2"), "too short for a prefix"),
        (changed(FINE, 16, 33), "the prefix is longer than an address"),
        (record(13, 4, b"\0\0\0\0\xff" + bytes(40)), "the prefix is longer than an address"),
        (changed(FINE, 19, 2), "the entries are longer than the record"),
        (changed(FINE, 19, 0), "the entries are longer than the record"),
        (changed(FINE, 27, 255), "the entries are longer than the record"),
        (changed(FINE, 21, 9), "a peer that the peer index table does not have"),
        (changed(FINE, 30, 250), "the attributes of an entry are longer than the entry"),
        (record(13, 1, b"\0\0\0\0\0\xff"), "the peer index table is of another length"),
        (record(13, 1, b"\0\0\0\0\0\0\0\2\0"), "the peer index table is of another length"),
    ],
)
def test_broken_records_are_named_with_their_offset(tmp_path, broken, reason):
    path = tmp_path / "rib"
    path.write_bytes(SMALL + broken)
    with pytest.raises(TableError, match=f"rib, offset {len(SMALL)}: .*{reason}"):
        read_routes(path)


def test_routes_before_any_peers_and_files_of_updates(tmp_path):
    path = tmp_path / "rib"
    path.write_bytes(FINE)
    with pytest.raises(TableError, match="offset 0: an entry is of a peer"):
        read_routes(path)
    path.write_bytes(record(16, 4, b"an update"))
    with pytest.raises(TableError, match="offset 0: an MRT record of type 16: only tables are read, TABLE_DUMP_V2"):
        read_routes(path)


def test_any_broken_file_is_an_error_or_a_table(tmp_path):
    """Interpreted, each access is checked to lie within the file."""
    path, dice = tmp_path / "rib", random.Random(13)
    for _ in range(1000 if COMPILED else 60):
        data = bytearray(SMALL[: dice.randint(8, len(SMALL))] if dice.random() < 0.3 else SMALL)
        for _ in range(dice.randint(1, 4)):
            data[dice.randrange(len(data))] = dice.choice([0, 1, 255, dice.randrange(256)])
        path.write_bytes(data)
        with contextlib.suppress(TableError):
            assert len(read_routes(path).lengths) <= 8


# Others -------------------------------------------------------------------------------------------------


def test_mrtparse_reads_the_same(tmp_path):
    mrtparse = pytest.importorskip("mrtparse")
    path = tmp_path / "rib"
    path.write_bytes(SMALL)
    found = []
    for entry_ in mrtparse.Reader(str(path)):
        data = entry_.data
        if "prefix" not in data:
            continue
        first = {next(iter(a["type"])): a["value"] for a in data["rib_entries"][0]["path_attributes"]}
        hop = first[3] if 3 in first else first[14]["next_hop"][0]
        network = ipaddress.ip_network(f"{data['prefix']}/{data['length']}", strict=False)
        found.append((str(network), hop))
    wanted = [(str(ipaddress.ip_network(prefix)), hop) for prefix, hop in ROUTES]
    assert found == wanted


def test_what_bgpdump_prints_of_it_is_the_same_table(tmp_path):
    bgpdump = shutil.which("bgpdump") or os.environ.get("WIRESPEED_BGPDUMP")
    if not bgpdump:
        pytest.skip("bgpdump is not installed; or set WIRESPEED_BGPDUMP")
    path = tmp_path / "rib"
    path.write_bytes(SMALL)
    run = subprocess.run([bgpdump, "-m", str(path)], capture_output=True, check=True)
    (tmp_path / "text").write_bytes(run.stdout)
    file, text = read_routes(path), read_routes(tmp_path / "text")
    assert text.form == "bgpdump"
    assert text.addresses.tolist() == file.addresses.tolist()
    assert text.lengths6.tolist() == file.lengths6.tolist()
    assert text.addresses6.tolist() == file.addresses6.tolist()
    assert text.next_hops == file.next_hops
