"""Eight 16-bit tags compared at once: what a bucket of a hash table is searched with."""

from llvmlite import ir
from numba.core import types

from wirespeed.jit.memory import load16
from wirespeed.jit.primitive import i8, i16, i64, pointer, primitive

_LANES = 8


def _emit_match16(builder: ir.IRBuilder, address: ir.Value, tag: ir.Value) -> ir.Value:
    kind = ir.VectorType(i16, _LANES)
    tags = builder.load(builder.bitcast(pointer(builder, address), kind.as_pointer()))
    tags.align = 1
    first = builder.insert_element(ir.Constant(kind, ir.Undefined), builder.trunc(tag, i16), ir.Constant(i64, 0))
    wanted = builder.shuffle_vector(
        first, ir.Constant(kind, ir.Undefined), ir.Constant(ir.VectorType(ir.IntType(32), _LANES), None)
    )
    return builder.zext(builder.bitcast(builder.icmp_unsigned("==", tags, wanted), i8), i64)


@primitive(_emit_match16, types.int64, types.int64, types.int64)
def match16(address: int, tag: int) -> int:
    """Which of the eight 16-bit words at ``address`` equal the low 16 bits of ``tag``: bit i for word i.

    One vector comparison (pcmpeqw, packsswb, pmovmskb). Words that somebody else changes meanwhile are each seen
    as they were or as they are.
    """
    return sum((load16(address + 2 * lane) == tag & 0xFFFF) << lane for lane in range(_LANES))
