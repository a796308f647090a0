"""Atomic operations on 64-bit words by address, fences, the spin hint and the cycle counter.

Orders are those of C11: ``load_acquire`` and ``store_release`` are plain moves on x86-64 but hold the
compiler to the order; ``fetch_add`` and ``compare_exchange`` are sequentially consistent. Interpreted, the
interpreter lock makes each of them atomic between Python threads.
"""

import threading
import time
from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.bits import signed64
from wirespeed.jit.memory import load16, load32, load64, store16, store32, store64
from wirespeed.jit.primitive import i64, intrinsic, primitive, typed_pointer

_guard = threading.Lock()


def _emit_load(bits: int, order: str) -> Any:
    def emit(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
        value = builder.load_atomic(typed_pointer(builder, address, bits), order, bits // 8)
        return builder.zext(value, i64) if bits < 64 else value

    return primitive(emit, types.int64, types.int64)


def _emit_store(bits: int, order: str) -> Any:
    def emit(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> None:
        narrow = builder.trunc(value, ir.IntType(bits)) if bits < 64 else value
        builder.store_atomic(narrow, typed_pointer(builder, address, bits), order, bits // 8)

    return primitive(emit, types.void, types.int64, types.int64)


@_emit_load(64, "acquire")
def load_acquire(address: int) -> int:
    """Load an aligned word; nothing after it in program order moves before it."""
    return load64(address)


@_emit_load(16, "acquire")
def load_acquire16(address: int) -> int:
    """:func:`load_acquire` for an aligned 16-bit word."""
    return load16(address)


@_emit_load(32, "acquire")
def load_acquire32(address: int) -> int:
    """:func:`load_acquire` for an aligned 32-bit word."""
    return load32(address)


@_emit_load(64, "monotonic")
def load_relaxed(address: int) -> int:
    """Load an aligned word afresh: the compiler neither tears nor hoists it out of a loop."""
    return load64(address)


@_emit_store(64, "release")
def store_release(address: int, value: int) -> None:
    """Store an aligned word after everything before it in program order."""
    store64(address, value)


@_emit_store(16, "release")
def store_release16(address: int, value: int) -> None:
    """:func:`store_release` for an aligned 16-bit word."""
    store16(address, value)


@_emit_store(32, "release")
def store_release32(address: int, value: int) -> None:
    """:func:`store_release` for an aligned 32-bit word."""
    store32(address, value)


def _emit_fetch_add(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> ir.Value:
    return builder.atomic_rmw("add", typed_pointer(builder, address, 64), value, "seq_cst")


@primitive(_emit_fetch_add, types.int64, types.int64, types.int64)
def fetch_add(address: int, value: int) -> int:
    """Add to an aligned word; returns what it held before."""
    with _guard:
        before = load64(address)
        store64(address, before + value)
        return before


def _emit_exchange(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> ir.Value:
    return builder.atomic_rmw("xchg", typed_pointer(builder, address, 64), value, "seq_cst")


@primitive(_emit_exchange, types.int64, types.int64, types.int64)
def exchange(address: int, value: int) -> int:
    """Store into an aligned word; returns what it held before."""
    with _guard:
        before = load64(address)
        store64(address, value)
        return before


def _emit_compare(builder: ir.IRBuilder, address: ir.Value, expect: ir.Value, value: ir.Value) -> ir.Value:
    pair = builder.cmpxchg(typed_pointer(builder, address, 64), expect, value, "seq_cst", "monotonic")
    return builder.zext(builder.extract_value(pair, 1), i64)


@primitive(_emit_compare, types.int64, types.int64, types.int64, types.int64)
def compare_exchange(address: int, expect: int, value: int) -> int:
    """Store ``value`` if the aligned word holds ``expect``; 1 if it did, else 0."""
    with _guard:
        if load64(address) != signed64(expect):
            return 0
        store64(address, value)
        return 1


def _emit_fence(builder: ir.IRBuilder) -> None:
    builder.fence("seq_cst")


@primitive(_emit_fence, types.void)
def fence() -> None:
    """Order every load and store before it against every one after it."""


def _emit_pause(builder: ir.IRBuilder) -> None:
    builder.call(intrinsic(builder, "llvm.x86.sse2.pause", ir.VoidType(), []), [])


@primitive(_emit_pause, types.void)
def pause() -> None:
    """The spin-wait hint. Interpreted: gives other Python threads a turn."""
    time.sleep(0)


def _emit_tsc(builder: ir.IRBuilder) -> ir.Value:
    return builder.call(intrinsic(builder, "llvm.readcyclecounter", i64, []), [])


@primitive(_emit_tsc, types.int64)
def cycles() -> int:
    """The time-stamp counter inside a kernel. From plain Python use :func:`wirespeed.jit.tsc`."""
    return time.perf_counter_ns()
