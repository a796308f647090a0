"""A frame in one line, for people: ``10.0.0.1:53 > 10.0.0.2:1024 udp``. Slow path: plain Python over bytes."""

import ipaddress
import struct

from wirespeed.ports.match import ARP, IPV4, IPV6, SCTP, TAGS, TCP, UDP

_ICMP, _ICMP6 = 1, 58
_NAMES = {_ICMP: "icmp", _ICMP6: "icmp6", TCP: "tcp", UDP: "udp", SCTP: "sctp"}
_FLAGS = "FSRPAUEC"


def summary(frame: bytes) -> str:
    """What the headers say; a frame that ends within them is shown as far as it goes."""
    if len(frame) < 14:
        return f"runt {frame.hex()}"
    at, tags = 12, ""
    while len(frame) >= at + 6 and _be16(frame, at) in TAGS and at < 20:
        tags += f"vlan {_be16(frame, at + 2) & 0xFFF} "
        at += 4
    ethertype, rest = _be16(frame, at), frame[at + 2 :]
    if ethertype == IPV4 and len(rest) >= 20:
        later = _be16(rest, 6) & 0x1FFF
        header = (rest[0] & 15) * 4
        return tags + _ip(rest[12:16], rest[16:20], rest[9], b"" if later else rest[header:], later * 8)
    if ethertype == IPV6 and len(rest) >= 40:
        return tags + _ip(rest[8:24], rest[24:40], rest[6], rest[40:], 0)
    if ethertype == ARP and len(rest) >= 28:
        asked, teller = ipaddress.ip_address(rest[24:28]), ipaddress.ip_address(rest[14:18])
        return f"{tags}arp who has {asked}, tell {teller}" if rest[7] == 1 else f"{tags}arp {teller} is {_mac(rest, 8)}"
    return f"{tags}{_mac(frame, 6)} > {_mac(frame, 0)} ethertype 0x{ethertype:04x}"


def _ip(source: bytes, destination: bytes, protocol: int, segment: bytes, offset: int) -> str:
    left, right = str(ipaddress.ip_address(source)), str(ipaddress.ip_address(destination))
    name = _NAMES.get(protocol, f"protocol {protocol}")
    if offset:
        return f"{left} > {right} {name} fragment at {offset}"
    if protocol in (TCP, UDP, SCTP) and len(segment) >= 4:
        sport, dport = struct.unpack_from("!HH", segment)
        left, right = (f"[{a}]:{p}" if ":" in a else f"{a}:{p}" for a, p in ((left, sport), (right, dport)))
    detail = ""
    if protocol == TCP and len(segment) >= 14:
        sequence, acknowledged = struct.unpack_from("!II", segment, 4)
        flags = "".join(flag for bit, flag in enumerate(_FLAGS) if segment[13] >> bit & 1)
        detail = f" [{flags}] seq {sequence} ack {acknowledged}"
    if protocol in (_ICMP, _ICMP6) and len(segment) >= 2:
        detail = f" type {segment[0]} code {segment[1]}"
    return f"{left} > {right} {name}{detail}"


def _be16(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 2])


def _mac(data: bytes, at: int) -> str:
    return data[at : at + 6].hex(":")


__all__ = ["summary"]
