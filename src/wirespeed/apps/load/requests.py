"""What is asked: payloads of UDP datagrams, written before the first of them leaves."""

import random
import struct
from collections.abc import Iterator
from pathlib import Path

from wirespeed.errors import ConfigError

LONGEST: int = 1400
"""Bytes of a request: one frame of any path."""
LEAST: int = 8
"""Of a plain datagram: its number."""
REQUESTS: int = 1 << 18
"""So many may be written down; then they come round again."""


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
    import dns.name
    import dns.rdatatype

    found = []
    for where, line in _lines(file):
        name, _, kind = line.partition(" ")
        try:
            asked = dns.name.from_text(name).to_wire()
            assert asked is not None
            found.append(_question(asked, int(dns.rdatatype.from_text(kind.strip() or "A")), edns))
        except (dns.exception.DNSException, ValueError) as error:
            raise ConfigError(
                f"{where}: {line!r} is no question: a name and a type, www.example.com A ({error})"
            ) from None
    if not found:
        raise ConfigError(f"{file}: there is no question in it")
    return found[:REQUESTS]


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
    return [_question(name, kind, edns) for name, kind in asked[:REQUESTS]]


def memcached_requests(
    keys: int = 10_000,
    gets: int = 9,
    sets: int = 1,
    key_bytes: int = 16,
    value_bytes: int = 100,
    seed: int = 1,
    requests: int = 65_536,
) -> list[bytes]:
    """Gets and sets of random keys, in random order by their ratio.

    Args:
        keys: how many there are.
        gets, sets: so many of the one for so many of the other.
        key_bytes, value_bytes: of each.
        seed: of what is random.
        requests: how many are written down.

    Raises:
        ConfigError: out of range.
    """
    if not 1 <= keys <= 10**9 or not len(str(keys)) + 1 <= key_bytes <= 250:
        raise ConfigError(f"{keys} keys of {key_bytes} bytes are not possible: up to 10^9, of at most 250 bytes")
    if gets < 0 or sets < 0 or gets + sets == 0:
        raise ConfigError(f"{gets}:{sets} is no ratio of gets to sets")
    if not 0 <= value_bytes <= LONGEST - 300:
        raise ConfigError(f"values of {value_bytes} bytes do not fit a datagram: up to {LONGEST - 300}")
    chosen = random.Random(seed)
    value = bytes(97 + number % 26 for number in range(value_bytes))
    found = []
    for _ in range(min(requests, REQUESTS)):
        key = _key(chosen.randrange(keys), key_bytes)
        if chosen.randrange(gets + sets) < gets:
            body = b"get " + key + b"\r\n"
        else:
            body = b"set " + key + b" 0 0 " + str(value_bytes).encode() + b"\r\n" + value + b"\r\n"
        found.append(bytes((0, 0, 0, 0, 0, 1, 0, 0)) + body)
    return found


def _question(name: bytes, kind: int, edns: int) -> bytes:
    """A question to an authoritative server (recursion is not desired), RFC 1035 section 4.1; its id is 0."""
    opt = struct.pack("!BHHIH", 0, 41, edns, 0, 0) if edns else b""  # RFC 6891 section 6.1.2
    return struct.pack("!HHHHHH", 0, 0, 1, 0, 0, 1 if edns else 0) + name + struct.pack("!HH", kind, 1) + opt


def _key(number: int, size: int) -> bytes:
    return b"k" + str(number).encode().rjust(size - 1, b"0")


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


__all__ = ["LEAST", "LONGEST", "REQUESTS", "dns_requests", "memcached_requests", "udp_requests", "zone_requests"]
