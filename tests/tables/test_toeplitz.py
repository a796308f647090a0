"""Toeplitz hash, against Microsoft's verification suite.

Vectors: "Verifying the RSS hash calculation", Windows driver documentation (NDIS).
"""

import ipaddress

import pytest

from wirespeed.errors import TableError
from wirespeed.jit import kernel
from wirespeed.tables.toeplitz import MICROSOFT_KEY, Toeplitz, ToeplitzView

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
    with pytest.raises(TableError, match="39 bytes"):
        Toeplitz(MICROSOFT_KEY[:39])
    with pytest.raises(TableError, match="one of them"):
        Toeplitz(MICROSOFT_KEY, symmetric=True)
