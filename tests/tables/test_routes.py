"""Files of prefixes."""

import gzip

import pytest

from wirespeed.errors import TableError
from wirespeed.tables.prefix import prefix_text
from wirespeed.tables.routes import load_routes

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
