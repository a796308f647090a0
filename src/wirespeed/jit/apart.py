"""Loads and stores that promise not to meet: what LLVM needs to make vector code of a loop over two arrays.

An address is an integer, and LLVM does not know whether what a loop stores is what its next turn loads; it will not
even compare the addresses before the loop, as it does for pointers. So a loop that maps one array onto another stays
scalar, unless its loads are :func:`load64_apart` and its stores :func:`store64_apart`. They carry scopes (LLVM
Language Reference, "noalias and alias.scope metadata"): no word stored by the one is ever loaded by the other,
**anywhere in the kernel** that either is inlined in. Use them in one loop, for memory that is read in other ways.
"""

from typing import Any

from llvmlite import ir
from numba.core import types

from wirespeed.jit.memory import load64, store64
from wirespeed.jit.primitive import primitive, typed_pointer


def _tell(builder: ir.IRBuilder, access: Any, own: str, other: str) -> None:
    """Put the access in the scope ``own``, apart from the scope ``other``. Scopes are known by name in all modules."""
    module = builder.module
    domain = module.add_metadata(["wirespeed.apart"])
    for kind, name in (("alias.scope", own), ("noalias", other)):
        scope = module.add_metadata([f"wirespeed.apart.{name}", domain])
        access.set_metadata(kind, module.add_metadata([scope]))


def _emit_load(builder: ir.IRBuilder, address: ir.Value) -> ir.Value:
    value = builder.load(typed_pointer(builder, address, 64))
    value.align = 1
    _tell(builder, value, "loads", "stores")
    return value


@primitive(_emit_load, types.int64, types.int64)
def load64_apart(address: int) -> int:
    """The 64-bit word at ``address``, which no :func:`store64_apart` of the kernel changes."""
    return load64(address)


def _emit_store(builder: ir.IRBuilder, address: ir.Value, value: ir.Value) -> None:
    access = builder.store(value, typed_pointer(builder, address, 64))
    access.align = 1
    _tell(builder, access, "stores", "loads")


@primitive(_emit_store, types.void, types.int64, types.int64)
def store64_apart(address: int, value: int) -> None:
    """Store ``value`` where no :func:`load64_apart` of the kernel reads."""
    store64(address, value)
