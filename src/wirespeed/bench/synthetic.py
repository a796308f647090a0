"""Frames made up from literal templates, for machines without the captures and for forwarding.

Seeded: the same call gives the same bytes on every machine. Addresses are of the documentation and
benchmarking ranges (RFC 5737, RFC 3849, RFC 2544); MAC addresses are locally administered.
"""

from __future__ import annotations

import random
import struct

from wirespeed.bench.frames import Frame

_MACS = bytes.fromhex("020000000002 020000000001")
_IPV4 = _MACS + bytes.fromhex("0800")
_IPV6 = _MACS + bytes.fromhex("86dd")
_VLAN_IPV4 = _MACS + bytes.fromhex("8100 0064 0800")
_QUERY = bytes.fromhex("1234 0100 0001 0000 0000 0000 03777777 076578616d706c65 03636f6d 00 0001 0001")
_TCP = bytes.fromhex("01bb 8235 00000001 00000002 5010 ffff 0000 0000")


def checksum(data: bytes, initial: int = 0) -> int:
    """The Internet checksum of `data` (RFC 1071), never 0 as UDP wants it (RFC 768)."""
    padded = data + bytes(len(data) % 2)
    total = initial + sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF) or 0xFFFF


def udp4(source: bytes, target: bytes, sport: int, dport: int, payload: bytes, link: bytes = _IPV4) -> bytes:
    """An Ethernet frame with IPv4 and UDP; the UDP checksum is absent (0), as IPv4 allows."""
    udp = struct.pack(">HHHH", sport, dport, 8 + len(payload), 0) + payload
    return link + _ipv4(source, target, 17, udp)


def udp6(source: bytes, target: bytes, sport: int, dport: int, payload: bytes) -> bytes:
    """An Ethernet frame with IPv6 and UDP, with the checksum that RFC 8200 section 8.1 demands."""
    length = 8 + len(payload)
    pseudo = source + target + struct.pack(">II", length, 17)
    udp = struct.pack(">HHHH", sport, dport, length, 0) + payload
    udp = udp[:6] + struct.pack(">H", checksum(pseudo + udp)) + payload
    return _IPV6 + struct.pack(">IHBB", 6 << 28, length, 17, 64) + source + target + udp


def _ipv4(source: bytes, target: bytes, protocol: int, payload: bytes) -> bytes:
    header = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(payload), 0, 0x4000, 64, protocol, 0) + source + target
    return header[:10] + struct.pack(">H", checksum(header)) + header[12:] + payload


def mixed_frames(count: int = 8192, seed: int = 1) -> list[Frame]:
    """Something like an access link: mostly TCP (full segments and bare ACKs), some DNS, some VLAN.

    One frame in sixteen is an IPv4 DNS query, one in thirty-two an IPv6 one, of up to 200 clients each;
    queries inside a VLAN tag are there too and are not counted (:mod:`wirespeed.bench.pcap_peers`).
    """
    dice = random.Random(seed)
    frames: list[bytes] = []
    for n in range(count):
        client = dice.randrange(200)
        inside, outside = bytes((198, 18, 0, client)), bytes((203, 0, 113, dice.randrange(256)))
        sport = 1024 + dice.randrange(60_000)
        if n % 16 == 3:
            frames.append(udp4(inside, bytes((192, 0, 2, 53)), sport, 53, _QUERY))
        elif n % 32 == 9:
            prefix = bytes.fromhex("20010db8") + bytes(11)
            frames.append(udp6(prefix + bytes((client,)), prefix + b"\x35", sport, 53, _QUERY))
        elif n % 64 == 17:
            frames.append(udp4(inside, bytes((192, 0, 2, 53)), sport, 53, _QUERY, _VLAN_IPV4))
        elif n % 16 == 5:
            frames.append(udp4(bytes((192, 0, 2, 53)), inside, 53, sport, _QUERY + bytes(64)))
        elif n % 2:
            frames.append(_IPV4 + _ipv4(outside, inside, 6, _TCP + dice.randbytes(1460)))
        else:
            frames.append(_IPV4 + _ipv4(inside, outside, 6, _TCP) + bytes(6))
    return [Frame(data, len(data)) for data in frames]


def forward_frames(count: int = 256, size: int = 60) -> list[Frame]:
    """What the forwarding benches receive over and over: UDP, `size` bytes without FCS, `count` targets."""
    payload = bytes(size - 42)
    frames = (udp4(b"\xc6\x12\x00\x01", bytes((198, 19, n >> 8, n & 255)), 1024 + n, 9, payload) for n in range(count))
    return [Frame(data, len(data)) for data in frames]
