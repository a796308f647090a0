"""Files of prefixes and of bgpdump's lines; tests/tables/test_routes_mrt.py has MRT."""

import bz2
import gzip
import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.tables.lpm6 import Lpm6
from wirespeed.tables.prefix import prefix_text
from wirespeed.tables.prefix6 import prefix_text6
from wirespeed.tables.routes import load_routes, read_routes
from wirespeed.tables.routes_save import save_bgpdump, save_prefixes

TEXT = (
    b"# a comment: with a colon\n1.0.0.0/24\n\n  \n 10.0.0.0/8\tvia 192.0.2.1\r\n2001:db8::/32\n"
    b"0.0.0.0/0\n255.255.255.255/32"
)
FOUND = ["1.0.0.0/24", "10.0.0.0/8", "0.0.0.0/0", "255.255.255.255/32"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_reads_plain_and_gzip(tmp_path, pack):
    path = tmp_path / "routes"
    path.write_bytes(pack(TEXT))
    addresses, lengths, skipped = load_routes(path)
    keys = (int(address) << 6 | int(length) for address, length in zip(addresses, lengths, strict=True))
    assert [prefix_text(key) for key in keys] == FOUND
    assert skipped == 1
    assert (addresses.dtype, lengths.dtype) == ("uint32", "uint8")


def test_empty(tmp_path):
    path = tmp_path / "routes"
    path.write_bytes(b"")
    addresses, lengths, skipped = load_routes(str(path))
    assert (len(addresses), len(lengths), skipped) == (0, 0, 0)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1.0.0/24", "not an IPv4 address"),
        ("1.0.0.0", "not a prefix"),
        ("1.0.0.0/", "no length"),
        ("1.0.0.256/32", "not an IPv4 address"),
        ("1.0.0.0.0/8", "not an IPv4 address"),
        ("1..0.0/8", "not an IPv4 address"),
        ("1.0.0.0/33", "length 33"),
        ("1.0.0.0/8/8", "no length"),
        ("1.0.0.1/24", "host bits set: did you mean 1.0.0.0/24"),
        ("10.0.0.0/8,5", "no length"),
        ("rubbish", "not an IPv4 address"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, reason):
    path = tmp_path / "routes"
    path.write_text(f"1.0.0.0/24\n# second\n{line}\n2.0.0.0/8\n")
    with pytest.raises(TableError, match=f"routes, line 3: .*{reason}"):
        load_routes(path)


def test_missing_and_broken_files(tmp_path):
    with pytest.raises(TableError, match="cannot read routes"):
        load_routes(tmp_path / "none")
    broken = tmp_path / "broken.gz"
    broken.write_bytes(gzip.compress(TEXT)[:-12])
    with pytest.raises(TableError, match="cannot read routes"):
        load_routes(broken)


# Both families, and next hops ---------------------------------------------------------------------------


def text_of(file):
    """[(prefix, next hop)] of a file: IPv4 first."""
    names = file.next_hops or range(1 << 30)
    four = zip(file.addresses.tolist(), file.lengths.tolist(), file.hops.tolist(), strict=True)
    six = zip(file.addresses6.tolist(), file.lengths6.tolist(), file.hops6.tolist(), strict=True)
    return [(prefix_text(address << 6 | length), names[hop]) for address, length, hop in four] + [
        (prefix_text6(high, low, length), names[hop]) for (high, low), length, hop in six
    ]


def read(tmp_path, data):
    path = tmp_path / "routes"
    path.write_bytes(data)
    return read_routes(path)


def test_next_hops_are_numbered_in_the_order_of_their_first_use(tmp_path):
    file = read(
        tmp_path,
        b"10.0.0.0/8 via 192.0.2.1 dev eth0\n10.1.0.0/16\t192.0.2.2\n2001:db8::/32 fe80::1\n10.2.0.0/16 192.0.2.1\n",
    )
    assert file.next_hops == ["192.0.2.1", "192.0.2.2", "fe80::1"]
    assert file.form == "prefixes"
    assert text_of(file) == [
        ("10.0.0.0/8", "192.0.2.1"), ("10.1.0.0/16", "192.0.2.2"), ("10.2.0.0/16", "192.0.2.1"),
        ("2001:db8::/32", "fe80::1"),
    ]  # fmt: skip
    assert repr(file) == "<prefixes: 3 IPv4 routes, 1 IPv6 routes, 3 next hops>"


@pytest.mark.parametrize(
    "text",
    ["::/0", "::/128", "::1/128", "1::/16", "2001:db8::/32", "2001:db8:0:1::/64", "1:2:3:4:5:6:7:8/128",
     "ff00::1:0/112", "1:2:3:4:5:6:7::/112", "::2:3:4:5:6:7:8/128", "1::3:4:5:6:7:8/128", "ABCD:ef01::/32",
     "::ffff:192.0.2.1/128", "0:0:0:0:0:0:0:0/0", "2001:db8:8000::/33", "fe80::/10", "::fffe/127"],
)  # fmt: skip
def test_ipv6_text(tmp_path, text):
    """Against inet_pton, which the kernel's parser is not."""
    file = read(tmp_path, f"{text} a\n".encode())
    network = ipaddress.ip_network(text)
    assert text_of(file) == [(str(prefix_text6(*_pair(network), network.prefixlen)), "a")]


def _pair(network):
    return int(network.network_address) >> 64, int(network.network_address) & (1 << 64) - 1


@pytest.mark.parametrize(
    "text",
    [":/0", ":::/0", "1/16", "1:/16", ":1/16", "1:2:3:4:5:6:7/64", "1:2:3:4:5:6:7:8:9/64", "1::2::3/64", "12345::/64",
     "1::g/64", "2001:db8::/129", "2001:db8::/", "2001:db8::", "2001:db8::1/64", "2001:db8:4000::/33",
     "1:2:3:4:5:6:7:8::/128", "::1:2:3:4:5:6:7:8/128", "2001:db8::/1x", "2001:db8::@/64"],
)  # fmt: skip
def test_bad_ipv6_is_named(tmp_path, text):
    with pytest.raises(TableError, match=r"routes, line 2: "):
        read(tmp_path, f"1.0.0.0/24\n{text}\n".encode())


@settings(max_examples=200 if COMPILED else 40)
@given(st.lists(st.tuples(st.integers(0, (1 << 128) - 1), st.integers(0, 128), st.integers(0, 10**9 - 1)), max_size=9))
def test_what_a_table_saves_is_read_back(tmp_path, routes):
    path = tmp_path / "saved.gz"
    wanted = [
        (str(ipaddress.IPv6Network((address >> (128 - length) << (128 - length), length))), hop)
        for address, length, hop in routes
    ]
    save_prefixes(path, wanted)
    file = read_routes(path)
    found = [(str(ipaddress.IPv6Network(prefix)), hop) for prefix, hop in text_of(file)]
    assert found == wanted
    assert file.next_hops == []


def test_a_table_is_saved_and_loaded(tmp_path):
    with Lpm6(routes=10) as table, Lpm6(routes=10) as other:
        table.add_many(["2001:db8::/32", "2001:db8:1::/48", "fe80::1/128"], [7, 0, 12345])
        table.save(tmp_path / "table.txt")
        assert (tmp_path / "table.txt").read_text() == "2001:db8::/32 7\n2001:db8:1::/48 0\nfe80::1/128 12345\n"
        file = read_routes(tmp_path / "table.txt")
        other.add_many((file.addresses6, file.lengths6), file.hops6)
        assert list(other) == list(table)
        with pytest.raises(TableError, match="cannot write routes"):
            table.save(tmp_path / "none" / "table.txt")
    assert [path.name for path in tmp_path.iterdir()] == ["table.txt"]


DUMP = b"""\
TABLE_DUMP2|1668384000|B|192.0.2.1|64500|1.0.0.0/24|64500 13335|IGP|192.0.2.1|0|0||NAG|13335 10.34.0.1|
TABLE_DUMP2|1668384000|B|192.0.2.2|64501|1.0.0.0/24|64501 13335|IGP|192.0.2.2|0|0||NAG||
TABLE_DUMP2|1668384000|B|2001:db8::2|64501|2001:db8:5::/48|64501|IGP|2001:db8::2|0|0||NAG||
TABLE_DUMP2|1668384000|B|192.0.2.2|64501|1.0.4.0/22|64501|IGP|192.0.2.2|0|0||NAG||
"""


def test_bgpdump_lines(tmp_path):
    """Of one prefix's lines the first counts. The form is that of bgpdump 1.6's ``-m`` (its man page)."""
    file = read(tmp_path, DUMP)
    assert (file.form, file.next_hops) == ("bgpdump", ["192.0.2.1", "2001:db8::2", "192.0.2.2"])
    routes = [("1.0.0.0/24", "192.0.2.1"), ("1.0.4.0/22", "192.0.2.2"), ("2001:db8:5::/48", "2001:db8::2")]
    assert text_of(file) == routes
    save_bgpdump(tmp_path / "again.gz", routes)
    again = read_routes(tmp_path / "again.gz")
    assert (again.form, text_of(again)) == ("bgpdump", routes)


@pytest.mark.parametrize(
    "line", [b"TABLE_DUMP2|1|B|", b"TABLE_DUMP2|1|B|a|1||1|IGP|b|0", b"TABLE_DUMP2|1|B|a|1|x/8|1|IGP|b|0"]
)
def test_a_bad_bgpdump_line_is_named(tmp_path, line):
    with pytest.raises(TableError, match=r"routes, line 5: .* is not a"):
        read(tmp_path, DUMP + b"TABLE_DUMP2|" + line + b"\n")


def test_a_next_hop_of_many_bytes(tmp_path):
    with pytest.raises(TableError, match=r"line 1: the next hop of 10\.0\.0\.0/8 has 100 bytes: at most 64"):
        read(tmp_path, b"10.0.0.0/8 " + b"x" * 100)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_broken_archives(tmp_path, pack):
    assert read(tmp_path, pack(TEXT)).addresses[0] == 1 << 24
    with pytest.raises(TableError, match="cannot read routes"):
        read(tmp_path, pack(TEXT)[:-12])
    with pytest.raises(TableError, match="cannot read routes"):
        read(tmp_path, pack(TEXT)[:20] + b"rubbish" + pack(TEXT)[27:])
