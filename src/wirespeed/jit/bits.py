"""Bit and byte operations that are one instruction: byte swaps, counts, rotations, products."""

from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import i64, intrinsic, primitive

_U64 = 0xFFFF_FFFF_FFFF_FFFF


def signed64(value: int) -> int:
    """The low 64 bits of a Python int as int64, the way a register holds them."""
    value &= _U64
    return value - (1 << 64) if value >> 63 else value


def _swapper(bits: int) -> Any:
    def emit(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        if bits == 64:
            return builder.bswap(value)
        return builder.zext(builder.bswap(builder.trunc(value, ir.IntType(bits))), i64)

    return primitive(emit, types.int64, types.int64)


@_swapper(16)
def bswap16(value: int) -> int:
    """Swap the two low bytes."""
    return int.from_bytes((value & 0xFFFF).to_bytes(2, "little"), "big")


@_swapper(32)
def bswap32(value: int) -> int:
    """Reverse the four low bytes."""
    return int.from_bytes((value & 0xFFFF_FFFF).to_bytes(4, "little"), "big")


@_swapper(64)
def bswap64(value: int) -> int:
    """Reverse all eight bytes; the result is int64."""
    return signed64(int.from_bytes((value & _U64).to_bytes(8, "little"), "big"))


def _emit_bit_reverse32(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
    reverse = intrinsic(builder, "llvm.bitreverse.i32", ir.IntType(32), [ir.IntType(32)])
    return builder.zext(builder.call(reverse, [builder.trunc(value, ir.IntType(32))]), i64)


@primitive(_emit_bit_reverse32, types.int64, types.int64)
def bit_reverse32(value: int) -> int:
    """The low 32 bits, the last one first."""
    return int(f"{value & 0xFFFF_FFFF:032b}"[::-1], 2)


def _emit_count(name: str) -> Any:
    def emit(builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        if name == "ctpop":
            return builder.call(intrinsic(builder, "llvm.ctpop.i64", i64, [i64]), [value])
        call = intrinsic(builder, f"llvm.{name}.i64", i64, [i64, ir.IntType(1)])
        return builder.call(call, [value, ir.Constant(ir.IntType(1), 0)])

    return primitive(emit, types.int64, types.int64)


@_emit_count("ctpop")
def popcount(value: int) -> int:
    """How many of the 64 bits are set."""
    return (value & _U64).bit_count()


@_emit_count("cttz")
def trailing_zeros(value: int) -> int:
    """Zeros below the lowest set bit; 64 for zero."""
    value &= _U64
    return (value & -value).bit_length() - 1 if value else 64


@_emit_count("ctlz")
def leading_zeros(value: int) -> int:
    """Zeros above the highest set bit; 64 for zero."""
    return 64 - (value & _U64).bit_length()


def _emit_shift_right(builder: ir.IRBuilder, value: ir.Value, count: ir.Value) -> ir.Value:
    return builder.lshr(value, count)


@primitive(_emit_shift_right, types.int64, types.int64, types.int64)
def shift_right(value: int, count: int) -> int:
    """Logical (zero-filling) right shift of the 64 bits; ``count`` is 0 to 63."""
    return signed64((value & _U64) >> count)


def _emit_rotate_left(builder: ir.IRBuilder, value: ir.Value, count: ir.Value) -> ir.Value:
    return builder.call(intrinsic(builder, "llvm.fshl.i64", i64, [i64] * 3), [value, value, count])


@primitive(_emit_rotate_left, types.int64, types.int64, types.int64)
def rotate_left(value: int, count: int) -> int:
    """The 64 bits moved up, those that fall out coming in below; ``count`` is 0 to 63."""
    value &= _U64
    return signed64(value << count | value >> 64 - count)


def _emit_multiply(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.mul(a, b)


@primitive(_emit_multiply, types.int64, types.int64, types.int64)
def multiply(a: int, b: int) -> int:
    """The low 64 bits of the product, as int64: what hash functions mean by ``*``."""
    return signed64(a * b)


def _emit_multiply_high(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    i128 = ir.IntType(128)
    product = builder.mul(builder.zext(a, i128), builder.zext(b, i128))
    return builder.trunc(builder.lshr(product, ir.Constant(i128, 64)), i64)


@primitive(_emit_multiply_high, types.int64, types.int64, types.int64)
def multiply_high(a: int, b: int) -> int:
    """The high 64 bits of the unsigned 128-bit product, as int64.

    With a full-range ``a`` it maps onto ``range(b)`` evenly, without a division (Lemire, ACM TOMACS 29(1), 2019).
    """
    return signed64(((a & _U64) * (b & _U64)) >> 64)


def _emit_add(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return builder.add(a, b)


@primitive(_emit_add, types.int64, types.int64, types.int64)
def add(a: int, b: int) -> int:
    """The low 64 bits of the sum, as int64; wraps in both machines."""
    return signed64(a + b)
