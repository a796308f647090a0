"""The time-stamp counter, read after everything before it: for comparing the clocks of two cores."""

import time

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import i64, intrinsic, primitive


def _emit(builder: ir.IRBuilder) -> ir.Value:
    builder.call(intrinsic(builder, "llvm.x86.sse2.lfence", ir.VoidType(), []), [])
    value = builder.call(intrinsic(builder, "llvm.readcyclecounter", i64, []), [])
    builder.call(intrinsic(builder, "llvm.x86.sse2.lfence", ir.VoidType(), []), [])
    return value


@primitive(_emit, types.int64)
def cycles_ordered() -> int:
    """The counter once all loads before it are done, and before anything after it (Intel SDM, RDTSC and LFENCE).

    :func:`wirespeed.jit.cycles` may be read early, before a load that it stands behind: right for a bench of
    thousands of operations, wrong for an answer to another core.
    """
    return time.perf_counter_ns()
