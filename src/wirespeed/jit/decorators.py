"""The ways a Python function becomes machine code.

``kernel`` is an entry: control code calls it with integers (addresses and counts), it releases the
interpreter lock until it returns, and its code is cached on disk. ``inline`` is a part: it dissolves in
the kernel that calls it (LLVM's alwaysinline; Numba's own ``inline="always"`` works before typing,
multiplies compile time and is no faster, so it is never used). ``cold`` is a part that stays a call.

With ``NUMBA_DISABLE_JIT=1`` each returns the function as it is: the same code, interpreted, where each
memory access is checked.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import numba
from numba.core import types
from numba.core.typing.templates import builtin_registry

from wirespeed.jit import cache as _cache  # sets the directory before anything is decorated
from wirespeed.jit.part import PartCompiler

F = TypeVar("F", bound=Callable[..., Any])

COMPILED: bool = not numba.config.DISABLE_JIT
"""False when ``NUMBA_DISABLE_JIT=1``: kernels then run as plain Python."""

_COMMON: dict[str, Any] = {"nogil": True, "error_model": "numpy", "boundscheck": False}


def kernel(function: F) -> F:
    """Compile ``function`` as an entry called from control code; cached on disk, releases the GIL."""
    assert _cache.DIRECTORY
    made = numba.njit(cache=True, **_COMMON)(function)
    if COMPILED:
        _cache.forgive(made._cache)
    return made  # type: ignore[no-any-return]


def inline(function: F) -> F:
    """Compile ``function`` as a part of each kernel that calls it.

    The function itself stays plain Python: called from control code, from a trace or a debugger, it runs
    interpreted. Inside a kernel the same name is the compiled part.
    """
    return _part(function, forceinline=True)


def cold(function: F) -> F:
    """Compile ``function`` as a call, for the rare path or a large one: LLVM inlines it only if it is tiny."""
    return _part(function)


_parts: list[Any] = []  # Numba's types hold dispatchers weakly; parts live as long as the program


def _part(function: F, **options: bool) -> F:
    if COMPILED:
        dispatcher = numba.njit(
            no_cpython_wrapper=True, no_cfunc_wrapper=True, pipeline_class=PartCompiler, **options, **_COMMON
        )(function)
        dispatcher.get_call_template = partial(_template, dispatcher.get_call_template)
        _parts.append(dispatcher)
        builtin_registry.register_global(function, types.Dispatcher(dispatcher))
    return function


def _template(template: Callable[..., Any], args: Any, kws: Any) -> Any:
    """A part is compiled once for each set of types. Numba would for each constant it is called with, too: a graph's
    ``process`` for every port. Where the part dissolves LLVM sees the constants all the same.
    """
    return template([_type(each) for each in args], {name: _type(each) for name, each in kws.items()})


def _type(each: types.Type) -> types.Type:
    return types.unliteral(each) if isinstance(each, types.IntegerLiteral) else each


def python_function(function: Any) -> Any:
    """The plain Python function behind a decorated one (or itself)."""
    return getattr(function, "py_func", function)
