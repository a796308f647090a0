"""What is asked: payloads of UDP datagrams, written before the first of them leaves.

Questions and datagrams are written down whole, and take turns. Of gets and sets only one each is: which of them comes
next, and of which key, is drawn for each request as it leaves, so that any number of keys costs the same.
"""

import random
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from wirespeed.errors import ConfigError

LONGEST: int = 1400
"""Bytes of a request: one frame of any path."""
LEAST: int = 8
"""Of a plain datagram: its number."""
KEYS_MAX: int = 10**9


@dataclass(frozen=True)
class KeyedRequests:
    """Gets and sets of random keys.

    Attributes:
        get, set: the payload of each, of key 0.
        keys: how many there are.
        gets, sets: so many of the one for so many of the other.
        last_digit: where a key's last digit is in a payload.
        digits: how many are written.
        seed: of what is random.
    """

    get: bytes
    set: bytes
    keys: int
    gets: int
    sets: int
    last_digit: int
    digits: int
    seed: int


def udp_requests(size: int) -> list[bytes]:
    """One datagram of ``size`` bytes, the first eight of which will be its number.

    Raises:
        ConfigError: no such size.
    """
    if not LEAST <= size <= LONGEST:
        raise ConfigError(f"a datagram of {size} bytes is not possible: {LEAST} to {LONGEST}")
    return [bytes(8) + bytes(number % 256 for number in range(size - 8))]


def dns_requests(file: str | Path, edns: int = 1232) -> list[bytes]:
    """Questions from a file of dnsperf's format: a name and a type in each line, ``;`` or ``#`` before a comment.

    Args:
        file: its path.
        edns: bytes of the largest answer that is taken, by EDNS0; 0: no EDNS0.

    Raises:
        ConfigError: a line that is no question, or no file; names file and line.
    """
    import dns.exception
    import dns.rdatatype

    number_of = cache(dns.rdatatype.from_text)
    found = []
    for where, line in _lines(file):
        name, _, kind = line.partition(" ")
        try:
            found.append(_question(_wire(name), int(number_of(kind.strip() or "A")), edns))
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(
                f"{where}: {line!r} is no question: a name and a type, www.example.com A ({error})"
            ) from None
    if not found:
        raise ConfigError(f"{file}: there is no question in it")
    return found


def zone_requests(file: str | Path, seed: int = 1, edns: int = 1232) -> list[bytes]:
    """A question for each name and type of a zone file, in random order.

    Raises:
        WirespeedError: no zone; names file and line.
    """
    from wirespeed.apps.dns.zone import read_zone, records

    asked = [
        (name, kind)
        for name, packed in read_zone(file).names.items()
        for kind in sorted({kind for kind, _, _ in records(packed)})
    ]
    random.Random(seed).shuffle(asked)
    return [_question(name, kind, edns) for name, kind in asked]


def memcached_requests(
    keys: int = 10_000,
    gets: int = 9,
    sets: int = 1,
    key_bytes: int = 16,
    value_bytes: int = 100,
    seed: int = 1,
) -> KeyedRequests:
    """Gets and sets of random keys, in random order by their ratio.

    Args:
        keys: how many there are.
        gets, sets: so many of the one for so many of the other.
        key_bytes, value_bytes: of each.
        seed: of what is random.

    Raises:
        ConfigError: out of range.
    """
    digits = len(str(keys - 1))
    if not 1 <= keys <= KEYS_MAX or not digits + 1 <= key_bytes <= 250:
        raise ConfigError(
            f"{keys} keys of {key_bytes} bytes are not possible: up to 10^9, of {digits + 1} to 250 bytes"
        )
    if gets < 0 or sets < 0 or not 0 < gets + sets < 1 << 31:
        raise ConfigError(f"{gets}:{sets} is no ratio of gets to sets")
    if not 0 <= value_bytes <= LONGEST - 300:
        raise ConfigError(f"values of {value_bytes} bytes do not fit a datagram: up to {LONGEST - 300}")
    frame = bytes((0, 0, 0, 0, 0, 1, 0, 0))
    key = b"k" + b"0" * (key_bytes - 1)
    value = bytes(97 + number % 26 for number in range(value_bytes))
    return KeyedRequests(
        get=frame + b"get " + key + b"\r\n",
        set=frame + b"set " + key + b" 0 0 " + str(value_bytes).encode() + b"\r\n" + value + b"\r\n",
        keys=keys, gets=gets, sets=sets, last_digit=len(frame) + 4 + key_bytes - 1, digits=digits, seed=seed,
    )  # fmt: skip


def _wire(name: str) -> bytes:
    """A name as it is in a message; such without escapes, a million in a file, are the length of each label and it."""
    labels = name.removesuffix(".").split(".")
    if name.isascii() and "\\" not in name and len(name) <= 253 and all(0 < len(label) < 64 for label in labels):
        return b"".join(bytes((len(label),)) + label.encode() for label in labels) + b"\0"
    import dns.name

    wire = dns.name.from_text(name).to_wire()
    assert wire is not None
    return wire


def _question(name: bytes, kind: int, edns: int) -> bytes:
    """A question to an authoritative server (recursion is not desired), RFC 1035 section 4.1; its id is 0."""
    opt = struct.pack("!BHHIH", 0, 41, edns, 0, 0) if edns else b""  # RFC 6891 section 6.1.2
    return struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 1 if edns else 0) + name + struct.pack("!HH", kind, 1) + opt


def _lines(file: str | Path) -> Iterator[tuple[str, str]]:
    """(file:line, text) of each line that says something."""
    try:
        text = Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read: {error}") from None
    for number, line in enumerate(text.splitlines(), 1):
        line = " ".join(line.split())
        if line and line[0] not in ";#":
            yield f"{file}:{number}", line


__all__ = [
    "KEYS_MAX", "LEAST", "LONGEST", "KeyedRequests", "dns_requests", "memcached_requests", "udp_requests",
    "zone_requests",
]  # fmt: skip
