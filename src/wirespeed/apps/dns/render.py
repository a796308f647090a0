"""Answers in wire form: the records of one question, rendered before anybody asks it.

::

    0   bytes of records (15), ALIKE (1)    counts as in a message: answer, authority, additional (3 x 16)
    8   the records, as they follow a question whose name is the owner
    .   at an even offset: bytes of the owner; how many pointers; where each is

If the records are all the owner's and have no names in their data that could be pointers, nearly all, it is shorter::

    0   bytes of records (15), ALIKE (1)    count: answer (16)
    4   the records

A positive answer has the records asked for and nothing else: what a resolver can ask for is no use to it unasked, and
of use to who has others flooded with answers. A referral has the delegation's NS records and their addresses (RFC
9471); a negative answer the SOA record, its TTL at most its last field (RFC 2308 section 3). Names are compressed in
the types of RFC 1035 only (RFC 3597 section 4).
"""

import struct
from collections.abc import Iterable, Mapping

from wirespeed.apps.dns.answer import ALIKE
from wirespeed.apps.dns.zone import DnsError, name_text, records
from wirespeed.wire.dns import CLASS_IN, QUESTION, TYPE_A, TYPE_AAAA, TYPE_CNAME, TYPE_MX, TYPE_NS, TYPE_PTR, TYPE_SOA

ANSWER_MAX: int = 32_767
"""Bytes of an answer's records."""
ADDITIONAL_MAX: int = 64
"""Additional records of a referral."""

_HEAD = struct.Struct("<H")
_COUNTS = struct.Struct(">3H")
_TRAILER = struct.Struct("<2H")
_RECORD = struct.Struct(">HHIH")
_ALIKE_RECORD = struct.Struct(">HHHIH")
_TO_OWNER = 0xC000 | QUESTION
_TARGET_AT = 0x2000  # pointers have 14 bits, and an answer may follow a chain of aliases
_NAMES_AT = {TYPE_NS: 0, TYPE_CNAME: 0, TYPE_PTR: 0, TYPE_MX: 2}

RRset = dict[bytes, int]
"""Records of a name and type: TTL by data."""


def grouped(packed: bytes) -> dict[int, RRset]:
    """A name's records by type. Equal ones are one (RFC 2181 section 5)."""
    found: dict[int, RRset] = {}
    for kind, ttl, data in records(packed):
        found.setdefault(kind, {}).setdefault(data, ttl)
    return found


class Writer:
    """Writes one answer.

    Args:
        owner: name of the question, in lower case.
    """

    def __init__(self, owner: bytes) -> None:
        self.owner = owner
        self.out = bytearray()
        self.pointers: list[int] = []
        self.counts = [0, 0, 0]
        self.behind = QUESTION + len(owner) + 4
        self._wild = owner.startswith(b"\1*")  # then a pointer to it is to the name asked for: no name in data is that
        self._places: dict[bytes, int] = {}
        at = 0
        while owner[at]:
            self._places[owner[at:]] = QUESTION + at
            at += owner[at] + 1

    def record(self, section: int, owner: bytes, kind: int, ttl: int, data: bytes) -> None:
        """Append a record of ``owner``."""
        self.counts[section] += 1
        self._name(owner)
        out, at = self.out, len(self.out) + 8
        out += _RECORD.pack(kind, CLASS_IN, ttl, 0)
        if kind == TYPE_SOA:
            middle = _end_of_name(data, 0)
            self._name(data[:middle], True)
            self._name(data[middle:-20], True)
            out += data[-20:]
        elif kind in _NAMES_AT:
            start = _NAMES_AT[kind]
            out += data[:start]
            self._name(data[start:], True)
        else:
            out += data
        struct.pack_into(">H", out, at, len(out) - at - 2)

    def rrset(self, section: int, owner: bytes, kind: int, rrset: RRset) -> None:
        """Append the records of a type: all with the least TTL of them (RFC 2181 section 5.2)."""
        ttl = min(rrset.values())
        for data in rrset:
            self.record(section, owner, kind, ttl, data)

    def addresses(self, names: Iterable[bytes], zone: Mapping[bytes, bytes]) -> None:
        """Append the addresses of names, as far as the zone has them, to the additional section."""
        for name in dict.fromkeys(names):
            if name in zone:
                group = grouped(zone[name])
                for kind in (TYPE_A, TYPE_AAAA):
                    if kind in group and self.counts[2] + len(group[kind]) <= ADDITIONAL_MAX:
                        self.rrset(2, name, kind, group[kind])

    def done(self) -> bytes:
        """The answer. Raises DnsError: it is too long."""
        out, pointers = self.out, self.pointers
        return b"".join((
            _HEAD.pack(_checked(out, self.owner)), _COUNTS.pack(*self.counts), out, b"\0" * (len(out) & 1),
            _TRAILER.pack(len(self.owner), len(pointers)), struct.pack(f"<{len(pointers)}H", *pointers),
        ))  # fmt: skip

    def _name(self, name: bytes, of_data: bool = False) -> None:
        low, at = name.lower(), 0
        while name[at]:
            known = self._places.get(low[at:])
            if known is not None and not (of_data and self._wild and known == QUESTION):
                self.out += name[:at]
                self.pointers.append(len(self.out))
                self.out += struct.pack(">H", 0xC000 | known)
                return
            place = self.behind + len(self.out) + at
            if known is None and place < _TARGET_AT:
                self._places[low[at:]] = place
            at += name[at] + 1
        self.out += name


def _checked(out: bytes | bytearray, owner: bytes) -> int:
    """The bytes of an answer. Raises DnsError: they are too many."""
    if len(out) > ANSWER_MAX:
        raise DnsError(f"{name_text(owner)}: {len(out):,} bytes of records of one type: {ANSWER_MAX:,} are possible")
    return len(out)


def _end_of_name(data: bytes, at: int) -> int:
    while data[at]:
        at += data[at] + 1
    return at + 1


def positive(owner: bytes, kind: int, rrset: RRset) -> bytes:
    """The answer with the records of one type."""
    if kind in _NAMES_AT or kind == TYPE_SOA or owner == b"\0":  # the root is not longer than a pointer to it
        writer = Writer(owner)
        writer.rrset(0, owner, kind, rrset)
        return writer.done()
    ttl = min(rrset.values())
    out = b"".join([_ALIKE_RECORD.pack(_TO_OWNER, kind, CLASS_IN, ttl, len(data)) + data for data in rrset])
    return _HEAD.pack(_checked(out, owner) | ALIKE) + len(rrset).to_bytes(2) + out


def referral(owner: bytes, rrset: RRset, zone: Mapping[bytes, bytes]) -> bytes:
    """The answer for what is at or below a delegation."""
    writer = Writer(owner)
    writer.rrset(1, owner, TYPE_NS, rrset)
    writer.addresses((data.lower() for data in rrset), zone)
    return writer.done()


def negative(origin: bytes, soa: RRset) -> bytes:
    """The answer for what a zone does not have."""
    writer = Writer(origin)
    data, ttl = next(iter(soa.items()))
    writer.record(1, origin, TYPE_SOA, min(ttl, int.from_bytes(data[-4:], "big")), data)
    return writer.done()


__all__ = ["ANSWER_MAX", "RRset", "Writer", "grouped", "negative", "positive", "referral"]
