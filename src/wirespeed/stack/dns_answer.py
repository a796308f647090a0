"""One question to a DNS server and what its answer says (RFC 1035, 2308, 6891); dnspython reads and writes it.

Hostile answers: it counts only if it is an answer to exactly this question (number, name, type, class; RFC 5452
section 9.1), its chain of aliases is followed for ALIASES_MAX steps and only along its own records, and what it says
of other names is not looked at: nothing of it is cached, so nobody can slip in an address for a name not asked for.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from random import Random

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import dns.rrset

from wirespeed.errors import WirespeedError

IpAddress = IPv4Address | IPv6Address

ALIASES_MAX: int = 8
PAYLOAD_BYTES: int = 1232
"""Answers taken by UDP: what fits the least IPv6 MTU (dnsflagday.net/2020)."""
TTL_MAX_S: float = 86400.0
NEGATIVE_MAX_S: float = 10800.0
"""RFC 2308 section 5: "values of one to three hours have been found to work well"."""
ADDRESSES_MAX: int = 32
"""Of one answer."""


class ResolveError(WirespeedError):
    """A name that could not be resolved: no answer, or an answer that says so."""


class NoSuchName(ResolveError):
    """The name does not exist: a server with authority said so (NXDOMAIN)."""


class BadAnswer(ResolveError):
    """One server's answer is of no use; another is asked."""


class Truncated(BadAnswer):
    """The answer did not fit a datagram."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of (name, type), and for how long.

    Attributes:
        addresses: none if the name exists, but not with this type.
        exists: False: NXDOMAIN.
        alias: where the chain of aliases ended without an address: to be asked for next; empty otherwise.
        ttl_s: seconds; 0: not to be kept.
    """

    addresses: tuple[IpAddress, ...]
    exists: bool
    alias: str
    ttl_s: float


@dataclass(frozen=True, slots=True)
class Question:
    """A name in small letters without the last dot, and "A" or "AAAA"."""

    name: str
    kind: str

    def encode(self, random: Random) -> bytes:
        """The datagram, with a random number (RFC 5452 section 4.3).

        Raises:
            ResolveError: it is no name: a label over 63 bytes, an empty one, too long in all.
        """
        try:
            message = dns.message.make_query(
                self.name + ".", self.kind, use_edns=0, payload=PAYLOAD_BYTES, id=random.getrandbits(16)
            )
        except (dns.exception.DNSException, UnicodeError, ValueError) as error:
            raise ResolveError(f"{self.name!r} is no domain name: {error}") from None
        return message.to_wire()

    def read(self, query: bytes, payload: bytes) -> Answer:
        """What the answer to ``query`` says.

        Raises:
            BadAnswer: it is none, or says that the server cannot tell.
            Truncated: ask by a stream.
        """
        try:
            message = dns.message.from_wire(payload, ignore_trailing=True)
        except Exception as error:  # dnspython raises much more than its own for bytes that are no message
            raise BadAnswer(f"{self.name}: an answer that cannot be read: {type(error).__name__}") from None
        asked = dns.message.from_wire(query)
        if message.id != asked.id or not message.flags & dns.flags.QR or message.question != asked.question:
            raise BadAnswer(f"{self.name}: an answer to another question")
        if message.flags & dns.flags.TC:
            raise Truncated(f"{self.name}: the answer does not fit a datagram")
        code = message.rcode()
        if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
            raise BadAnswer(f"{self.name}: the server says {dns.rcode.to_text(code)}")
        return self._answer(message, code == dns.rcode.NXDOMAIN)

    def _answer(self, message: dns.message.Message, missing: bool) -> Answer:
        name = message.question[0].name
        kind = dns.rdatatype.from_text(self.kind)
        ttl_s, aliases = TTL_MAX_S, 0
        while True:
            found = _records(message.answer, name, kind)
            if found is not None:
                ttl_s = min(ttl_s, found.ttl)
                addresses = [_address(record.address) for record in found]
                return Answer(tuple(dict.fromkeys(addresses))[:ADDRESSES_MAX], True, "", ttl_s)
            alias = _records(message.answer, name, dns.rdatatype.CNAME)
            if alias is None:
                break
            aliases += 1
            if aliases > ALIASES_MAX:
                raise BadAnswer(f"{self.name}: more than {ALIASES_MAX} aliases")
            name, ttl_s = alias[0].target, min(ttl_s, alias.ttl)
        negative_s = _negative_s(message)
        if aliases and not missing and negative_s is None:
            return Answer((), True, name.to_text(omit_final_dot=True).lower(), ttl_s)
        # RFC 2308 section 5: without a SOA it is not to be kept.
        return Answer((), not missing, "", min(ttl_s, negative_s or 0.0, NEGATIVE_MAX_S))


def _records(
    section: list[dns.rrset.RRset], name: dns.name.Name, kind: dns.rdatatype.RdataType
) -> dns.rrset.RRset | None:
    for records in section:
        if records.name == name and records.rdtype == kind and records.rdclass == dns.rdataclass.IN and len(records):
            return records
    return None


def _negative_s(message: dns.message.Message) -> float | None:
    """RFC 2308 section 3: the lesser of the SOA's own TTL and its minimum; None without a SOA."""
    for records in message.authority:
        if records.rdtype == dns.rdatatype.SOA and len(records):
            return float(min(records.ttl, records[0].minimum))
    return None


def _address(text: str) -> IpAddress:
    return IPv6Address(text) if ":" in text else IPv4Address(text)


__all__ = [
    "ALIASES_MAX", "NEGATIVE_MAX_S", "TTL_MAX_S", "Answer", "BadAnswer", "IpAddress", "NoSuchName", "Question",
    "ResolveError", "Truncated",
]  # fmt: skip
