"""The XDP program of an af_xdp port: what a match takes goes to our sockets, everything else on to the kernel.

Made for the matches at hand, instruction by instruction: without a match five of them run. A packet that no socket
is there for (another queue, a port that has not begun) goes to the kernel too. What goes there is counted, in a map
of one counter for each CPU.

Registers: R6 the context, R2 and R3 where the packet begins and ends, R7 where its Ethernet header would begin if it
had no VLAN tags, R8 the first tag's VLAN (-1: none), R9 the EtherType, in network order as all that is compared.

References: Documentation/networking/af_xdp.rst; include/uapi/linux/bpf.h (struct xdp_md);
:func:`wirespeed.ports.match.matches` is the meaning of a match.
"""

from collections.abc import Callable, Sequence

from wirespeed.ports.af_xdp.assembler import Assembler, Reg
from wirespeed.ports.match import G_PDU, IPV4, SCTP, TAGS, TCP, UDP, Match, Network

PASS, REDIRECT_MAP = 2, 51  # XDP_PASS; helper numbers
_LOOKUP = 1
_DATA, _DATA_END, _RX_QUEUE = 0, 4, 16  # struct xdp_md
_ETHERTYPE, _IP = 12, 14
_PASSED = "pass"
R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = Reg


def make(
    matches: Sequence[Match], sockets: int, counters: int, before: Callable[[Assembler], None] | None = None
) -> bytes:
    """The program.

    Args:
        matches: alternatives; none takes every packet.
        sockets, counters: descriptors of an XSKMAP, and of a per-CPU array of one 64-bit counter.
        before: adds what is to be done with a packet that is taken; R6 is the context.
    """

    def take(code: Assembler) -> None:
        if before:
            before(code)
        take_packet(code, sockets)

    return write(matches, take, lambda code: leave_packet(code, counters))


def write(matches: Sequence[Match], take: Callable[[Assembler], None], leave: Callable[[Assembler], None]) -> bytes:
    """A program that does one thing with packets that match, and another with those that do not."""
    code = Assembler()
    code.mov(R6, R1)
    if not matches or Match() in matches:
        take(code)
        return code.assemble()
    matches = [match for match in matches if possible(match)]
    if not matches:
        leave(code)
        return code.assemble()
    read_link(code, _PASSED)
    for match in matches:
        compare(code, match, "take")
    code.label(_PASSED)
    leave(code)
    code.label("take")
    take(code)
    return code.assemble()


def read_link(code: Assembler, short: str) -> None:
    """Find where headers begin; goes to ``short`` with what is too short to have one. R6 is the context."""
    code.load(4, R2, R6, _DATA)
    code.load(4, R3, R6, _DATA_END)
    code.mov(R7, R2)
    _need(code, R7, _IP, short)
    _tags(code)


def compare(code: Assembler, match: Match, found: str) -> None:
    """Go to ``found`` with a packet that matches, and on with one that does not; after :func:`read_link`."""
    missed = code.fresh("missed")
    _link(code, match, missed)
    if match.wants_ip:
        _ip(code, match, missed, found)
    else:
        code.jump(found)
    code.label(missed)


def take_packet(code: Assembler, sockets: int) -> None:
    """Give the packet to the socket of its queue, if there is one; else the kernel gets it."""
    code.load_map(R1, sockets)
    code.load(4, R2, R6, _RX_QUEUE)
    code.mov(R3, PASS)
    code.call(REDIRECT_MAP)
    code.exit()


def leave_packet(code: Assembler, counters: int) -> None:
    """Leave the packet to the kernel, and count it."""
    code.store(4, R10, -4, 0)
    code.mov(R2, R10)
    code.alu("add", R2, -4)
    code.load_map(R1, counters)
    code.call(_LOOKUP)
    code.jump_if("eq", R0, 0, "uncounted")
    code.load(8, R1, R0)
    code.alu("add", R1, 1)
    code.store(8, R0, 0, R1)
    code.label("uncounted")
    code.mov(R0, PASS)
    code.exit()


def possible(match: Match) -> bool:
    """Whether there are packets that match: what has no ports cannot have the right ones."""
    if match.wants_transport and match.protocol not in (None, TCP, UDP, SCTP):
        return False
    return bool(match.versions) or not match.wants_ip


def _need(code: Assembler, base: Reg, size: int, otherwise: str) -> None:
    """The packet has ``size`` bytes from ``base`` on."""
    code.mov(R5, base)
    code.alu("add", R5, size)
    code.jump_if("gt", R5, R3, otherwise)


def _tags(code: Assembler) -> None:
    """Step over two VLAN tags at most; leaves R7, R8 and R9."""
    code.mov(R8, -1)
    for number in range(2):
        tagged = code.fresh("tagged")
        code.load(2, R4, R7, _ETHERTYPE)
        code.jump_if("eq", R4, _net16(TAGS[0]), tagged)
        code.jump_if("ne", R4, _net16(TAGS[1]), "untagged")
        code.label(tagged)
        _need(code, R7, _ETHERTYPE + 6, "untagged")
        if number == 0:
            code.load(2, R8, R7, _ETHERTYPE + 2)
            code.big_endian(R8, 16)
            code.alu("and", R8, 0xFFF)
        code.alu("add", R7, 4)
    code.label("untagged")
    code.load(2, R9, R7, _ETHERTYPE)


def _link(code: Assembler, match: Match, missed: str) -> None:
    if match.ethertype is not None:
        code.jump_if("ne", R9, _net16(match.ethertype), missed)
    if match.vlan is not None:
        code.jump_if("ne", R8, match.vlan, missed)


def _ip(code: Assembler, match: Match, missed: str, found: str) -> None:
    for version in match.versions:
        other = code.fresh("other")
        code.jump_if("ne", R9, _net16(version), other)
        (_ipv4 if version == IPV4 else _ipv6)(code, match, missed)
        if match.wants_transport:
            _transport(code, match, missed, 23 if version == IPV4 else 20)
        code.jump(found)
        code.label(other)
    code.jump(missed)


def _ipv4(code: Assembler, match: Match, missed: str) -> None:
    """Leaves the transport header's address in R1."""
    _need(code, R7, _IP + 20, missed)
    code.load(1, R0, R7, _IP)
    code.mov(R1, R0)
    code.alu("rsh", R1, 4)
    code.jump_if("ne", R1, 4, missed)
    code.alu("and", R0, 15)
    code.jump_if("lt", R0, 5, missed)
    code.alu("lsh", R0, 2)
    code.mov(R1, R7)
    code.alu("add", R1, _IP)
    code.alu("add", R1, R0)
    code.jump_if("gt", R1, R3, missed)
    _addresses(code, match, 26, 30, missed)
    _protocol(code, match, 23, missed)
    if match.wants_transport:
        code.load(2, R4, R7, 20)
        code.jump_if("set", R4, _net16(0x1FFF), missed)  # a later fragment has no transport header


def _ipv6(code: Assembler, match: Match, missed: str) -> None:
    """Leaves the transport header's address in R1."""
    _need(code, R7, _IP + 40, missed)
    code.load(1, R0, R7, _IP)
    code.alu("rsh", R0, 4)
    code.jump_if("ne", R0, 6, missed)
    _addresses(code, match, 22, 38, missed)
    _protocol(code, match, 20, missed)
    code.mov(R1, R7)
    code.alu("add", R1, _IP + 40)


def _addresses(code: Assembler, match: Match, source: int, destination: int, missed: str) -> None:
    for network, at in ((match.source, source), (match.destination, destination)):
        if network is not None:
            _network(code, network, at, missed)


def _network(code: Assembler, network: Network, at: int, missed: str) -> None:
    address, mask = network.network_address.packed, network.netmask.packed
    for word in range(0, len(mask), 4):
        bits = int.from_bytes(mask[word : word + 4], "little")
        if bits == 0:
            continue
        code.load(4, R4, R7, at + word)
        if bits != 0xFFFF_FFFF:
            code.alu("and", R4, bits)
        code.jump_if("ne", R4, int.from_bytes(address[word : word + 4], "little"), missed, bits=32)


def _protocol(code: Assembler, match: Match, at: int, missed: str) -> None:
    if match.protocol is not None:
        code.load(1, R4, R7, at)
        code.jump_if("ne", R4, match.protocol, missed)


def _transport(code: Assembler, match: Match, missed: str, protocol: int) -> None:
    """What is asked of the header at R1; ``protocol``: where its number is."""
    if match.protocol is None:
        known = code.fresh("known")
        code.load(1, R4, R7, protocol)
        for number in (TCP, UDP):
            code.jump_if("eq", R4, number, known)
        code.jump_if("ne", R4, SCTP, missed)
        code.label(known)
    _need(code, R1, 4, missed)
    for ports, at in ((match.sport, 0), (match.dport, 2)):
        if ports is not None:
            code.load(2, R4, R1, at)
            code.big_endian(R4, 16)
            if ports[0] == ports[1]:
                code.jump_if("ne", R4, ports[0], missed)
            else:
                code.jump_if("lt", R4, ports[0], missed)
                code.jump_if("gt", R4, ports[1], missed)
    if match.teid is not None or match.vni is not None:
        _need(code, R1, 16, missed)
    if match.teid is not None:
        code.load(1, R4, R1, 9)
        code.jump_if("ne", R4, G_PDU, missed)
        code.load(4, R4, R1, 12)
        code.jump_if("ne", R4, int.from_bytes(match.teid.to_bytes(4), "little"), missed, bits=32)
    if match.vni is not None:
        flagged = code.fresh("flagged")
        code.load(1, R4, R1, 8)
        code.jump_if("set", R4, 8, flagged)
        code.jump(missed)
        code.label(flagged)
        code.load(4, R4, R1, 12)
        code.alu("and", R4, 0xFF_FFFF)
        code.jump_if("ne", R4, int.from_bytes(match.vni.to_bytes(3), "little"), missed)


def _net16(value: int) -> int:
    """As a little-endian load sees it."""
    return (value & 0xFF) << 8 | value >> 8


__all__ = ["make", "possible", "write"]
