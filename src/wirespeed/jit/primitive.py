"""How one machine operation gets into Python: a twin for the interpreter and an emitter for LLVM.

The twin is an ordinary documented function. ``primitive`` registers an emitter for it, so that inside a
kernel the same name is the bare instruction, with no call and nothing for Numba to compile. The twin
remains a plain function: it works, checked, from control code and in interpreted runs.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from llvmlite import ir
from numba.core import types
from numba.core.registry import cpu_target
from numba.core.typing.templates import AbstractTemplate, builtin_registry, signature
from numba.extending import lower_builtin

F = TypeVar("F", bound=Callable[..., Any])

i8, i16, i32, i64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
Emit = Callable[..., Any]


def primitive(emit: Emit, result: types.Type, *arguments: types.Type) -> Callable[[F], F]:
    """Make the decorated twin compile to what ``emit(builder, *values)`` builds.

    ``result`` and ``arguments`` are Numba types; arguments are cast to them. ``emit`` returns an LLVM
    value of the result's type, or None where the result is ``types.void``.
    """

    def register(twin: F) -> F:
        class Template(AbstractTemplate):  # type: ignore[misc]
            key = twin

            def generic(self, args: Any, kws: Any) -> Any:
                if kws or len(args) != len(arguments):
                    return None
                if all(isinstance(arg, (types.Integer, types.Boolean)) for arg in args):
                    return signature(result, *arguments)
                return None

        builtin_registry.register_global(twin, types.Function(Template))

        @lower_builtin(twin, *arguments)
        def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
            value = emit(builder, *args)
            return context.get_dummy_value() if value is None else value

        return twin

    return register


def pointer(builder: ir.IRBuilder, address: ir.Value, offset: int = 0) -> ir.Value:
    """``address + offset`` as a pointer.

    The constant is added *after* the conversion: two fields of one header then have the same base, and
    LLVM can prove that a store to one leaves a load of the other alone.
    """
    base = builder.inttoptr(address, i8.as_pointer())
    return builder.gep(base, [ir.Constant(i64, offset)]) if offset else base


def typed_pointer(builder: ir.IRBuilder, address: ir.Value, bits: int, offset: int = 0) -> ir.Value:
    """:func:`pointer`, to an integer of ``bits`` bits."""
    return builder.bitcast(pointer(builder, address, offset), ir.IntType(bits).as_pointer())


def intrinsic(builder: ir.IRBuilder, name: str, result: ir.Type, arguments: list[ir.Type]) -> ir.Function:
    """The LLVM intrinsic ``name``, declared once a module."""
    known = builder.module.globals.get(name)
    return known or ir.Function(builder.module, ir.FunctionType(result, arguments), name)


def has_feature(name: str) -> bool:
    """Whether code is made for a processor with this feature, by LLVM's name (``sse4.2``, ``pclmul``)."""
    return f"+{name}" in cpu_target.target_context.codegen()._get_host_cpu_features().split(",")
