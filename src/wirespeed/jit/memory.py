"""Memory by address: loads, stores, copies, prefetch; and the bounds that interpreted runs check.

An address is an int64. Compiled, each function here is one instruction and checks nothing: addresses come
from descriptors and from control code, both bounded where they are made. Interpreted, each access must
lie in a region that somebody registered (an arena, a ring mapped from the kernel, a table), so running a
node with ``NUMBA_DISABLE_JIT=1`` is our address sanitiser.

Loads widen to int64 without sign; stores truncate. Byte order is the machine's (x86-64: little endian);
``bswap16/32/64`` are in :mod:`wirespeed.jit.bits`.
"""

import ctypes
import threading
from bisect import bisect_right
from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import i8, i32, i64, intrinsic, pointer, primitive, typed_pointer

_known: tuple[list[int], list[tuple[int, int, str]]] = ([], [])  # starts, regions: replaced, never changed
_changing = threading.Lock()


def register(address: int, size: int, name: str) -> None:
    """Allow interpreted code to touch ``size`` bytes at ``address``."""
    global _known
    with _changing:
        starts, regions = _known
        at = bisect_right(starts, address)
        region = (address, address + size, name)
        _known = ([*starts[:at], address, *starts[at:]], [*regions[:at], region, *regions[at:]])


def unregister(address: int) -> None:
    """Forget the region that starts at ``address``."""
    global _known
    with _changing:
        starts, regions = _known
        at = bisect_right(starts, address) - 1
        if at >= 0 and starts[at] == address:
            _known = (starts[:at] + starts[at + 1 :], regions[:at] + regions[at + 1 :])


def check(address: int, size: int) -> None:
    """Raise AssertionError unless ``size`` bytes at ``address`` lie in one registered region."""
    starts, regions = _known
    at = bisect_right(starts, address) - 1
    if at < 0 or address + size > regions[at][1]:
        near = f"; the nearest region below is {regions[at][2]}" if at >= 0 else ""
        raise AssertionError(f"access to {size} bytes at {address:#x}, outside every known region{near}")


def _loader(bits: int) -> Any:
    def emit(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
        value = builder.load(typed_pointer(builder, address, bits))
        value.align = 1
        return builder.zext(value, i64) if bits < 64 else value

    return primitive(emit, types.int64, types.int64)


def _storer(bits: int) -> Any:
    def emit(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> None:
        narrow = builder.trunc(value, ir.IntType(bits)) if bits < 64 else value
        builder.store(narrow, typed_pointer(builder, address, bits)).align = 1

    return primitive(emit, types.void, types.int64, types.int64)


@_loader(8)
def load8(address: int) -> int:
    """The byte at ``address``."""
    check(address, 1)
    return ctypes.c_uint8.from_address(address).value


@_loader(16)
def load16(address: int) -> int:
    """The 16-bit word at ``address``."""
    check(address, 2)
    return ctypes.c_uint16.from_address(address).value


@_loader(32)
def load32(address: int) -> int:
    """The 32-bit word at ``address``."""
    check(address, 4)
    return ctypes.c_uint32.from_address(address).value


@_loader(64)
def load64(address: int) -> int:
    """The 64-bit word at ``address``, as int64."""
    check(address, 8)
    return ctypes.c_int64.from_address(address).value


@_storer(8)
def store8(address: int, value: int) -> None:
    """Store the low byte of ``value``."""
    check(address, 1)
    ctypes.c_uint8.from_address(address).value = value & 0xFF


@_storer(16)
def store16(address: int, value: int) -> None:
    """Store the low 16 bits of ``value``."""
    check(address, 2)
    ctypes.c_uint16.from_address(address).value = value & 0xFFFF


@_storer(32)
def store32(address: int, value: int) -> None:
    """Store the low 32 bits of ``value``."""
    check(address, 4)
    ctypes.c_uint32.from_address(address).value = value & 0xFFFF_FFFF


@_storer(64)
def store64(address: int, value: int) -> None:
    """Store ``value``."""
    check(address, 8)
    ctypes.c_uint64.from_address(address).value = value & 0xFFFF_FFFF_FFFF_FFFF


def _emit_copy(builder: ir.IRBuilder, to: ir.Value, source: ir.Value, size: ir.Value) -> None:
    memcpy = intrinsic(
        builder,
        "llvm.memcpy.p0.p0.i64",
        ir.VoidType(),
        [i8.as_pointer(), i8.as_pointer(), i64, ir.IntType(1)],
    )
    builder.call(memcpy, [pointer(builder, to), pointer(builder, source), size, ir.Constant(ir.IntType(1), 0)])


@primitive(_emit_copy, types.void, types.int64, types.int64, types.int64)
def copy(to: int, source: int, size: int) -> None:
    """Copy ``size`` bytes; the two ranges must not overlap. A constant size becomes vector moves."""
    if size:
        check(to, size)
        check(source, size)
        ctypes.memmove(to, source, size)


def _emit_move(builder: ir.IRBuilder, to: ir.Value, source: ir.Value, size: ir.Value) -> None:
    memmove = intrinsic(
        builder,
        "llvm.memmove.p0.p0.i64",
        ir.VoidType(),
        [i8.as_pointer(), i8.as_pointer(), i64, ir.IntType(1)],
    )
    builder.call(memmove, [pointer(builder, to), pointer(builder, source), size, ir.Constant(ir.IntType(1), 0)])


@primitive(_emit_move, types.void, types.int64, types.int64, types.int64)
def move(to: int, source: int, size: int) -> None:
    """Copy ``size`` bytes between ranges that may overlap."""
    if size:
        check(to, size)
        check(source, size)
        ctypes.memmove(to, source, size)


def _emit_fill(builder: ir.IRBuilder, to: ir.Value, value: ir.Value, size: ir.Value) -> None:
    memset = intrinsic(builder, "llvm.memset.p0.i64", ir.VoidType(), [i8.as_pointer(), i8, i64, ir.IntType(1)])
    byte = builder.trunc(value, i8)
    builder.call(memset, [pointer(builder, to), byte, size, ir.Constant(ir.IntType(1), 0)])


@primitive(_emit_fill, types.void, types.int64, types.int64, types.int64)
def fill(to: int, value: int, size: int) -> None:
    """Set ``size`` bytes to the low byte of ``value``."""
    if size:
        check(to, size)
        ctypes.memset(to, value & 0xFF, size)


def _emit_prefetch(builder: ir.IRBuilder, address: ir.Value) -> None:
    fetch = intrinsic(builder, "llvm.prefetch.p0", ir.VoidType(), [i8.as_pointer(), i32, i32, i32])
    # read, keep in all cache levels, data
    builder.call(fetch, [pointer(builder, address), *(ir.Constant(i32, n) for n in (0, 3, 1))])


@primitive(_emit_prefetch, types.void, types.int64)
def prefetch(address: int) -> None:
    """Ask for the cache line at ``address``; never faults. Interpreted: nothing."""


def _emit_copy64(builder: ir.IRBuilder, to: ir.Value, source: ir.Value) -> None:
    line = ir.VectorType(i64, 4)
    for offset in (0, 32):
        value = builder.load(builder.bitcast(pointer(builder, source, offset), line.as_pointer()))
        value.align = 1
        builder.store(value, builder.bitcast(pointer(builder, to, offset), line.as_pointer())).align = 1


@primitive(_emit_copy64, types.void, types.int64, types.int64)
def copy64(to: int, source: int) -> None:
    """Copy 64 bytes: two 32-byte moves, no call."""
    check(to, 64)
    check(source, 64)
    ctypes.memmove(to, source, 64)


def _emit_copy32(builder: ir.IRBuilder, to: ir.Value, source: ir.Value) -> None:
    line = ir.VectorType(i64, 4)
    value = builder.load(builder.bitcast(pointer(builder, source), line.as_pointer()))
    value.align = 1
    builder.store(value, builder.bitcast(pointer(builder, to), line.as_pointer())).align = 1


@primitive(_emit_copy32, types.void, types.int64, types.int64)
def copy32(to: int, source: int) -> None:
    """Copy 32 bytes: one move, no call."""
    check(to, 32)
    check(source, 32)
    ctypes.memmove(to, source, 32)


def read_bytes(address: int, size: int) -> bytes:
    """``size`` bytes at ``address``, for control code."""
    return ctypes.string_at(address, size)


def write_bytes(address: int, data: bytes) -> None:
    """Put ``data`` at ``address``, from control code."""
    ctypes.memmove(address, data, len(data))
