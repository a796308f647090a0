"""CRC32C steps: the processor's own instruction (SSE4.2), or a table where it has none.

CRC32C is the Castagnoli polynomial 0x1EDC6F41, reflected (0x82F63B78): the CRC of iSCSI, SCTP and of DPDK's hash
functions. These are the bare steps: no initial value, no final complement; a checksum starts at 0xFFFFFFFF and
complements the result, a hash starts at its seed and takes the result as it is. A step can start every cycle
and ends three later, so one chain of words runs at 8 bytes in 3 cycles and three chains side by side at 8 a cycle.

The choice is made when a kernel is compiled, from the features of the processor it is compiled for.

Reference: Intel SDM volume 2, CRC32; RFC 3309; RFC 3720 appendix B.4.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target

from wirespeed.jit.primitive import i8, i32, i64, intrinsic, primitive

POLYNOMIAL = 0x82F63B78  # reflected: bit 0 is the coefficient of x^31


def _entry(byte: int) -> int:
    for _ in range(8):
        byte = (byte >> 1) ^ (POLYNOMIAL if byte & 1 else 0)
    return byte


_TABLE = tuple(_entry(byte) for byte in range(256))


def has_instruction() -> bool:
    """Whether kernels are compiled for a processor that has the instruction."""
    features = cpu_target.target_context.codegen()._get_host_cpu_features()
    return "+sse4.2" in features.split(",")


def _table(builder: ir.IRBuilder) -> ir.Value:
    """The 256 remainders, once a module."""
    name = "wirespeed.crc32c.table"
    table = builder.module.globals.get(name)
    if table is None:
        kind = ir.ArrayType(i32, 256)
        table = ir.GlobalVariable(builder.module, kind, name)
        table.linkage, table.global_constant = "internal", True
        table.initializer = ir.Constant(kind, _TABLE)
    return table


def by_table(bits: int) -> Any:
    """Emit a step over ``bits`` bits by one table look-up a byte."""

    def emit(builder: ir.IRBuilder, crc: ir.Value, data: ir.Value) -> ir.Value:
        table = _table(builder)
        mixed = builder.xor(builder.and_(crc, ir.Constant(i64, 0xFFFF_FFFF)), _narrow(builder, data, bits))
        for _ in range(bits // 8):
            index = builder.and_(mixed, ir.Constant(i64, 0xFF))
            entry = builder.load(builder.gep(table, [ir.Constant(i64, 0), index]))
            mixed = builder.xor(builder.lshr(mixed, ir.Constant(i64, 8)), builder.zext(entry, i64))
        return mixed

    return emit


def _narrow(builder: ir.IRBuilder, data: ir.Value, bits: int) -> ir.Value:
    return data if bits == 64 else builder.and_(data, ir.Constant(i64, (1 << bits) - 1))


def _by_instruction(bits: int) -> Any:
    wide = i64 if bits == 64 else i32
    name = "llvm.x86.sse42.crc32.64.64" if bits == 64 else f"llvm.x86.sse42.crc32.32.{bits}"

    def emit(builder: ir.IRBuilder, crc: ir.Value, data: ir.Value) -> ir.Value:
        kind = {8: i8, 32: i32, 64: i64}[bits]
        call = intrinsic(builder, name, wide, [wide, kind])
        if bits == 64:
            return builder.call(call, [crc, data])
        return builder.zext(builder.call(call, [builder.trunc(crc, i32), builder.trunc(data, kind)]), i64)

    return emit


def _step(bits: int) -> Any:
    def emit(builder: ir.IRBuilder, crc: ir.Value, data: ir.Value) -> ir.Value:
        chosen = _by_instruction if has_instruction() else by_table
        return chosen(bits)(builder, crc, data)

    return primitive(emit, types.int64, types.int64, types.int64)


def _interpreted(crc: int, data: int, bits: int) -> int:
    mixed = (crc & 0xFFFF_FFFF) ^ (data & ((1 << bits) - 1))
    for _ in range(bits // 8):
        mixed = (mixed >> 8) ^ _TABLE[mixed & 0xFF]
    return mixed


@_step(64)
def crc32c_word(crc: int, word: int) -> int:
    """The CRC after eight more bytes, the little-endian ``word``; ``crc`` and the result are 32 bits."""
    return _interpreted(crc, word, 64)


@_step(32)
def crc32c_half(crc: int, half: int) -> int:
    """The CRC after four more bytes, the low 32 bits of ``half``."""
    return _interpreted(crc, half, 32)


@_step(8)
def crc32c_byte(crc: int, byte: int) -> int:
    """The CRC after one more byte, the low 8 bits of ``byte``."""
    return _interpreted(crc, byte, 8)
