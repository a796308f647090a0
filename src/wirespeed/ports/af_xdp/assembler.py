"""A small assembler for eBPF: the programs that a port gives to the kernel are made here, without clang or libbpf.

An instruction is eight bytes::

    0  opcode (class, source, operation)   1  source << 4 | destination   2  offset (16, signed)   4  immediate (32)

``ld_imm64`` takes two. Jumps name a label; :meth:`Assembler.assemble` writes the distances in.

Reference: RFC 9669 (BPF instruction set architecture); Documentation/bpf/standardization/instruction-set.rst.
"""

import struct
from enum import IntEnum

from wirespeed.errors import PortError, WirespeedError


class Reg(IntEnum):
    """Registers: R0 is the result, R1 to R5 are arguments (lost in a call), R6 to R9 are kept, R10 is the frame."""

    R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


_SIZES = {1: 0x10, 2: 0x08, 4: 0x00, 8: 0x18}  # BPF_B, BPF_H, BPF_W, BPF_DW
_LDX, _ST, _STX, _JMP, _JMP32, _ALU64 = 0x61, 0x62, 0x63, 0x05, 0x06, 0x07
_FROM_REGISTER = 0x08
_ALU = {"add": 0x00, "sub": 0x10, "or": 0x40, "and": 0x50, "lsh": 0x60, "rsh": 0x70, "mov": 0xB0}
_JUMPS = {"eq": 0x10, "gt": 0x20, "ge": 0x30, "set": 0x40, "ne": 0x50, "lt": 0xA0, "le": 0xB0}
_FURTHEST = 0x7FFF
_MAP_FD, _KERNEL_FUNCTION = 1, 2  # BPF_PSEUDO_MAP_FD, BPF_PSEUDO_KFUNC_CALL


class Assembler:
    """Instructions so far. Every method adds one; values are registers or 32-bit numbers."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int | str, int]] = []
        self._labels: dict[str, int] = {}
        self._fresh = 0

    def alu(self, operation: str, to: Reg, value: Reg | int) -> None:
        """``to = to operation value`` on 64 bits; operations: add, sub, or, and, lsh, rsh, mov."""
        self._either(_ALU64 | _ALU[operation], to, 0, value)

    def mov(self, to: Reg, value: Reg | int) -> None:
        """``to = value``; a number is sign-extended."""
        self.alu("mov", to, value)

    def load(self, size: int, to: Reg, base: Reg, offset: int = 0) -> None:
        """``to = *(base + offset)`` of ``size`` bytes, in the machine's order."""
        self._add(_LDX | _SIZES[size], to, base, offset, 0)

    def store(self, size: int, base: Reg, offset: int, value: Reg | int) -> None:
        """``*(base + offset) = value``, ``size`` bytes."""
        if isinstance(value, Reg):
            self._add(_STX | _SIZES[size], base, value, offset, 0)
        else:
            self._add(_ST | _SIZES[size], base, Reg.R0, offset, value)

    def atomic_add(self, base: Reg, offset: int, value: Reg) -> None:
        """Add to a 64-bit word, for all CPUs at once."""
        self._add(0xDB, base, value, offset, 0)

    def big_endian(self, register: Reg, bits: int) -> None:
        """Turn the low ``bits`` (16 or 32) from network order into the machine's; the rest becomes 0."""
        self._add(0xDC, register, Reg.R0, 0, bits)

    def load_map(self, to: Reg, fd: int) -> None:
        """``to`` = the map behind a descriptor."""
        self._add(0x18, to, Reg(_MAP_FD), 0, fd)
        self._add(0, Reg.R0, Reg.R0, 0, 0)

    def jump(self, label: str) -> None:
        """Go on at ``label``, which comes later."""
        self._add(_JMP, Reg.R0, Reg.R0, label, 0)

    def jump_if(self, condition: str, register: Reg, value: Reg | int, label: str, bits: int = 64) -> None:
        """Go on at ``label`` if ``register condition value``, unsigned: eq, ne, gt, ge, lt, le, set (a bit in common).

        With ``bits=32`` only the lower halves are compared; a number above 2^31 needs that.
        """
        self._either((_JMP if bits == 64 else _JMP32) | _JUMPS[condition], register, label, value)

    def call(self, helper: int) -> None:
        """Call one of the kernel's helpers (enum bpf_func_id)."""
        self._add(0x85, Reg.R0, Reg.R0, 0, helper)

    def call_kernel(self, function: int) -> None:
        """Call a function of the kernel by its number in the kernel's BTF."""
        self._add(0x85, Reg.R0, Reg(_KERNEL_FUNCTION), 0, function)

    def exit(self) -> None:
        """Return R0."""
        self._add(0x95, Reg.R0, Reg.R0, 0, 0)

    def label(self, name: str) -> None:
        """The next instruction is called ``name``."""
        if name in self._labels:
            raise WirespeedError(f"label {name!r} is there twice")
        self._labels[name] = len(self._code)

    def fresh(self, stem: str) -> str:
        """A label that nobody has."""
        self._fresh += 1
        return f"{stem}.{self._fresh}"

    def assemble(self) -> bytes:
        """The machine code.

        Raises:
            WirespeedError: a jump to a label that is not there.
            PortError: a jump further than the 15 bits of its distance say.
        """
        code = bytearray()
        for at, (opcode, to, source, offset, immediate) in enumerate(self._code):
            if isinstance(offset, str):
                if offset not in self._labels:
                    raise WirespeedError(f"a jump to {offset!r}, which is nowhere")
                offset = self._labels[offset] - at - 1
                if offset > _FURTHEST:
                    raise PortError(
                        f"{len(self._code)} instructions are too many for an XDP program: give fewer matches"
                    )
            code += struct.pack("<BBhi", opcode, source << 4 | to, offset, _signed(immediate))
        return bytes(code)

    def _either(self, opcode: int, register: Reg, offset: int | str, value: Reg | int) -> None:
        if isinstance(value, Reg):
            self._add(opcode | _FROM_REGISTER, register, value, offset, 0)
        else:
            self._add(opcode, register, Reg.R0, offset, value)

    def _add(self, opcode: int, to: Reg, source: Reg, offset: int | str, immediate: int) -> None:
        self._code.append((opcode, to, source, offset, immediate))


def _signed(value: int) -> int:
    """A 32-bit number as the signed field holds it."""
    return value - (1 << 32) if value >> 31 == 1 else value


__all__ = ["Assembler", "Reg"]
