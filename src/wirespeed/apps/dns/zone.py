"""A zone: names and their records, from a master file (RFC 1035 section 5).

dnspython reads the file: directives, parentheses, escapes, all types, unknown ones too (RFC 3597). A large zone is
mostly lines of one plain form, ``name [ttl] [IN] A|AAAA|NS|CNAME data``; those are read here, some thirty times faster,
and never reach dnspython; whatever is not quite so does.

Names are bytes in wire form, owners in lower case. A name's records are kept in one bytes object, as a large zone has a
million of them::

    type(2)  TTL(4)  length(2)  data,  and the next
"""

import re
import socket
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.exception
import dns.name
import dns.rdataclass
import dns.tokenizer
import dns.zonefile

from wirespeed.errors import WirespeedError
from wirespeed.wire.dns import (
    LABEL_MAX,
    NAME_MAX,
    TYPE_A,
    TYPE_AAAA,
    TYPE_ANY,
    TYPE_CNAME,
    TYPE_DNAME,
    TYPE_DNSKEY,
    TYPE_NS,
    TYPE_OPT,
    TYPE_RRSIG,
    TYPE_SOA,
)

RECORD = struct.Struct(">HIH")
TTL_MAX: int = (1 << 31) - 1
"""RFC 2181 section 8."""

_NSEC, _NSEC3, _NSEC3PARAM = 47, 50, 51
_REFUSED = {
    TYPE_DNAME: "DNAME records are not served",
    **dict.fromkeys((TYPE_RRSIG, TYPE_DNSKEY, _NSEC, _NSEC3, _NSEC3PARAM), "signed zones are not served"),
}
_PLAIN = re.compile(
    r"([A-Za-z0-9_*][A-Za-z0-9_.*-]*)[ \t]+(?:([0-9]+)[ \t]+)?(?:IN[ \t]+)?"
    r"(?:A[ \t]+([0-9.]+)|AAAA[ \t]+([0-9a-fA-F:.]+)|(NS|CNAME)[ \t]+([A-Za-z0-9_*][A-Za-z0-9_.*-]*))[ \t]*\n"
)
_LENGTHS = [bytes((length,)) for length in range(LABEL_MAX + 1)]


class DnsError(WirespeedError):
    """A zone file that cannot be served, with its line."""


class Zone:
    """A zone's names and records.

    Attributes:
        origin: its name; ``names`` has it.
        names: records by name; see :func:`records`.
        source: the file, for messages.
    """

    def __init__(self, origin: bytes, names: dict[bytes, bytes], source: str) -> None:
        self.origin, self.names, self.source = origin, names, source

    def __repr__(self) -> str:
        return f"<Zone {name_text(self.origin)}: {len(self.names):,} names>"


def records(packed: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, TTL and data of each record of a name."""
    at = 0
    while at < len(packed):
        kind, ttl, length = RECORD.unpack_from(packed, at)
        at += RECORD.size
        yield kind, ttl, packed[at : at + length]
        at += length


def name_text(wire: bytes) -> str:
    """A name as one writes it."""
    return dns.name.from_wire(wire, 0)[0].to_text()


def is_within(name: bytes, origin: bytes) -> bool:
    """Whether a name is the origin or below it."""
    excess, at = len(name) - len(origin), 0
    while at < excess:
        at += name[at] + 1
    return at == excess and name.endswith(origin)


def plain_name(text: str, origin: bytes) -> bytes | None:
    """The wire form of a name without escapes; None if it is none."""
    if text[-1] == ".":
        text, origin = text[:-1], b"\0"
    parts = []
    for label in text.encode().split(b"."):
        if not 0 < len(label) <= LABEL_MAX:
            return None
        parts.append(_LENGTHS[len(label)] + label)
    parts.append(origin)
    wire = b"".join(parts)
    return wire if len(wire) <= NAME_MAX else None


class _Sink:
    """What dnspython's reader takes for a transaction."""

    def __init__(self, start: dns.name.Name) -> None:
        self.manager = self
        self.start = start
        self.origin = b""
        self.names: dict[bytes, bytes] = {}

    def origin_information(self) -> tuple[dns.name.Name, bool, dns.name.Name]:
        return self.start, False, self.start

    def check_put_rdataset(self, check: Any) -> None:
        """What has to be checked is checked in :meth:`put`."""

    def _set_origin(self, origin: Any) -> None:
        """A zone is what its SOA record says."""

    def add_unicode(self, attribute: str) -> None:
        """Of no meaning in wire form."""

    def add(self, name: dns.name.Name, ttl: int, data: Any) -> None:
        owner, wire = name.to_wire(), data.to_wire()
        assert owner is not None
        if not self.origin:
            if int(data.rdtype) != TYPE_SOA:
                raise DnsError("the first record of a zone is its SOA record, RFC 1035 section 5.2")
            self.origin = owner.lower()
        self.put(owner.lower(), int(data.rdtype), ttl, wire)

    def put(self, owner: bytes, kind: int, ttl: int, data: bytes) -> None:
        """Add a record. Raises DnsError, without the line."""
        if kind in (0, TYPE_OPT) or 128 <= kind <= TYPE_ANY:
            raise DnsError(f"type {kind} is of questions or of messages, RFC 6895 section 3.1: no zone has one")
        packed = RECORD.pack(kind, ttl, len(data)) + data
        known = self.names.get(owner)
        if known is None:
            if not is_within(owner, self.origin):
                raise DnsError(f"{name_text(owner)} is not in the zone {name_text(self.origin)}")
            self.names[owner] = packed
        else:
            first = known[0] << 8 | known[1]
            if first == TYPE_CNAME or kind == TYPE_CNAME:
                if first == kind and known[RECORD.size :] == data:
                    return
                raise DnsError(f"{name_text(owner)} has a CNAME record and others, RFC 1034 section 3.6.2")
            if kind == TYPE_SOA and owner == self.origin:
                raise DnsError(f"a second SOA record of {name_text(owner)}")
            self.names[owner] = known + packed
        if kind in _REFUSED:
            raise DnsError(_REFUSED[kind])
        if kind == TYPE_SOA and owner != self.origin:
            raise DnsError(f"a SOA record of {name_text(owner)} in the zone {name_text(self.origin)}")


class _Lines:
    """A file's characters for dnspython's tokenizer, without the lines of the plain form."""

    def __init__(self, file: Any, sink: _Sink) -> None:
        self.file, self.sink = file, sink
        self.number = 0  # of the line that the last character is from
        self.line, self.at = "", 0
        self.suffix, self.known = b"", dns.name.empty
        self.tok: dns.tokenizer.Tokenizer
        self.reader: _Reader

    def read(self, count: int) -> str:
        """The next character."""
        if self.at >= len(self.line):
            self.line, self.at = self._next(), 0
            self.tok.line_number = max(self.number, 1)
        self.at += 1
        return self.line[self.at - 1 : self.at]

    def _next(self) -> str:
        """The next line that is dnspython's; those before it are taken."""
        plain = self.tok.multiline == 0 and not self.tok.quoting and self.sink.origin
        last, line = b"", ""
        for line in self.file:
            self.number += 1
            found = _PLAIN.fullmatch(line) if plain else None
            name = self._take(*found.groups()) if found else None
            if name is None:
                break
            last = name
        else:
            line = ""
        if last:
            self.reader.last_name = dns.name.from_wire(last, 0)[0]
        return line

    def _take(
        self, owner: str, seconds: str | None, four: str | None, six: str | None, kind: str | None, target: str | None
    ) -> bytes | None:
        """Take a plain line; the owner's name, or None: dnspython is to look at it."""
        reader = self.reader
        if reader.current_origin is not self.known:
            assert reader.current_origin is not None  # a SOA record has been read
            self.known = reader.current_origin
            self.suffix = self.known.to_wire() or b""
        name = plain_name(owner, self.suffix)
        ttl = int(seconds) if seconds else reader._implicit_ttl()
        if name is None or ttl is None or ttl > TTL_MAX:
            return None
        try:
            if four:
                code, data = TYPE_A, socket.inet_pton(socket.AF_INET, four)
            elif six:
                code, data = TYPE_AAAA, socket.inet_pton(socket.AF_INET6, six)
            else:
                wire = plain_name(target or "", self.suffix)
                if wire is None:
                    return None
                code, data = TYPE_NS if kind == "NS" else TYPE_CNAME, wire
        except OSError:
            return None
        if seconds:
            reader.last_ttl, reader.last_ttl_known = ttl, True
        self.sink.put(name.lower(), code, ttl, data)
        return name


class _Reader(dns.zonefile.Reader):
    """dnspython's reader, which tells where a record begins."""

    lines: _Lines

    def where(self) -> str:
        """File and line of what is being read."""
        file, line = self.tok.where()
        return f"{file}:{self.lines.number if self.tok is self.lines.tok else line}"

    def shown(self) -> str:
        """The line that is being read, for messages."""
        return f": {self.lines.line.strip()}" if self.tok is self.lines.tok else ""

    def _rr_line(self) -> None:
        begun, shown = self.where(), self.shown()
        try:
            super()._rr_line()
        except dns.exception.DNSException as error:
            raise _Said(f"{begun}: {_reason(error)}{shown}") from None
        except DnsError as error:
            raise _Said(f"{begun}: {error}") from None


class _Said(Exception):
    """An error whose place is known; not one of those that dnspython gives another place."""


def _reason(error: Exception) -> str:
    text = str(error) or type(error).__name__
    return re.sub(r"^caught exception <class '[^']*\.(\w+)'>:", r"\1:", text).rstrip(".")


def read_zone(path: str | Path, origin: str | None = None) -> Zone:
    """Read a zone file.

    Args:
        path: the file.
        origin: name that names in the file are relative to until ``$ORIGIN`` says another.

    Raises:
        DnsError: the file cannot be read, or cannot be served; with its line.
    """
    source = str(path)
    try:
        start = dns.name.from_text(origin) if origin else dns.name.root
    except dns.exception.DNSException as error:
        raise DnsError(f"{origin!r} is no name: {error}") from None
    sink = _Sink(start)
    try:
        with open(path, encoding="utf-8") as file:
            lines = _Lines(file, sink)
            lines.tok = dns.tokenizer.Tokenizer(lines, source)
            reader = _Reader(lines.tok, dns.rdataclass.IN, sink, allow_include=True)  # type: ignore[arg-type]
            reader.lines = lines
            lines.reader = reader
            try:
                reader.read()
            except dns.exception.DNSException as error:
                text = re.sub(rf"^{re.escape(reader.tok.filename)}:\d+: ", "", _reason(error))
                raise DnsError(f"{reader.where()}: {text}{reader.shown()}") from None
            except DnsError as error:
                raise DnsError(f"{reader.where()}: {error}") from None
            except _Said as error:
                raise DnsError(str(error)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise DnsError(f"cannot read the zone file {source}: {error}") from None
    return _checked(sink, source)


def _checked(sink: _Sink, source: str) -> Zone:
    if not sink.origin:
        raise DnsError(f"{source}: no SOA record: this is no zone")
    if TYPE_NS not in {kind for kind, _, _ in records(sink.names[sink.origin])}:
        raise DnsError(f"{source}: {name_text(sink.origin)} has no NS record, RFC 1034 section 4.2.1")
    return Zone(sink.origin, sink.names, source)


__all__ = ["RECORD", "TTL_MAX", "DnsError", "Zone", "is_within", "name_text", "plain_name", "read_zone", "records"]
