"""Matches as a program of the kernel's classic packet filter: what a packet socket does not want, it never copies.

The program says what :func:`wirespeed.ports.match.matches` says; it is run for each frame as a packet socket sees it,
with the outer VLAN tag taken off and told beside the frame. Registers and memory::

    M[0]    bytes of VLAN tags that stand in the frame; X while addresses are read
    M[1]    the outer tag's VLAN; _NO_VLAN without one

References: Documentation/networking/filter.rst; McCanne and Jacobson, "The BSD Packet Filter" (USENIX 1993).
"""

import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from wirespeed.errors import PortError
from wirespeed.ports.match import G_PDU, IPV4, SCTP, TAGS, TCP, UDP, Match, Network

MOST: int = 4096
"""Instructions the kernel takes (BPF_MAXINSNS)."""

Program = tuple[tuple[int, int, int, int], ...]
"""Instructions, each (code, jump if true, jump if false, k)."""

_WORD, _HALF, _BYTE, _LENGTH = 0x00, 0x08, 0x10, 0x80  # BPF_LD with BPF_W, _H, _B; BPF_W | BPF_LEN
_ABSOLUTE, _INDEXED, _MEMORY = 0x20, 0x40, 0x60
_STORE, _STORE_X, _LOAD_X, _TAX, _RETURN = 0x02, 0x03, 0x61, 0x07, 0x06
_ADD, _ADD_X, _SUBTRACT_X, _AND, _SHIFT_LEFT, _SHIFT_RIGHT = 0x04, 0x0C, 0x1C, 0x54, 0x64, 0x74
_SET, _SET_X = 0x00, 0x01
_GO, _EQUAL, _ABOVE, _AT_LEAST, _AT_LEAST_X, _HAS = 0x05, 0x15, 0x25, 0x35, 0x3D, 0x45
_TAG_OF, _TAGGED = 0xFFFF_F000 + 44, 0xFFFF_F000 + 48  # SKF_AD_OFF + SKF_AD_VLAN_TAG, _PRESENT
_NO_VLAN = 0x1000
_WHOLE = 0xFFFF_FFFF
_NEXT, _PAST = "next", "past"


@dataclass
class _Writer:
    """Instructions with labels for jumps."""

    lines: list[tuple[int, str, str, int]] = field(default_factory=list)
    places: dict[str, int] = field(default_factory=dict)

    def do(self, code: int, k: int = 0) -> None:
        self.lines.append((code, "", "", k))

    def when(self, code: int, k: int, then: str = "", otherwise: str = "") -> None:
        """Jump; no label is the next instruction."""
        self.lines.append((code, then, otherwise, k))

    def go(self, to: str) -> None:
        self.lines.append((_GO, to, "", 0))

    def label(self, name: str) -> None:
        self.places[name] = len(self.lines)

    def load(self, size: int, at: int) -> None:
        """A from the frame, ``at`` bytes behind X."""
        self.do(size | _INDEXED, at)

    def enough(self, size: int, otherwise: str) -> None:
        """Are there ``size`` bytes behind X?"""
        self.do(_LENGTH)
        self.do(_SUBTRACT_X)
        self.when(_AT_LEAST, size, otherwise=otherwise)

    def finish(self) -> Program:
        done = []
        for at, (code, then, otherwise, k) in enumerate(self.lines):
            jumps = [self.places[name] - at - 1 if name else 0 for name in (then, otherwise)]
            done.append((code, 0, 0, jumps[0]) if code == _GO else (code, *jumps, k))
        return tuple(done)  # type: ignore[arg-type]


def compile_matches(alternatives: tuple[Match, ...]) -> Program:
    """The program that takes what any of ``alternatives`` matches.

    Raises:
        PortError: it would be longer than the kernel takes.
    """
    write = _Writer()
    _tags(write)
    for number, match in enumerate(alternatives):
        _alternative(write, match, f"{_NEXT}{number}")
        write.label(f"{_NEXT}{number}")
    write.do(_RETURN, 0)
    program = write.finish()
    if len(program) > MOST:
        raise PortError(
            f"a filter of {len(alternatives)} alternatives takes {len(program)} instructions, the most is {MOST}"
        )
    return program


def read_program(path: str) -> Program:
    """A program as ``tcpdump -ddd`` writes it: the number of instructions, then one a line.

    Raises:
        PortError: the file cannot be read, or is none.
    """
    try:
        count, *lines = Path(path).read_text().split("\n")
        program = tuple(tuple(int(word) for word in line.split()) for line in lines if line)
        if int(count) != len(program) or not 0 < len(program) <= MOST or any(len(each) != 4 for each in program):
            raise ValueError("the number of lines is not what the first one says")
        pack(program)  # type: ignore[arg-type]
    except (OSError, ValueError, struct.error) as error:
        raise PortError(
            f"{path} is no filter program ({error}); write one: tcpdump -ddd udp port 53 > {path}"
        ) from None
    return program  # type: ignore[return-value]


def pack(program: Program) -> bytes:
    """As the array of struct sock_filter that SO_ATTACH_FILTER takes."""
    return b"".join(struct.pack("=HBBI", *each) for each in program)


def _tags(write: _Writer) -> None:
    """Find the VLAN tags: M[0] and M[1]."""
    write.do(_LENGTH)
    write.when(_AT_LEAST, 14, then="whole")
    write.do(_RETURN, 0)
    write.label("whole")
    write.do(_SET, _NO_VLAN)
    write.do(_STORE, 1)
    write.do(_SET_X, 0)
    write.do(_WORD | _ABSOLUTE, _TAGGED)
    write.when(_EQUAL, 0, then="first")
    write.do(_WORD | _ABSOLUTE, _TAG_OF)
    write.do(_AND, 0xFFF)
    write.do(_STORE, 1)
    write.go("second")  # of the frame on the wire: here it is the first
    write.label("first")
    _if_tag(write, "tagged")
    write.load(_HALF, 14)
    write.do(_AND, 0xFFF)
    write.do(_STORE, 1)
    write.do(_SET_X, 4)
    write.label("second")
    _if_tag(write, "tagged")
    write.do(_STORE_X, 0)
    write.do(_WORD | _MEMORY, 0)
    write.do(_ADD, 4)
    write.do(_TAX)
    write.label("tagged")
    write.do(_STORE_X, 0)


def _if_tag(write: _Writer, otherwise: str) -> None:
    """Go on if there is a whole tag at X."""
    inside = f"inside{len(write.lines)}"
    write.load(_HALF, 12)
    write.when(_EQUAL, TAGS[0], then=inside)
    write.when(_EQUAL, TAGS[1], otherwise=otherwise)
    write.label(inside)
    write.enough(18, otherwise)


def _alternative(write: _Writer, match: Match, no: str) -> None:
    write.do(_LOAD_X, 0)
    if match.vlan is not None:
        write.do(_WORD | _MEMORY, 1)
        write.when(_EQUAL, match.vlan, otherwise=no)
    write.load(_HALF, 12)
    if not match.wants_ip:
        if match.ethertype is not None:
            write.when(_EQUAL, match.ethertype, otherwise=no)
        write.do(_RETURN, _WHOLE)
        return
    for version in match.versions:
        past = f"{_PAST}{no}{version}"
        write.do(_LOAD_X, 0)
        write.load(_HALF, 12)
        write.when(_EQUAL, version, otherwise=past)
        body: Callable[[_Writer, Match, str], None] = _ipv4 if version == IPV4 else _ipv6
        body(write, match, no)
        if match.wants_transport:
            _transport(write, match, no)
        write.do(_RETURN, _WHOLE)
        write.label(past)


def _ipv4(write: _Writer, match: Match, no: str) -> None:
    write.enough(34, no)
    write.load(_BYTE, 14)
    write.when(_AT_LEAST, 0x45, otherwise=no)  # version 4, 20 bytes of header or more
    write.when(_AT_LEAST, 0x50, then=no)
    _header_end(write)
    write.do(_ADD, 14)
    write.do(_TAX)
    write.do(_LENGTH)
    write.when(_AT_LEAST_X, 0, otherwise=no)  # the whole header is there
    write.do(_LOAD_X, 0)
    for network, at in ((match.source, 26), (match.destination, 30)):
        if network is not None:
            _address(write, network, at, no)
    _protocol(write, match, 23, no)
    if match.wants_transport:
        write.load(_HALF, 20)
        write.when(_HAS, 0x1FFF, then=no)  # a later fragment
        _header_end(write)
        write.do(_TAX)


def _header_end(write: _Writer) -> None:
    """A = X + the length of the IPv4 header."""
    write.load(_BYTE, 14)
    write.do(_AND, 15)
    write.do(_SHIFT_LEFT, 2)
    write.do(_ADD_X)


def _ipv6(write: _Writer, match: Match, no: str) -> None:
    write.enough(54, no)
    write.load(_BYTE, 14)
    write.do(_SHIFT_RIGHT, 4)
    write.when(_EQUAL, 6, otherwise=no)
    for network, at in ((match.source, 22), (match.destination, 38)):
        if network is not None:
            _address(write, network, at, no)
    _protocol(write, match, 20, no)
    if match.wants_transport:
        write.do(_WORD | _MEMORY, 0)
        write.do(_ADD, 40)
        write.do(_TAX)


def _address(write: _Writer, network: Network, at: int, no: str) -> None:
    wanted, mask = network.network_address.packed, network.netmask.packed
    for word in range(0, len(wanted), 4):
        bits = int.from_bytes(mask[word : word + 4])
        if bits:
            write.load(_WORD, at + word)
            write.do(_AND, bits)
            write.when(_EQUAL, int.from_bytes(wanted[word : word + 4]), otherwise=no)


def _protocol(write: _Writer, match: Match, at: int, no: str) -> None:
    write.load(_BYTE, at)
    if match.protocol is not None:
        write.when(_EQUAL, match.protocol, otherwise=no)
    if match.wants_transport:
        known = f"known{len(write.lines)}"
        write.when(_EQUAL, TCP, then=known)
        write.when(_EQUAL, UDP, then=known)
        write.when(_EQUAL, SCTP, otherwise=no)
        write.label(known)


def _transport(write: _Writer, match: Match, no: str) -> None:
    """The transport header is 14 bytes behind X."""
    write.enough(14 + 4, no)
    for ports, at in ((match.sport, 14), (match.dport, 16)):
        if ports is not None:
            write.load(_HALF, at)
            write.when(_AT_LEAST, ports[0], otherwise=no)
            write.when(_ABOVE, ports[1], then=no)
    if match.teid is not None or match.vni is not None:
        write.enough(14 + 16, no)
    if match.teid is not None:
        write.load(_BYTE, 14 + 9)
        write.when(_EQUAL, G_PDU, otherwise=no)
        write.load(_WORD, 14 + 12)
        write.when(_EQUAL, match.teid, otherwise=no)
    if match.vni is not None:
        write.load(_BYTE, 14 + 8)
        write.when(_HAS, 8, otherwise=no)
        write.load(_WORD, 14 + 12)
        write.do(_SHIFT_RIGHT, 8)
        write.when(_EQUAL, match.vni, otherwise=no)


__all__ = ["MOST", "Program", "compile_matches", "pack", "read_program"]
