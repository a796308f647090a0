"""System calls from kernels, by symbol, without the interpreter.

A function here is one twin: compiled, a direct call of the C library's symbol (cacheable, unlike a ctypes
pointer); interpreted, the same call through ctypes. All arguments and results are int64; pointers are
addresses. Only calls a packet path needs are declared; everything else is Python's ``os`` and ``socket``.
A failing call returns -1 and leaves its reason in ``errno()``.
"""

import ctypes
from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.primitive import i8, i32, i64, primitive

_libc = ctypes.CDLL(None, use_errno=True)


def _call(symbol: str, count: int) -> Any:
    def emit(builder: ir.IRBuilder, *values: ir.Value) -> ir.Value:
        function = builder.module.globals.get(symbol)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(i64, [i64] * count), symbol)
        return builder.call(function, list(values))

    return primitive(emit, types.int64, *[types.int64] * count)


def _through_ctypes(symbol: str, *values: int) -> int:
    function = getattr(_libc, symbol)
    function.restype = ctypes.c_int64
    function.argtypes = [ctypes.c_int64] * len(values)
    return int(function(*values))


def _narrow(symbol: str, count: int) -> Any:
    """Like ``_call`` for functions that return a C int: its upper half is not defined in the register."""

    def emit(builder: ir.IRBuilder, *values: ir.Value) -> ir.Value:
        function = builder.module.globals.get(symbol)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(i32, [i64] * count), symbol)
        return builder.sext(builder.call(function, list(values)), i64)

    return primitive(emit, types.int64, *[types.int64] * count)


def _emit_errno(builder: ir.IRBuilder) -> ir.Value:
    symbol = "__errno_location"
    function = builder.module.globals.get(symbol)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(i8.as_pointer(), []), symbol)
    place = builder.bitcast(builder.call(function, []), i32.as_pointer())
    return builder.sext(builder.load(place), i64)


@primitive(_emit_errno, types.int64)
def errno() -> int:
    """The reason of the last failed call of this thread."""
    return ctypes.get_errno()


@_call("read", 3)
def read(fd: int, address: int, size: int) -> int:
    """read(2)."""
    return _through_ctypes("read", fd, address, size)


@_call("write", 3)
def write(fd: int, address: int, size: int) -> int:
    """write(2)."""
    return _through_ctypes("write", fd, address, size)


@_call("readv", 3)
def readv(fd: int, vector: int, count: int) -> int:
    """readv(2): ``vector`` is the address of ``count`` pairs (address, size) of 64-bit words."""
    return _through_ctypes("readv", fd, vector, count)


@_call("writev", 3)
def writev(fd: int, vector: int, count: int) -> int:
    """writev(2): see :func:`readv`."""
    return _through_ctypes("writev", fd, vector, count)


@_call("sendto", 6)
def sendto(fd: int, address: int, size: int, flags: int, to: int, to_size: int) -> int:
    """sendto(2); with a null address it is the doorbell of a packet socket's transmit ring."""
    return _through_ctypes("sendto", fd, address, size, flags, to, to_size)


@_call("recvfrom", 6)
def recvfrom(fd: int, address: int, size: int, flags: int, source: int, source_size: int) -> int:
    """recvfrom(2); with a null address it lets an AF_XDP socket's interface deliver (busy polling)."""
    return _through_ctypes("recvfrom", fd, address, size, flags, source, source_size)


@_call("recvmsg", 3)
def recvmsg(fd: int, message: int, flags: int) -> int:
    """recvmsg(2)."""
    return _through_ctypes("recvmsg", fd, message, flags)


@_narrow("sendmmsg", 4)
def sendmmsg(fd: int, messages: int, count: int, flags: int) -> int:
    """sendmmsg(2): how many were sent; -1 when the first could not be."""
    sent = _through_ctypes("sendmmsg", fd, messages, count, flags) & 0xFFFF_FFFF
    return sent - (1 << 32) if sent >> 31 else sent


@_narrow("poll", 3)
def poll(descriptors: int, count: int, timeout_ms: int) -> int:
    """poll(2): ``descriptors`` is the address of ``count`` struct pollfd (8 bytes each)."""
    check = _through_ctypes("poll", descriptors, count, timeout_ms)
    return check - (1 << 32) if check >> 31 == 1 else check


@_narrow("ppoll", 4)
def ppoll(descriptors: int, count: int, timeout: int, mask: int) -> int:
    """ppoll(2): poll(2) with a timeout in nanoseconds, ``timeout`` is the address of a struct timespec."""
    check = _through_ctypes("ppoll", descriptors, count, timeout, mask)
    return check - (1 << 32) if check >> 31 == 1 else check


@_call("syscall", 7)
def syscall(number: int, a: int, b: int, c: int, d: int, e: int, f: int) -> int:
    """syscall(2): a call that the C library has no function for."""
    return _through_ctypes("syscall", number, a, b, c, d, e, f)


@_narrow("epoll_wait", 4)
def epoll_wait(epoll: int, events: int, most: int, timeout_ms: int) -> int:
    """epoll_wait(2): ``events`` is the address of ``most`` struct epoll_event (12 bytes each)."""
    got = _through_ctypes("epoll_wait", epoll, events, most, timeout_ms) & 0xFFFF_FFFF
    return got - (1 << 32) if got >> 31 else got
