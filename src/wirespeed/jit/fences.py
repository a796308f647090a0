"""Fences of one direction: what a sequence lock needs, and no instruction at all on x86-64.

Loads stay before loads and stores before stores on x86-64; these hold the compiler to it, and cost a barrier
instruction on CPUs that reorder. For a store before a load use :func:`wirespeed.jit.fence`.
"""

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import primitive


def _emit_acquire(builder: ir.IRBuilder) -> None:
    builder.fence("acquire")


@primitive(_emit_acquire, types.void)
def fence_acquire() -> None:
    """Loads before it are done before every load and store after it."""


def _emit_release(builder: ir.IRBuilder) -> None:
    builder.fence("release")


@primitive(_emit_release, types.void)
def fence_release() -> None:
    """Loads and stores before it are done before every store after it."""
