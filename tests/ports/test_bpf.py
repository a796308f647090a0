"""Programs that are assembled here, run by the kernel: each match means what the reference says."""

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).parent))

from wirespeed.errors import PortError, WirespeedError
from wirespeed.ports.af_xdp import bpf
from wirespeed.ports.af_xdp import program as xdp_program
from wirespeed.ports.af_xdp.assembler import Assembler, Reg
from wirespeed.ports.match import matches, parse_match, parse_matches

TAKEN, LEFT = 3, 1  # XDP_TX, XDP_DROP: test runs report them as they are


def _why_not() -> str:
    if os.geteuid() != 0:
        return "needs root: bpf(2)"
    try:
        os.close(bpf.create_map(bpf.ARRAY, 4, 8, 1, "try"))
    except OSError as error:
        return f"no bpf(2) here: {error}"
    return ""


WHY_NOT = _why_not()
needs_bpf = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")


def verdict(number: int):  # type: ignore[no-untyped-def]
    def add(code: Assembler) -> None:
        code.mov(Reg.R0, number)
        code.exit()

    return add


# RFC 9669, sections 3 to 5.
@pytest.mark.parametrize(
    ("add", "expected"),
    [
        (lambda c: c.mov(Reg.R0, 2), "b7 00 0000 02000000"),
        (lambda c: c.mov(Reg.R6, Reg.R1), "bf 16 0000 00000000"),
        (lambda c: c.alu("add", Reg.R2, -4), "07 02 0000 fcffffff"),
        (lambda c: c.alu("and", Reg.R4, 0xFFFFFF00), "57 04 0000 00ffffff"),
        (lambda c: c.load(2, Reg.R4, Reg.R7, 12), "69 74 0c00 00000000"),
        (lambda c: c.load(8, Reg.R1, Reg.R0), "79 01 0000 00000000"),
        (lambda c: c.store(4, Reg.R10, -4, 0), "62 0a fcff 00000000"),
        (lambda c: c.store(8, Reg.R0, 0, Reg.R1), "7b 10 0000 00000000"),
        (lambda c: c.atomic_add(Reg.R0, 8, Reg.R1), "db 10 0800 00000000"),
        (lambda c: c.big_endian(Reg.R4, 16), "dc 04 0000 10000000"),
        (lambda c: c.call(51), "85 00 0000 33000000"),
        (lambda c: c.call_kernel(7), "85 20 0000 07000000"),
        (lambda c: c.load_map(Reg.R1, 5), "18 11 0000 05000000 00 00 0000 00000000"),
        (lambda c: c.exit(), "95 00 0000 00000000"),
    ],
)
def test_instructions(add, expected: str) -> None:  # type: ignore[no-untyped-def]
    code = Assembler()
    add(code)
    assert code.assemble() == bytes.fromhex(expected)


def test_jumps_reach_their_labels() -> None:
    code = Assembler()
    code.jump_if("eq", Reg.R0, 0, "end")
    code.jump_if("ne", Reg.R4, 0x8000_0001, "end", bits=32)
    code.jump("end")
    code.label("end")
    code.exit()
    assert code.assemble() == bytes.fromhex(
        "15000200 00000000  56040100 01000080  05000000 00000000  95000000 00000000".replace(" ", "")
    )


def test_labels_are_there_once() -> None:
    code = Assembler()
    code.jump("nowhere")
    with pytest.raises(WirespeedError, match="nowhere"):
        code.assemble()
    code.label("here")
    with pytest.raises(WirespeedError, match="twice"):
        code.label("here")
    assert code.fresh("a") != code.fresh("a")


TEXTS = [
    "udp/53", "tcp", "sport/1024-65535", "from/10.0.0.0/8", "to/10.1.2.0/23", "from/2001:db8::/33",
    "to/2001:db8::1", "vlan/7", "vlan/7&udp/53", "ether/0x88b5", "arp", "ip", "ip6", "icmp", "icmp6", "proto/47",
    "teid/0x80000001", "vni/7", "udp/53|tcp/80-90|arp", "sctp&sport/9", "ip6&udp/1-2", "from/0.0.0.0/0", "any",
    "icmp&sport/4", "proto/6&dport/80|vlan/0",
]  # fmt: skip
PROGRAMS: dict[str, int] = {}


def program(text: str) -> int:
    if text not in PROGRAMS:
        code = xdp_program.write(parse_matches(text), verdict(TAKEN), verdict(LEFT))
        PROGRAMS[text] = bpf.load_xdp(code, "test")
    return PROGRAMS[text]


@pytest.fixture(scope="module", autouse=True)
def programs():  # type: ignore[no-untyped-def]
    yield
    for fd in PROGRAMS.values():
        os.close(fd)
    PROGRAMS.clear()


numbers = st.sampled_from([0, 1, 2, 7, 9, 53, 80, 85, 90, 91, 1023, 1024, 2152, 4789, 65535])
tag = st.builds(lambda kind, tci: kind + tci, st.sampled_from([b"\x81\x00", b"\x88\xa8"]), st.sampled_from(
    [b"\x00\x07", b"\xe0\x07", b"\x00\x00", b"\x0f\xff"]))  # fmt: skip
v4 = st.sampled_from(
    [b"\x0a\x00\x00\x01", b"\x0a\x01\x02\x03", b"\x0a\x01\x03\xff", b"\xc0\x00\x02\x01", b"\x0b\0\0\0"]
)
v6 = st.sampled_from([
    bytes.fromhex("20010db8000000000000000000000001"), bytes.fromhex("20010db8700000000000000000000001"),
    bytes.fromhex("20010db8800000000000000000000001"), bytes(16),
])  # fmt: skip
protocols = st.sampled_from([1, 6, 17, 47, 58, 132])
tunnels = st.sampled_from([
    bytes.fromhex("30ff000480000001"), bytes.fromhex("30fe000480000001"), bytes.fromhex("0800000000000700"),
    bytes.fromhex("0000000000000700"), bytes.fromhex("0800000000000800"), b"", b"abcd",
])  # fmt: skip


@st.composite
def frames(draw):  # type: ignore[no-untyped-def]
    """Near misses of everything the texts ask for, sometimes cut short."""
    link = bytes(12) + b"".join(draw(st.lists(tag, max_size=3)))
    transport = struct.pack("!HHHH", draw(numbers), draw(numbers), 8, 0) + draw(tunnels)
    kind = draw(st.sampled_from([4, 6, 0]))
    if kind == 4:
        words = draw(st.sampled_from([4, 5, 5, 5, 6, 15]))
        fragment = draw(st.sampled_from([0, 0, 0x2000, 0x4000, 1, 0x1FFF]))
        version = draw(st.sampled_from([4, 4, 4, 5]))
        head = struct.pack("!BBHHHBBH", version << 4 | words, 0, 0, 0, fragment, 64, draw(protocols), 0)
        data = b"\x08\x00" + head + draw(v4) + draw(v4) + bytes(max(words - 5, 0) * 4) + transport
    elif kind == 6:
        version = draw(st.sampled_from([6, 6, 6, 4]))
        head = struct.pack("!IHBB", version << 28, 0, draw(protocols), 64)
        data = b"\x86\xdd" + head + draw(v6) + draw(v6) + transport
    else:
        data = draw(st.sampled_from([b"\x08\x06", b"\x88\xb5", b"\x08\x00", b"\x86\xdd"])) + bytes(30)
    frame = link + data
    cut = draw(st.sampled_from([None, None, None, -1, -4, -9, 14, 18, 22, 33, 34, 36, 38, 53, 54, 57, 58]))
    return frame[:cut] if cut is None or len(frame[:cut]) >= 14 else frame


@needs_bpf
@pytest.mark.parametrize("text", TEXTS)
@settings(max_examples=60)
@given(frame=frames())
def test_programs_mean_what_the_reference_says(text: str, frame: bytes) -> None:
    wanted = any(matches(match, frame) for match in parse_matches(text))
    assert bpf.run_xdp(program(text), frame)[0] == (TAKEN if wanted else LEFT), frame.hex(" ")


@needs_bpf
def test_the_whole_program_counts_what_it_leaves() -> None:
    sockets, counters = bpf.create_map(bpf.XSKMAP, 4, 4, 1, "s"), bpf.create_map(bpf.PER_CPU_ARRAY, 4, 8, 1, "c")
    with bpf.closing(sockets, counters):
        fd = bpf.load_xdp(xdp_program.make(parse_matches("arp"), sockets, counters), "wirespeed")
        with bpf.closing(fd):
            arp, other = bytes(12) + b"\x08\x06" + bytes(46), bytes(60)
            for frame in (arp, other, other):
                assert bpf.run_xdp(fd, frame)[0] == xdp_program.PASS  # no socket is there
            cpus = bpf.possible_cpus()
            assert sum(struct.unpack(f"={cpus}Q", bpf.lookup(counters, 0, 8 * cpus))) == 2
            assert bpf.program_of(fd).name == "wirespeed"
            assert bpf.program(bpf.program_of(fd).number) == bpf.program_of(fd)


@needs_bpf
def test_what_the_verifier_refuses_is_said() -> None:
    code = Assembler()
    code.exit()
    with pytest.raises(OSError, match="R0 !read_ok"):
        bpf.load_xdp(code.assemble(), "bad")


@needs_bpf
def test_elements_come_and_go() -> None:
    fd = bpf.create_map(bpf.ARRAY, 4, 8, 4, "test")
    with bpf.closing(fd):
        bpf.update(fd, 3, b"\1\2\3\4\5\6\7\x08")
        assert bpf.lookup(fd, 3, 8) == b"\1\2\3\4\5\6\7\x08"
        with pytest.raises(OSError, match="Argument list too long"):
            bpf.update(fd, 4, bytes(8))
    assert bpf.program(0).name == ""


@pytest.mark.parametrize("text", ["icmp&sport/4", "arp&udp/53", "proto/47&teid/1"])
def test_what_no_packet_is(text: str) -> None:
    try:
        match = parse_match(text)
    except WirespeedError:
        return
    assert not xdp_program.possible(match)


def test_a_program_that_is_too_long() -> None:
    """A jump says at most 32767 instructions."""
    alternatives = [parse_match(f"udp/{number}&from/10.0.0.0/8") for number in range(3000)]
    with pytest.raises(PortError, match="instructions are too many for an XDP program: give fewer matches"):
        xdp_program.make(alternatives, 0, 0)
