"""Synthetic access lists and traces like ClassBench's, from a seed: the inputs of the acl bench.

D. Taylor and J. Turner, "ClassBench: a packet classification benchmark", INFOCOM 2005, describe three families of
real filter sets, which differ in what they leave open; :func:`generate` imitates them:

    acl   an access list of a provider: nearly all rules name both addresses and a destination port
    fw    a firewall: many wildcards in either address, port ranges such as 1024-65535
    ipc   Linux ipchains: between the two, more exact source ports

Prefixes nest: they are drawn from a small tree of networks, so that a /16 has /24s and hosts inside it. The trace
draws nine of ten packets from inside a random rule, the rest anywhere; so does ClassBench's own generator.
"""

from __future__ import annotations

import ipaddress
import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

ANY = (0, 65535)
_EXACT = (80, 443, 53, 22, 25, 110, 123, 143, 161, 179, 389, 445, 993, 1433, 3306, 3389, 5060, 5432, 8080, 8443)
_RANGES = ((1024, 65535), (0, 1023), (6000, 6063), (33434, 33600), (135, 139), (2300, 2400), (16384, 32767))


@dataclass(frozen=True)
class Family:
    """What a family leaves open: probabilities of a wildcard address, and of an any/exact/range port."""

    source_any: float
    destination_any: float
    source_port: tuple[float, float]  # any, exact; the rest are ranges
    destination_port: tuple[float, float]


FAMILIES: dict[str, Family] = {
    "acl": Family(0.03, 0.01, (0.99, 0.005), (0.25, 0.55)),
    "fw": Family(0.35, 0.25, (0.85, 0.05), (0.30, 0.45)),
    "ipc": Family(0.12, 0.08, (0.75, 0.15), (0.40, 0.45)),
}

Line = tuple[int, int, int, int, tuple[int, int], tuple[int, int], int, int]
"""Source address and length, destination address and length, port ranges, protocol and its mask."""


def generate(kind: str, count: int, seed: int = 1, bits: int = 32) -> list[Line]:
    """``count`` different rules of a family; ``bits`` is 32 or 128. The last one is open to everything."""
    chance, family = random.Random(f"{kind} {count} {seed} {bits}"), FAMILIES[kind]
    trees = [_networks(chance, bits, max(8, count // 12)) for _ in range(2)]
    lines: dict[Line, None] = {}
    while len(lines) < count - 1:
        ends = []
        for tree, open_ in zip(trees, (family.source_any, family.destination_any), strict=True):
            ends.append((0, 0) if chance.random() < open_ else _prefix(chance, tree, bits))
        protocol = chance.choices(((6, 255), (17, 255), (1, 255), (0, 0)), (60, 25, 3, 12))[0]
        ports = [_port(chance, *family.source_port), _port(chance, *family.destination_port)]
        if protocol[0] not in (6, 17):
            ports = [ANY, ANY]
        if ends[0] == ends[1] == (0, 0) and ports == [ANY, ANY]:
            continue  # the last rule is the only one that is open to everything
        lines[(*ends[0], *ends[1], ports[0], ports[1], *protocol)] = None
    ordered = sorted(lines, key=lambda line: chance.uniform(0, 12) - _scope(line, bits))
    return [*ordered, (0, 0, 0, 0, ANY, ANY, 0, 0)]


def _scope(line: Line, bits: int) -> float:
    """How many bits a rule asks for; narrow rules come first in a list that somebody wrote, roughly."""
    _, source_length, _, length, sports, dports, _, mask = line
    ports = sum(16 - (high - low + 1).bit_length() for low, high in (sports, dports))
    return (source_length + length) * 32 / bits + ports + mask.bit_count()


def _networks(chance: random.Random, bits: int, count: int) -> list[tuple[int, int]]:
    """Networks that nest: each new one lies at random inside an older one, a little longer."""
    unit = bits // 32
    if bits == 128:
        roots = [(0x2001 << 112 | chance.getrandbits(16) << 96, 32) for _ in range(max(2, count // 40))]
    else:
        roots = [(chance.randrange(1, 224) << 24 | chance.getrandbits(8) << 16, 16) for _ in range(max(2, count // 40))]
    found = list(roots)
    while len(found) < count:
        address, length = chance.choice(found)
        longer = min(length + chance.choice((2, 4, 8, 8)) * unit, 28 * unit if bits == 32 else 64)
        if longer > length:
            found.append((address | chance.getrandbits(longer - length) << (bits - longer), longer))
        else:
            found.append(chance.choice(roots))
    return found


def _prefix(chance: random.Random, tree: list[tuple[int, int]], bits: int) -> tuple[int, int]:
    address, length = chance.choice(tree)
    if chance.random() < 0.55:  # a host of it
        return address | chance.getrandbits(min(8, bits - length)), bits
    return address, length


def _port(chance: random.Random, open_: float, exact: float) -> tuple[int, int]:
    dice = chance.random()
    if dice < open_:
        return ANY
    if dice < open_ + exact:
        port = chance.choice(_EXACT) if chance.random() < 0.7 else chance.randrange(65536)
        return port, port
    return chance.choice(_RANGES)


def trace(lines: list[Line], count: int, seed: int = 1, bits: int = 32) -> list[tuple[int, int, int, int, int]]:
    """``count`` packets (source, destination, source port, destination port, protocol); one of ten is anything."""
    chance = random.Random(f"{len(lines)} {count} {seed} {bits}")
    packets = []
    for _ in range(count):
        if chance.random() < 0.1:
            src, dst = chance.getrandbits(bits), chance.getrandbits(bits)
            sport, dport = chance.getrandbits(16), chance.getrandbits(16)
            packets.append((src, dst, sport, dport, chance.choice((6, 17, 1))))
            continue
        source, source_length, destination, length, sports, dports, protocol, mask = chance.choice(lines)
        src = source | (chance.getrandbits(bits - source_length) if source_length < bits else 0)
        dst = destination | (chance.getrandbits(bits - length) if length < bits else 0)
        packets.append((src, dst, chance.randint(*sports), chance.randint(*dports), protocol if mask else 6))
    return packets


def write_rules(lines: list[Line], path: Path, bits: int = 32) -> None:
    """The rules in the format of DPDK's examples and of dpdk-test-acl."""
    with path.open("w") as file:
        for src, source_length, dst, length, sports, dports, protocol, mask in lines:
            file.write(
                f"@{_text(src, bits)}/{source_length} {_text(dst, bits)}/{length} {sports[0]} : {sports[1]} "
                f"{dports[0]} : {dports[1]} {protocol:#04x}/{mask:#04x}\n"
            )


def write_trace(packets: list[tuple[int, int, int, int, int]], path: Path, bits: int = 32) -> None:
    """The packets as dpdk-test-acl reads them: IPv4 addresses as numbers, IPv6 addresses as text."""
    with path.open("w") as file:
        for src, dst, sport, dport, protocol in packets:
            ends = (src, dst) if bits == 32 else (_text(src, bits), _text(dst, bits))
            file.write(f"{ends[0]} {ends[1]} {sport} {dport} {protocol}\n")


def _text(address: int, bits: int) -> str:
    return str(ipaddress.IPv4Address(address) if bits == 32 else ipaddress.IPv6Address(address))


def columns(packets: list[tuple[int, int, int, int, int]], bits: int = 32) -> tuple[NDArray[np.generic], ...]:
    """The packets as ``classify_many`` takes them: src, dst, protocol, sport, dport."""
    src, dst, sport, dport, protocol = zip(*packets, strict=True)
    if bits == 32:
        ends = [np.array(side, dtype=np.uint32) for side in (src, dst)]
    else:
        low = (1 << 64) - 1
        ends = [np.array([(one >> 64, one & low) for one in side], dtype=np.uint64) for side in (src, dst)]
    return (*ends, np.array(protocol, np.uint8), np.array(sport, np.uint16), np.array(dport, np.uint16))
