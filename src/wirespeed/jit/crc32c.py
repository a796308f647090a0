"""CRC32C steps: the processor's own instruction (SSE4.2), or tables where it has none.

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

from wirespeed.jit.crc import emit_step, step_bytes
from wirespeed.jit.primitive import has_feature, i8, i32, i64, intrinsic, primitive

POLYNOMIAL = 0x82F63B78  # reflected: bit 0 is the coefficient of x^31


def by_table(bits: int) -> Any:
    """Emit a step over ``bits`` bits by tables."""
    return emit_step(POLYNOMIAL, 32, True, bits // 8)


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
        chosen = _by_instruction if has_feature("sse4.2") else by_table
        return chosen(bits)(builder, crc, data)

    return primitive(emit, types.int64, types.int64, types.int64)


@_step(64)
def crc32c_word(crc: int, word: int) -> int:
    """The CRC after eight more bytes, the little-endian ``word``; ``crc`` and the result are 32 bits."""
    return step_bytes(POLYNOMIAL, 32, True, 8, crc, word)


@_step(32)
def crc32c_half(crc: int, half: int) -> int:
    """The CRC after four more bytes, the low 32 bits of ``half``."""
    return step_bytes(POLYNOMIAL, 32, True, 4, crc, half)


@_step(8)
def crc32c_byte(crc: int, byte: int) -> int:
    """The CRC after one more byte, the low 8 bits of ``byte``."""
    return step_bytes(POLYNOMIAL, 32, True, 1, crc, byte)
