"""Toeplitz hash, against Microsoft's verification suite.

Vectors: "Verifying the RSS hash calculation", Windows driver documentation (NDIS).
"""

import ipaddress
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.tables.toeplitz import MICROSOFT_KEY, Toeplitz, ToeplitzView, random_key, symmetric_key

V4 = [  # destination, port, source, port, addresses only, with TCP ports
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
]
V6 = [
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
]


@kernel
def compiled_v4(table, src, dst, sport, dport):
    return ToeplitzView(table).hash_v4(src, dst, sport, dport)


@kernel
def compiled_v4_addresses(table, src, dst):
    return ToeplitzView(table).hash_v4(src, dst)


@kernel
def compiled_v6(table, src, dst, sport, dport):
    return ToeplitzView(table).hash_v6(src, dst, sport, dport)


def v4(text):
    return int(ipaddress.IPv4Address(text))


def v6(text):
    """A pair of int64, as an IPv6 field reads."""
    raw = ipaddress.IPv6Address(text).packed
    return tuple(int.from_bytes(raw[i : i + 8], "big", signed=True) for i in (0, 8))


@pytest.fixture(scope="module")
def table():
    with Toeplitz() as table:
        yield table


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "ports"), V4)
def test_v4(table, dst, dport, src, sport, addresses, ports):
    assert table.hash_v4(v4(src), v4(dst)) == addresses
    assert table.hash_v4(v4(src), v4(dst), sport, dport) == ports
    assert compiled_v4(table.address, v4(src), v4(dst), sport, dport) == ports
    assert compiled_v4_addresses(table.address, v4(src), v4(dst)) == addresses


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "ports"), V6)
def test_v6(table, dst, dport, src, sport, addresses, ports):
    assert table.hash_v6(v6(src), v6(dst)) == addresses
    assert table.hash_v6(v6(src), v6(dst), sport, dport) == ports
    assert compiled_v6(table.address, v6(src), v6(dst), sport, dport) == ports


def test_symmetric_key_hashes_both_directions_the_same(table):
    with Toeplitz(symmetric=True) as both:
        for dst, dport, src, sport, *_ in V4:
            there = both.hash_v4(v4(src), v4(dst), sport, dport)
            assert there == both.hash_v4(v4(dst), v4(src), dport, sport)
            assert there != 0
            assert table.hash_v4(v4(src), v4(dst), sport, dport) != table.hash_v4(v4(dst), v4(src), dport, sport)
        for dst, dport, src, sport, *_ in V6:
            there = both.hash_v6(v6(src), v6(dst), sport, dport)
            assert there == both.hash_v6(v6(dst), v6(src), dport, sport)


def test_bad_keys():
    for key in (MICROSOFT_KEY[:39], b"", bytes(4), bytes(1028)):
        with pytest.raises(TableError, match=f"{len(key)} bytes is not possible"):
            Toeplitz(key)
    with pytest.raises(TableError, match="one of them"):
        Toeplitz(MICROSOFT_KEY, symmetric=True)


def model(key, data):
    """Microsoft's pseudo code: for each set bit of the input, the leftmost 32 bits of the shifting key."""
    bits, result = int.from_bytes(key, "big"), 0
    for at in range(len(data) * 8):
        if data[at // 8] >> 7 - at % 8 & 1:
            result ^= bits >> len(key) * 8 - 32 - at & 0xFFFF_FFFF
    return result


@settings(max_examples=60 if COMPILED else 15)
@given(st.binary(min_size=2, max_size=16), st.data())
def test_any_key_and_length(words, draw):
    key = (words * 4)[: len(words) * 4]
    data = draw.draw(st.binary(max_size=len(key) - 4))
    with Toeplitz(key) as table:
        assert table.hash(data) == model(key, data)


def test_bulk(table):
    random = np.random.default_rng(7)
    tuples = random.integers(0, 256, (64, 36), dtype=np.uint8)
    for length in (36, 12, 8, 13, 32, 1):
        assert table.hash_many(tuples[:, :length]).tolist() == [
            model(MICROSOFT_KEY, bytes(row[:length])) for row in tuples
        ]
    src, dst = random.integers(0, 1 << 32, (2, 20), dtype=np.uint32)
    sport, dport = random.integers(0, 1 << 16, (2, 20), dtype=np.uint16)
    one_by_one = [table.hash_v4(*map(int, flow)) for flow in zip(src, dst, sport, dport, strict=True)]
    assert table.hash_v4_many(src, dst, sport, dport).tolist() == one_by_one


def test_addresses_as_anything(table):
    expect = table.hash_v4(v4("66.9.149.187"), v4("161.142.100.80"))
    assert table.hash_v4("66.9.149.187", ipaddress.ip_address("161.142.100.80")) == expect == 0x323E8FC2
    src, dst = "3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1"
    assert table.hash_v6(src, dst) == table.hash_v6(ipaddress.ip_address(src), v6(dst)) == 0x2CC18CD5
    with pytest.raises(TableError, match="no IPv6 address"):
        table.hash_v6("10.0.0.1", dst)


def test_too_long(table):
    with pytest.raises(TableError, match="37 bytes cannot be hashed with a key of 40: at most 36"):
        table.hash(bytes(37))
    with Toeplitz(bytes(12)) as short:
        assert short.hash_v4(1, 2) == 0
        with pytest.raises(TableError, match="12 bytes cannot be hashed"):
            short.hash_v4(1, 2, 3)
        with pytest.raises(TableError, match="at most 8"):
            short.hash_v6((1, 2), (3, 4))


def test_generated_keys():
    assert len(random_key(52)) == 52
    assert random_key() != random_key()
    for length in (40, 52):
        with Toeplitz(symmetric_key(length)) as table:
            there = {table.hash_v4(src, dst, 1000, 80) for src in range(64) for dst in range(64, 128)}
            back = {table.hash_v4(dst, src, 80, 1000) for src in range(64) for dst in range(64, 128)}
            assert there == back
            assert table.hash_v6((1, 2), (3, 4), 5, 6) == table.hash_v6((3, 4), (1, 2), 6, 5)
    assert symmetric_key(40, 0x6D5A) == bytes.fromhex("6d5a") * 20


def test_a_symmetric_key_keeps_sixteen_bits():
    with Toeplitz(symmetric_key()) as table:
        every = np.arange(65536, dtype=">u2").view(np.uint8).reshape(-1, 2)
        every = every if COMPILED else every[::257]
        assert len(np.unique(table.hash_many(every))) == len(every)
    for pattern in (0x5555, 0, 1 << 16):
        with pytest.raises(TableError, match="odd number"):
            symmetric_key(40, pattern)


def test_attached_by_another_process():
    code = (
        "import wirespeed.tables.toeplitz as t; h = t.Toeplitz.attach('rss-test');"
        "print(hex(h.hash_v4('66.9.149.187', '161.142.100.80', 2794, 1766)), h.key.hex(), h.writable)"
    )
    with Toeplitz(name="rss-test"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["0x51ccc178", MICROSOFT_KEY.hex(), "False"]
