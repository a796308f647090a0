"""One rule of an access list: as people write it, and as the compiler of access lists takes it.

::

    Rule(src="10.0.0.0/8", dport=80, protocol="tcp", action=1)
    "permit tcp 10.0.0.0/8 any eq 80"                            the same, as router vendors write it
    @10.0.0.0/8 0.0.0.0/0 0 : 65535 80 : 80 0x06/0xff            the same, in a ClassBench file

:func:`rule_array` checks rules of any of these kinds and makes an array of :data:`RULE` of them; an array is also what
bulk users give (its columns are NumPy's).
"""

import ipaddress
import operator
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError

RULE: np.dtype[Any] = np.dtype(
    [
        ("src_high", "<u8"), ("src_low", "<u8"), ("dst_high", "<u8"), ("dst_low", "<u8"),
        ("src_length", "u1"), ("dst_length", "u1"), ("protocol", "u1"), ("protocol_mask", "u1"),
        ("sport_low", "<u2"), ("sport_high", "<u2"), ("dport_low", "<u2"), ("dport_high", "<u2"),
        ("action", "<u4"), ("priority", "<i4"), ("pad", "<u4"),
    ]
)  # fmt: skip
"""A checked rule, 56 bytes. An IPv4 address is in the low word, its prefix length is 0 to 32."""

MAX_ACTION: int = (1 << 32) - 2
"""The largest action: 32 bits, less the value that means "no rule"."""

PROTOCOLS: dict[str, int] = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "ipv6": 41, "gre": 47, "esp": 50, "ah": 51, "icmp6": 58,
    "ospf": 89, "vrrp": 112, "sctp": 132,
}  # fmt: skip
"""Protocol names and their IANA numbers; ``any`` and ``ip`` mean every protocol."""

_NAMES = {number: name for name, number in PROTOCOLS.items()}
_ANY_PORT = (0, 65535)

Ports: TypeAlias = int | tuple[int, int] | None
"""One port, (lowest, highest), or None for any."""
Prefix: TypeAlias = str | tuple[int, int] | ipaddress.IPv4Network | ipaddress.IPv6Network | None
"""``"10.0.0.0/8"``, a host's address, an ipaddress object, (address, length), or None for any."""
Rules: TypeAlias = "NDArray[Any] | Iterable[Rule | str]"


@dataclass(frozen=True)
class Rule:
    """A rule: what a packet must be, and what it gets.

    Attributes:
        src, dst: prefix; None is any.
        sport, dport: a port, or (lowest, highest), both included; None is any.
        protocol: a name of :data:`PROTOCOLS`, a number, (number, mask), or None for any.
        action: what :meth:`~wirespeed.tables.acl.Acl4.classify` gives, 0 to 2^32 - 2.
        priority: of two rules that match, the one with the higher priority counts, and of two with the same the
            earlier one. Left out everywhere, the order alone decides.
    """

    src: Prefix = None
    dst: Prefix = None
    sport: Ports = None
    dport: Ports = None
    protocol: str | int | tuple[int, int] | None = None
    action: int = 1
    priority: int = 0

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """A rule from text: ``permit tcp 10.0.0.0/8 range 1024 65535 host 192.0.2.1 eq 80``.

        The words are ``permit`` (action 1), ``deny`` (0) or a number; the protocol (``ip`` is any); source and
        destination, each ``any``, ``host ADDRESS`` or a prefix, and after it, if wanted, ``eq PORT``,
        ``range LOW HIGH``, ``lt PORT`` or ``gt PORT``.

        Raises:
            TableError: says which word is wrong.
        """
        words = text.split()
        if len(words) < 4:
            raise TableError(f"{text!r} is too short: write it like 'permit tcp 10.0.0.0/8 any eq 80'")
        action = {"permit": 1, "deny": 0}.get(words[0])
        if action is None:
            action = _number(words[0], "action", "use permit, deny or a number")
        protocol: Any = int(words[1]) if words[1].isdigit() else words[1]
        src, sport, rest = _end(words[2:], "source")
        dst, dport, rest = _end(rest, "destination")
        if rest:
            raise TableError(f"{rest[0]!r} comes after the end of the rule")
        return cls(src, dst, sport, dport, protocol, action)

    def __str__(self) -> str:
        """As :meth:`parse` reads it."""
        action = {0: "deny", 1: "permit"}.get(self.action, str(self.action))
        kind: Any = self.protocol
        if isinstance(kind, tuple):
            kind = kind[0] if kind[1] == 255 else f"{kind[0]}/{kind[1]:#x}" if kind[1] else "ip"
        kind = "ip" if kind is None else _NAMES.get(kind, kind)
        ends = ((self.src, self.sport), (self.dst, self.dport))
        return " ".join([action, str(kind), *(f"{prefix or 'any'}{_ports_text(ports)}" for prefix, ports in ends)])


def _ports_text(ports: Ports) -> str:
    if ports is None:
        return ""
    low, high = (ports, ports) if isinstance(ports, int) else ports
    return f" eq {low}" if low == high else f" range {low} {high}"


def _number(word: str, field: str, hint: str) -> int:
    if not (word.isascii() and word.isdigit()):
        raise TableError(f"{field} {word!r} is not a number: {hint}")
    return int(word)


def _end(words: list[str], field: str) -> tuple[str | None, Ports, list[str]]:
    """One end of a textual rule: its prefix, its ports, and the words after it."""
    if not words or (words[0] == "host" and len(words) == 1):
        raise TableError(f"the {field} is missing: write any, host ADDRESS or a prefix")
    prefix: str | None = words[0]
    if words[0] == "host":
        prefix, words = words[1], words[1:]
    elif words[0] == "any":
        prefix = None
    words = words[1:]
    if not words or words[0] not in ("eq", "range", "lt", "gt"):
        return prefix, None, words
    wanted = 2 if words[0] == "range" else 1
    if len(words) <= wanted:
        raise TableError(f"the {field} port is missing after {words[0]!r}")
    numbers = [_number(word, f"{field} port", "ports are 0 to 65535") for word in words[1 : 1 + wanted]]
    low, high = {"lt": (0, numbers[0] - 1), "gt": (numbers[0] + 1, 65535)}.get(words[0], (numbers[0], numbers[-1]))
    return prefix, (low, high), words[1 + wanted :]


def parse_prefix(prefix: Prefix, bits: int, field: str) -> tuple[int, int]:
    """(address, length) of a prefix of 32 or 128 bits. Raises TableError, which names ``field``."""
    if prefix is None:
        return 0, 0
    if isinstance(prefix, str):
        if prefix == "any":
            return 0, 0
        text, slash, after = prefix.partition("/")
        try:
            packed = socket.inet_pton(socket.AF_INET if bits == 32 else socket.AF_INET6, text)
        except (OSError, ValueError):
            raise TableError(f"{field} {prefix!r} is not an IPv{4 if bits == 32 else 6} prefix") from None
        if slash and not (after.isascii() and after.isdigit()):
            raise TableError(f"{field} {prefix!r} has no prefix length")
        address, length = int.from_bytes(packed, "big"), int(after) if slash else bits
    elif isinstance(prefix, (ipaddress.IPv4Network, ipaddress.IPv6Network)):
        address, length = int(prefix.network_address), prefix.prefixlen
        if prefix.max_prefixlen != bits:
            raise TableError(f"{field} {prefix} is not an IPv{4 if bits == 32 else 6} prefix")
    elif isinstance(prefix, (ipaddress.IPv4Address, ipaddress.IPv6Address)):
        address, length = int(prefix), bits
        if prefix.max_prefixlen != bits:
            raise TableError(f"{field} {prefix} is not an IPv{4 if bits == 32 else 6} address")
    elif isinstance(prefix, tuple) and len(prefix) == 2:
        address, length = operator.index(prefix[0]), operator.index(prefix[1])
        if not 0 <= address < 1 << bits:
            raise TableError(f"{field} address {address:#x} is out of range: it has {bits} bits")
    else:
        raise TableError(f"{field} {prefix!r} is no prefix: give text, (address, length) or an ipaddress object")
    if not 0 <= length <= bits:
        raise TableError(f"{field} {prefix!r} has length {length}: it must be 0 to {bits}")
    if address & ((1 << bits - length) - 1):
        raise TableError(f"{field} {prefix!r} has host bits set: did you mean {prefix_text(address, length, bits)}?")
    return address, length


def prefix_text(address: int, length: int, bits: int) -> str:
    """The prefix, host bits cleared, as text."""
    address = address >> bits - length << bits - length
    kind = ipaddress.IPv4Address if bits == 32 else ipaddress.IPv6Address
    return f"{kind(address)}/{length}"


def _ports(ports: Ports, field: str) -> tuple[int, int]:
    if ports is None:
        return _ANY_PORT
    if isinstance(ports, tuple):
        if len(ports) != 2:
            raise TableError(f"{field} {ports!r} is no range: give (lowest, highest)")
        low, high = operator.index(ports[0]), operator.index(ports[1])
    else:
        low = high = operator.index(ports)
    for port in (low, high):
        if not 0 <= port <= 65535:
            raise TableError(f"{field} {port} is out of range: ports are 0 to 65535")
    if low > high:
        raise TableError(f"{field} range {low} to {high} is reversed")
    return low, high


def _protocol(protocol: Any) -> tuple[int, int]:
    if protocol is None or protocol in ("any", "ip"):
        return 0, 0
    if isinstance(protocol, str):
        if protocol not in PROTOCOLS:
            raise TableError(f"protocol {protocol!r} is not known: use a number, any, or {', '.join(PROTOCOLS)}")
        return PROTOCOLS[protocol], 255
    number, mask = protocol if isinstance(protocol, tuple) else (protocol, 255)
    number, mask = operator.index(number), operator.index(mask)
    if not 0 <= number <= 255 or not 0 <= mask <= 255:
        raise TableError(f"protocol {number} with mask {mask} is out of range: both are 0 to 255")
    if number & ~mask:
        raise TableError(f"protocol {number:#x} has bits outside its mask {mask:#x}: no packet would match")
    return number, mask


def row(rule: "Rule | str", bits: int) -> tuple[int, ...]:
    """The fields of a rule in the order of :data:`RULE`. Raises TableError."""
    if isinstance(rule, str):
        rule = Rule.parse(rule)
    if not isinstance(rule, Rule):
        raise TableError(f"{rule!r} is no rule: give ws.Rule(...) or text")
    src, src_length = parse_prefix(rule.src, bits, "source")
    dst, dst_length = parse_prefix(rule.dst, bits, "destination")
    action, priority = operator.index(rule.action), operator.index(rule.priority)
    if not 0 <= action <= MAX_ACTION:
        raise TableError(f"action {action} is not 0 to {MAX_ACTION}")
    if not -(1 << 31) <= priority < 1 << 31:
        raise TableError(f"priority {priority} is not {-(1 << 31)} to {(1 << 31) - 1}")
    low = (1 << 64) - 1
    return (
        src >> 64, src & low, dst >> 64, dst & low, src_length, dst_length, *_protocol(rule.protocol),
        *_ports(rule.sport, "source port"), *_ports(rule.dport, "destination port"), action, priority, 0,
    )  # fmt: skip


def rule_array(rules: Rules, bits: int) -> NDArray[Any]:
    """Rules of any kind as an array of :data:`RULE`, checked.

    Raises:
        TableError: names the first bad rule by its number, from 0, and the field.
    """
    if isinstance(rules, np.ndarray):
        if rules.dtype != RULE:
            raise TableError(f"an array of rules has dtype RULE of wirespeed.tables.acl_rule, not {rules.dtype}")
        _check_array(rules, bits)
        return rules
    rows = []
    for number, rule in enumerate(rules):
        try:
            rows.append(row(rule, bits))
        except (TableError, TypeError) as error:
            raise TableError(f"rule {number}: {error}") from None
    return np.array(rows, dtype=RULE)


def _check_array(rules: NDArray[Any], bits: int) -> None:
    """The same bounds as :func:`row`, for a whole array; the first bad one is said by :func:`row` itself."""
    bad = (rules["sport_low"] > rules["sport_high"]) | (rules["dport_low"] > rules["dport_high"])
    bad |= (rules["protocol"] & ~rules["protocol_mask"]) != 0
    bad |= rules["action"] > MAX_ACTION
    for end in ("src", "dst"):
        high, low = prefix_masks(rules[f"{end}_length"], bits)
        bad |= (rules[f"{end}_length"] > bits) | ((rules[f"{end}_high"] & ~high) != 0)
        bad |= (rules[f"{end}_low"] & ~low) != 0
    if bad.any():
        number = int(bad.argmax())
        try:
            row(rule_of(rules[number], bits), bits)
        except TableError as error:
            raise TableError(f"rule {number}: {error}") from None


def prefix_masks(lengths: NDArray[Any], bits: int) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """High and low word of the masks of prefix lengths."""
    wide = lengths.astype(np.int64)
    ones = np.uint64(0xFFFF_FFFF_FFFF_FFFF)

    def top(count: NDArray[np.int64], width: int) -> NDArray[np.uint64]:
        count = np.clip(count, 0, width)
        shift = np.minimum(width - count, 63).astype(np.uint64)
        whole = ones if width == 64 else np.uint64(0xFFFF_FFFF)
        return np.where(count == 0, np.uint64(0), (whole >> shift << shift) & whole)

    if bits == 32:
        return np.zeros(len(wide), dtype=np.uint64), top(wide, 32)
    return top(wide, 64), top(wide - 64, 64)


def rule_of(record: Any, bits: int) -> Rule:
    """The rule of a record of :data:`RULE`."""

    def prefix(end: str) -> tuple[int, int]:
        return int(record[f"{end}_high"]) << 64 | int(record[f"{end}_low"]), int(record[f"{end}_length"])

    def text(end: str) -> Prefix:
        address, length = prefix(end)
        if length > bits or address >> bits or address & ((1 << bits - length) - 1):
            return address, length  # bad: as it is, for the error
        return prefix_text(address, length, bits) if length else None

    def ports(end: str) -> Ports:
        low, high = int(record[f"{end}_low"]), int(record[f"{end}_high"])
        return None if (low, high) == _ANY_PORT else (low, high)

    kind, mask = int(record["protocol"]), int(record["protocol_mask"])
    protocol: Any = _NAMES.get(kind, kind) if mask == 255 else None if (kind, mask) == (0, 0) else (kind, mask)
    return Rule(text("src"), text("dst"), ports("sport"), ports("dport"), protocol, int(record["action"]),
                int(record["priority"]))  # fmt: skip


def load_rules(path: str | Path, bits: int = 32) -> NDArray[Any]:
    """The rules of a ClassBench file, as DPDK's examples read them; the action is the rule's number, from 0.

    A line is ``@SRC/LENGTH DST/LENGTH LOW : HIGH LOW : HIGH PROTOCOL/MASK``, and what comes after that is left
    alone; empty lines and lines that start with ``#`` are skipped.

    Args:
        path: of the file.
        bits: of an address: 32, or 128 for IPv6.

    Raises:
        TableError: names the line and what is wrong.
    """
    rows: list[tuple[int, ...]] = []
    with open(path) as file:
        for number, line in enumerate(file, 1):
            if line.isspace() or line.lstrip().startswith("#"):
                continue
            try:
                rows.append(_classbench(line, bits, len(rows)))
            except TableError as error:
                raise TableError(f"{path}, line {number}: {error}") from None
    return np.array(rows, dtype=RULE)


def _classbench(line: str, bits: int, action: int) -> tuple[int, ...]:
    words = line.split()
    if len(words) < 9 or words[0][0] != "@" or words[3] != ":" or words[6] != ":":
        raise TableError("a rule is '@SRC/LENGTH DST/LENGTH LOW : HIGH LOW : HIGH PROTOCOL/MASK'")
    src, src_length = parse_prefix(words[0][1:], bits, "source")
    dst, dst_length = parse_prefix(words[1], bits, "destination")
    try:
        ports = [int(word) for word in (words[2], words[4], words[5], words[7])]
        protocol, mask = (int(word, 0) for word in words[8].split("/"))
    except ValueError:
        raise TableError("ports and protocol must be numbers") from None
    low = (1 << 64) - 1
    return (
        src >> 64, src & low, dst >> 64, dst & low, src_length, dst_length, *_protocol((protocol & mask, mask)),
        *_ports((ports[0], ports[1]), "source port"), *_ports((ports[2], ports[3]), "destination port"), action, 0, 0,
    )  # fmt: skip


__all__ = ["MAX_ACTION", "PROTOCOLS", "RULE", "Rule", "Rules", "load_rules", "parse_prefix", "prefix_masks", "row",
           "rule_array", "rule_of"]  # fmt: skip
