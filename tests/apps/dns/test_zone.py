"""Zone files: what is in them, and where what is wrong with them."""

import random

import pytest

from wirespeed.apps.dns import zone as module
from wirespeed.apps.dns.zone import DnsError, is_within, name_text, plain_name, read_zone, records

SOA = "$TTL 60\n@ IN SOA ns1 host 1 2 3 4 5\n@ IN NS ns1\n"


def read(tmp_path, text, origin="example.com"):
    file = tmp_path / "a.zone"
    file.write_text(text)
    return read_zone(file, origin)


def wire(text):
    return plain_name(text + ".", b"")


def test_names_and_records(tmp_path):
    zone = read(tmp_path, SOA + 'WWW 7 A 192.0.2.1\n    AAAA 2001:db8::1\nodd TXT "a b" c\nother TYPE999 \\# 2 0102\n')
    assert zone.origin == wire("example.com")
    assert list(records(zone.names[wire("www.example.com")])) == [
        (1, 7, bytes([192, 0, 2, 1])), (28, 60, bytes.fromhex("20010db8000000000000000000000001")),
    ]  # fmt: skip
    assert list(records(zone.names[wire("odd.example.com")])) == [(16, 60, b"\3a b\1c")]
    assert list(records(zone.names[wire("other.example.com")])) == [(999, 60, b"\1\2")]
    assert set(zone.names) == {wire(f"{name}example.com") for name in ("", "www.", "odd.", "other.")}


def test_the_file_says_its_origin(tmp_path):
    zone = read(tmp_path, "$ORIGIN example.net.\n" + SOA + "a A 192.0.2.1\n$ORIGIN sub\nb A 192.0.2.2\n", None)
    assert [name_text(name) for name in zone.names] == ["example.net.", "a.example.net.", "b.sub.example.net."]


def test_generate_and_include(tmp_path):
    (tmp_path / "more").write_text("c A 192.0.2.3\n")
    zone = read(tmp_path, f"{SOA}$GENERATE 1-3 h$ A 192.0.2.$\n$INCLUDE {tmp_path}/more\nd A 192.0.2.4\n")
    assert {name_text(name).partition(".")[0] for name in zone.names} == {"example", "h1", "h2", "h3", "c", "d"}


@pytest.mark.parametrize(
    ("lines", "line", "reason"),
    [
        ("a IN A 192.0.2.256\n", 4, "Text input is malformed: a IN A 192.0.2.256"),
        ("b A 192.0.2.1\na IN A 192.0.2\nc A 192.0.2.1\n", 5, "malformed: a IN A 192.0.2$"),
        ("a IN AAAA ::g\n", 4, "Text input is malformed"),
        ("a IN NONSENSE 1\n", 4, "unknown rdatatype 'NONSENSE'"),
        ("; one\n\na CNAME b\na A 192.0.2.1\n", 7, "a.example.com. has a CNAME record and others"),
        ("a A 192.0.2.1\na CNAME b\n", 5, "a.example.com. has a CNAME record and others"),
        ("a.example.org. A 192.0.2.1\n", 4, "a.example.org. is not in the zone example.com."),
        ("a MX ten mail\n", 4, "expecting an identifier|expecting an integer"),
        ("a TXT (\n b\n c\nd A 192.0.2.1\n", 4, "unbalanced parentheses"),
        ('a TXT "open\n', 4, "quoted"),
        ("@ SOA ns1 host 1 2 3 4 5\n", 4, "a second SOA record of example.com."),
        ("a SOA ns1 host 1 2 3 4 5\n", 4, "a SOA record of a.example.com. in the zone example.com."),
        ("a DNAME b\n", 4, "DNAME records are not served"),
        ("a A 192.0.2.1\na RRSIG A 8 2 60 20300101000000 20200101000000 1 @ AAAA\n", 5, "signed zones are not served"),
        ("$TTL soon\n", 4, "soon"),
        ("$MAYBE 1\n", 4, "MAYBE"),
        (f"{'a' * 64} A 192.0.2.1\n", 4, "label is > 63|> 63"),
        ("a TYPE255 \\# 0\n", 4, "type 255 is of questions"),
    ],
)
def test_errors_say_where(tmp_path, lines, line, reason):
    with pytest.raises(DnsError, match=reason) as caught:
        read(tmp_path, SOA + lines)
    assert str(caught.value).startswith(f"{tmp_path}/a.zone:{line}: ")


def test_no_zone(tmp_path):
    with pytest.raises(DnsError, match="no SOA record"):
        read(tmp_path, "; nothing\n")
    with pytest.raises(DnsError, match=r"a\.zone:1: the first record of a zone is its SOA record"):
        read(tmp_path, "a 60 A 192.0.2.1\n")
    with pytest.raises(DnsError, match="has no NS record"):
        read(tmp_path, "@ 60 SOA ns1 host 1 2 3 4 5\n")
    with pytest.raises(DnsError, match="cannot read the zone file"):
        read_zone(tmp_path / "absent")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DnsError, match="cannot read the zone file"):
        read_zone(tmp_path / "binary")


def test_plain_lines_are_what_dnspython_reads(tmp_path, monkeypatch):
    """Whatever a line looks like, the short way and the long one give the same zone."""
    chosen = random.Random(5)
    owners = ["a", "B.c", "*.d", "_x", "f.example.com.", "@", " ", "g.h.i", "\\101bc"]
    kinds = [
        "A 192.0.2.{}",
        "AAAA 2001:db8::{}",
        "NS ns{}.x",
        "TXT {}",
        "MX {} mail",
        "A  192.0.2.{}  ",
        "A 192.0.2.{} ;c",
    ]
    lines = [SOA]
    for number in range(300):
        ttl = chosen.choice(("", "", "30 ", "1h "))
        middle = chosen.choice(("", "IN ", "IN\t"))
        lines.append(f"{chosen.choice(owners)}\t{ttl}{middle}{chosen.choice(kinds).format(number % 250)}\n")
        if number % 50 == 20:
            lines.append(chosen.choice(("$TTL 90\n", "$ORIGIN sub.example.com.\n", "\n", "; said\n")))
    lines.append("z CNAME a")
    short = read(tmp_path, "".join(lines))
    monkeypatch.setattr(module, "_PLAIN", module.re.compile("(?!)"))
    assert short.names == read(tmp_path, "".join(lines)).names
    assert len(short.names) > 10


def test_within():
    origin = wire("example.com")
    assert is_within(origin, origin) and is_within(wire("a.example.com"), origin)
    assert not is_within(wire("com"), origin)
    assert not is_within(wire("ample.com"), origin)
    assert not is_within(b"\x14three.then\x07example\x03com\0"[:-13] + origin[1:], origin)
    assert is_within(wire("a"), b"\0")
