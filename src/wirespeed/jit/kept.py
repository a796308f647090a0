"""Parts kept on disk: what a function of wirespeed's compiled to, for the next graph and the next process.

A loop is compiled as a whole and kept as a whole (:mod:`wirespeed.jit.generated`), so another graph, or the same one
on another driver, would compile anew the hundreds of parts it has in common with the first. Most of that is Numba's
own Python. A part's intermediate code holds all that it calls and depends on nothing but its source and the types of
its arguments; the cache's directory stands for the source. So it is written down once:

    DIRECTORY/parts/<digest of name, types and flags>: a pickle of (descriptor, signature, bitcode)

Only functions that can be imported by name from wirespeed's modules are kept, with arguments whose types can be, too,
and only if all they call is so. What a user writes is compiled each time its loop is.

**Names.** Numba numbers the functions it compiles, and LLVM takes two functions of one name for one function. Numbers
begin anew in each process, so a part from disk could be taken for something else. Parts that are kept therefore have
no number (their name and types say what they are), and the numbers of all others begin at random.

Private Numba hooks, pinned: ``FunctionIdentity._unique_ids``, the fields of a ``CompileResult``.
"""

import contextlib
import hashlib
import itertools
import os
import pickle
import secrets
import sys
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
from numba.core import bytecode, config, serialize, types
from numba.core.compiler import compile_result
from numba.core.lowering import Environment

from wirespeed.jit.cache import DIRECTORY

_PACKAGE = "wirespeed."
_FOLDER = DIRECTORY / "parts"

bytecode.FunctionIdentity._unique_ids = itertools.count(secrets.randbits(62))


def importable(module: str, name: str) -> Any:
    """What this dotted ``name`` means in a module of wirespeed's; None: nothing, or another's module."""
    found = sys.modules.get(module) if f"{module}.".startswith(_PACKAGE) else None
    for part in name.split("."):
        found = vars(found).get(part) if hasattr(found, "__dict__") else None
    return found


def _known(function: Any) -> bool:
    found = importable(function.__module__ or "", function.__qualname__)
    if isinstance(found, property):
        found = found.fget
    return found is function and function.__closure__ is None


def _spelt(kind: types.Type) -> str:
    """A type in words that mean the same in any process; "": there are none."""
    cls = getattr(kind, "cls", None)
    if cls is not None:  # of a view or a local
        return str(kind) if importable(cls.__module__, cls.__qualname__) is cls else ""
    if isinstance(kind, types.BaseTuple):
        inner = [_spelt(each) for each in kind.types]
        return f"({', '.join(inner)})" if all(inner) else ""
    if isinstance(kind, types.Omitted):
        return f"omitted {kind.value!r}" if isinstance(kind.value, (int, type(None))) else ""
    return str(kind) if isinstance(kind, (types.Integer, types.Boolean, types.IntegerLiteral, types.NoneType)) else ""


def place(function: Any, arguments: Any, flags: Any) -> Path | None:
    """Where this part would be kept; None: it is not one to keep."""
    spelt = [_spelt(each) for each in arguments]
    if not all(spelt) or not _known(function):
        return None
    said = (function.__module__, function.__qualname__, *spelt, flags.get_mangle_string(), str(config.OPT))
    return _FOLDER / hashlib.sha256("\n".join(said).encode()).hexdigest()[:32]


def save(path: Path, result: Any) -> None:
    """Write a part down. A folder that cannot be written is no error."""
    descriptor, library = result.fndesc, result.library
    if not _spelt(result.signature.return_type):
        return
    descriptor.typemap = descriptor.calltypes = None
    text = serialize.dumps((descriptor, result.signature, library._get_module_for_linking().as_bitcode()))
    scratch = path.with_suffix(f".{os.getpid()}")
    with contextlib.suppress(OSError):
        _FOLDER.mkdir(exist_ok=True)
        scratch.write_bytes(text)
        scratch.replace(path)


def load(path: Path, state: Any, library_of: Any, entry: Any) -> Any:
    """The part that :func:`save` wrote, as if it had just been compiled; None: there is none."""
    try:
        descriptor, signature, bitcode = pickle.loads(path.read_bytes())
    except (OSError, EOFError, pickle.UnpicklingError):
        return None
    library = library_of(state)
    library._final_module = llvm.parse_bitcode(bitcode)
    library._finalize_final_module()
    environment = Environment.from_fndesc(descriptor)
    called = entry(library, descriptor, environment)
    state.targetctx.insert_user_function(called, descriptor, [library])
    return compile_result(
        typing_context=state.typingctx, target_context=state.targetctx, library=library, fndesc=descriptor,
        environment=environment, entry_point=called, signature=signature,
        type_annotation=None, objectmode=False, lifted=(), typing_error=None, call_helper=None, metadata=None,
        reload_init=[], referenced_envs=[],
    )  # fmt: skip


__all__ = ["importable", "load", "place", "save"]
