"""CRC steps by table, for any polynomial of 8 to 32 bits: eight bytes a step.

A step over a word looks each of its bytes up in a table of its own and adds the results ("slicing-by-8",
M. Kounavis and F. Berry, "A systematic approach to building high performance software-based CRC generators",
ISCC 2005). The look-ups are independent of each other, so 8 bytes take about 12 cycles, the latency of a load and
of three additions, where byte after byte they take 50. The tables (8 KiB for each polynomial) are constants of the
module they are compiled into: no object, no memory to pass around.

A CRC in a register is right-aligned. **Reflected** polynomials (bit 0 first) and others (bit 7 first) differ in
the end that the register shifts to.
"""

from collections.abc import Callable
from functools import cache

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import i32, i64, primitive

Step = Callable[[int, int], int]


@cache
def _tables(polynomial: int, width: int, reflected: bool) -> tuple[tuple[int, ...], ...]:
    """``tables[k][byte]``: what a byte makes of a register of zeros once ``k`` bytes of zeros have followed it."""
    mask = (1 << width) - 1
    first = []
    for byte in range(256):
        crc = byte if reflected else byte << width - 8
        for _ in range(8):
            if reflected:
                crc = crc >> 1 ^ (polynomial if crc & 1 else 0)
            else:
                crc = (crc << 1 ^ (polynomial if crc >> width - 1 else 0)) & mask
        first.append(crc)
    tables = [tuple(first)]
    for _ in range(7):
        last = tables[-1]
        if reflected:
            tables.append(tuple(crc >> 8 ^ first[crc & 0xFF] for crc in last))
        else:
            tables.append(tuple((crc << 8 & mask) ^ first[crc >> width - 8] for crc in last))
    return tuple(tables)


def _constant(builder: ir.IRBuilder, polynomial: int, width: int, reflected: bool) -> ir.Value:
    """The tables as a constant, once a module."""
    name = f"wirespeed.crc.{width}.{polynomial:x}.{reflected:d}"
    found = builder.module.globals.get(name)
    if found is None:
        kind = ir.ArrayType(ir.ArrayType(i32, 256), 8)
        found = ir.GlobalVariable(builder.module, kind, name)
        found.linkage, found.global_constant = "internal", True
        rows = [ir.Constant(ir.ArrayType(i32, 256), row) for row in _tables(polynomial, width, reflected)]
        found.initializer = ir.Constant(kind, rows)
    return found


def emit_step(polynomial: int, width: int, reflected: bool, size: int) -> Callable[..., ir.Value]:
    """The emitter of a step over the ``size`` low bytes of a word, the lowest first."""

    def emit(builder: ir.IRBuilder, crc: ir.Value, data: ir.Value) -> ir.Value:
        def constant(value: int) -> ir.Value:
            return ir.Constant(i64, value)

        tables = _constant(builder, polynomial, width, reflected)
        crc = builder.and_(crc, constant((1 << width) - 1))
        first = crc if reflected else builder.lshr(builder.bswap(crc), constant(64 - width))  # the next byte lowest
        mixed = builder.xor(data, first)
        left = constant(0)
        if size * 8 < width:  # what is not shifted out
            if reflected:
                left = builder.lshr(crc, constant(size * 8))
            else:
                left = builder.and_(builder.shl(crc, constant(size * 8)), constant((1 << width) - 1))
        for byte in range(size):
            index = builder.and_(builder.lshr(mixed, constant(byte * 8)), constant(0xFF))
            entry = builder.load(builder.gep(tables, [constant(0), constant(size - 1 - byte), index]))
            left = builder.xor(left, builder.zext(entry, i64))
        return left

    return emit


def step_bytes(polynomial: int, width: int, reflected: bool, size: int, crc: int, data: int) -> int:
    """What :func:`emit_step` emits, in Python."""
    first, mask = _tables(polynomial, width, reflected)[0], (1 << width) - 1
    crc &= mask
    for byte in range(size):
        now = data >> byte * 8 & 0xFF
        if reflected:
            crc = crc >> 8 ^ first[(crc ^ now) & 0xFF]
        else:
            crc = (crc << 8 & mask) ^ first[crc >> width - 8 ^ now]
    return crc


def crc_steps(polynomial: int, width: int, reflected: bool) -> tuple[Step, Step]:
    """``(word, byte)``: the CRC after eight more bytes (a little-endian word) and after one more.

    ``polynomial`` is written the way its bits are shifted: reversed (0xA001 for CRC-16's 0x8005) if reflected.
    """

    @primitive(emit_step(polynomial, width, reflected, 8), types.int64, types.int64, types.int64)
    def word_step(crc: int, word: int) -> int:
        """The CRC after eight more bytes."""
        return step_bytes(polynomial, width, reflected, 8, crc, word)

    @primitive(emit_step(polynomial, width, reflected, 1), types.int64, types.int64, types.int64)
    def byte_step(crc: int, byte: int) -> int:
        """The CRC after one more byte."""
        return step_bytes(polynomial, width, reflected, 1, crc, byte)

    return word_step, byte_step
