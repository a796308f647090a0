"""Multiplication without carries: polynomials over GF(2), which is what CRCs and the Toeplitz hash are made of.

One instruction (PCLMULQDQ) where the processor has it; else 64 shifts and masks in a function of the module.
The choice is made when a kernel is compiled. Reference: Intel SDM volume 2, PCLMULQDQ.
"""

from llvmlite import ir
from numba.core import types

from wirespeed.jit.bits import signed64
from wirespeed.jit.primitive import has_feature, i8, i32, i64, intrinsic, primitive

_U64 = 0xFFFF_FFFF_FFFF_FFFF


def _by_instruction(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    pair = ir.VectorType(i64, 2)
    call = intrinsic(builder, "llvm.x86.pclmulqdq", pair, [pair, pair, i8])
    first, zero = ir.Constant(pair, ir.Undefined), ir.Constant(i32, 0)
    product = builder.call(
        call,
        [builder.insert_element(first, a, zero), builder.insert_element(first, b, zero), ir.Constant(i8, 0)],
    )
    return builder.extract_element(product, zero)


def by_shifts(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    """The same without the instruction."""
    name = "wirespeed.carryless_multiply"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(i64, [i64, i64]), name)
        function.linkage = "internal"
        inside = ir.IRBuilder(function.append_basic_block())
        left, right = function.args
        product: ir.Value = ir.Constant(i64, 0)
        for bit in range(64):
            chosen = inside.trunc(inside.lshr(left, ir.Constant(i64, bit)), ir.IntType(1))
            product = inside.xor(
                product, inside.and_(inside.shl(right, ir.Constant(i64, bit)), inside.sext(chosen, i64))
            )
        inside.ret(product)
    return builder.call(function, [a, b])


def _emit(builder: ir.IRBuilder, a: ir.Value, b: ir.Value) -> ir.Value:
    return (_by_instruction if has_feature("pclmul") else by_shifts)(builder, a, b)


@primitive(_emit, types.int64, types.int64, types.int64)
def carryless_multiply(a: int, b: int) -> int:
    """The low 64 bits of the product of two polynomials over GF(2), bit ``i`` being the coefficient of x^i."""
    product, a, b = 0, a & _U64, b & _U64
    for bit in range(64):
        if a >> bit & 1:
            product ^= b << bit
    return signed64(product)
