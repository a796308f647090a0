"""The 64 x 64 bit product folded to 64 bits: the step that multiplicative hashes are made of."""

from llvmlite import ir
from numba.core import types

from wirespeed.jit.bits import multiply, multiply_high
from wirespeed.jit.primitive import i64, primitive


def _emit_fold(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    wide = ir.IntType(128)
    product = builder.mul(builder.zext(a, wide), builder.zext(b, wide))
    high = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), i64)
    return builder.xor(builder.trunc(product, i64), high)


@primitive(_emit_fold, types.int64, types.int64, types.int64)
def multiply_fold(a: int, b: int) -> int:
    """The low half of the unsigned 128-bit product, exclusive-or its high half: one multiplication, both halves used.

    Each bit of the result depends on all bits of both (wyhash's "mum": Wang Yi, github.com/wangyi-fudan/wyhash).
    """
    return multiply(a, b) ^ multiply_high(a, b)
