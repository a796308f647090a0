"""Kernels called by address: machine code of its own, made once, for the big and rare parts of a loop.

Everything a kernel calls becomes part of it and is optimised with it, in every graph anew. That is what makes a loop
fast, and it is wasted on code that is called once a burst and takes seconds to compile. Such code is a kernel by
itself, cached on disk like any other; whoever calls it has its address, from a record that control code wrote.

Numba's native functions take the address of their result, one of an exception that ours never raise, and their
arguments, and return a status (numba.core.callconv.CPUCallConv).
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.decorators import COMPILED
from wirespeed.jit.primitive import i8, i32, i64, primitive

_interpreted: list[Callable[..., int]] = []


def entry(function: Callable[..., int], arguments: int) -> int:
    """The address of a ``kernel``'s machine code, for :func:`enter3` to :func:`enter5`; compiles it if need be.

    Args:
        function: takes so many int64 ``arguments``, returns one, raises nothing, and lives as long as the program.
    """
    if not COMPILED:
        if function not in _interpreted:
            _interpreted.append(function)
        return _interpreted.index(function) + 1
    kernel: Any = function
    signature = (types.int64,) * arguments
    kernel.compile(signature)
    result = kernel.overloads[signature]
    assert result.signature.return_type == types.int64, f"{function} returns {result.signature.return_type}"
    return int(result.library.get_pointer_to_function(result.fndesc.llvm_func_name))


def _enter(builder: ir.IRBuilder, address: ir.Value, *arguments: ir.Value) -> ir.Value:
    exception = i8.as_pointer()
    kind = ir.FunctionType(i32, [i64.as_pointer(), exception.as_pointer(), *[i64] * len(arguments)])
    with builder.goto_entry_block():
        result, raised = builder.alloca(i64), builder.alloca(exception)
    builder.call(builder.inttoptr(address, kind.as_pointer()), [result, raised, *arguments])
    return builder.load(result)


@primitive(_enter, types.int64, *[types.int64] * 4)
def enter3(address: int, a: int, b: int, c: int) -> int:
    """Call the kernel at ``address``, as :func:`entry` gave it, with three arguments."""
    return _interpreted[address - 1](a, b, c)


@primitive(_enter, types.int64, *[types.int64] * 5)
def enter4(address: int, a: int, b: int, c: int, d: int) -> int:
    """:func:`enter3` with four: what a driver's receive and transmit have."""
    return _interpreted[address - 1](a, b, c, d)


@primitive(_enter, types.int64, *[types.int64] * 6)
def enter5(address: int, a: int, b: int, c: int, d: int, e: int) -> int:
    """:func:`enter3` with five."""
    return _interpreted[address - 1](a, b, c, d, e)


__all__ = ["enter3", "enter4", "enter5", "entry"]
