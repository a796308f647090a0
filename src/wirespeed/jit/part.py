"""How a part is compiled: to LLVM's intermediate code and no further.

Numba makes machine code of every function it compiles and optimises it fully, also of those that are only ever
inlined in another. A graph has a hundred of these, nested five deep: most of a cold start went into code that is
never called. A part's pipeline therefore stops at the intermediate code, lightly cleaned up; the kernel it ends in is
optimised as a whole and is the only one that becomes machine code.

A part that can be kept on disk is looked for there first (:mod:`wirespeed.jit.kept`).

Private Numba hooks, pinned: ``NativeLowering`` and the final steps of a ``CodeLibrary``.
"""

import weakref
from typing import Any

from numba import _dynfunc
from numba.core import bytecode, typed_passes
from numba.core.compiler import CompilerBase, DefaultPassBuilder
from numba.core.compiler_machinery import PassManager, register_pass
from numba.core.typed_passes import NativeLowering
from numba.core.untyped_passes import ExtractByteCode

from wirespeed.jit import kept

_own_words: "weakref.WeakSet[Any]" = weakref.WeakSet()
"""Libraries of parts that are not kept, nor is what calls them."""


def _library(state: Any) -> Any:
    """A library that ends as a module to link in others."""
    library = state.targetctx.codegen().create_library(state.func_id.func_qualname)

    def optimise() -> None:
        passes, builder = library._codegen._module_pass_manager(
            loop_vectorize=False, slp_vectorize=False, opt=library._codegen._opt_level, cost="cheap"
        )
        passes.run(library._final_module, builder)

    def finish() -> None:
        library._finalize_dynamic_globals()
        library._final_module.__library = weakref.proxy(library)
        library._finalized = True

    library._optimize_final_module = optimise
    library._finalize_final_module = finish
    return library


def _entry(library: Any, descriptor: Any, environment: Any) -> Any:
    """What Numba knows the function by, instead of its executable; it must not be called."""
    library._ensure_finalized()
    module, name = descriptor.lookup_module(), descriptor.qualname.split(".")[-1]
    return _dynfunc.make_function(module, name, descriptor.doc, 0, environment, (library,))


@register_pass(mutates_CFG=True, analysis_only=False)
class PartLowering(NativeLowering):  # type: ignore[misc]
    """Lower a part."""

    _name = "part_lowering"

    def __init__(self) -> None:
        NativeLowering.__init__(self)

    def run_pass(self, state: Any) -> bool:
        state.library = _library(state)
        context = state.targetctx
        executable = context.get_executable
        context.get_executable = _entry
        try:
            return bool(super().run_pass(state))
        finally:
            context.get_executable = executable


class PartCompiler(CompilerBase):  # type: ignore[misc]
    """Numba's nopython pipeline with :class:`PartLowering`; what is kept is not compiled again."""

    def compile_extra(self, func: Any) -> Any:
        """Compile a function for the types in ``state.args``, or find it on disk."""
        state = self.state
        path = kept.place(func, state.args, state.flags)
        name = state.func_id = bytecode.FunctionIdentity.from_function(func)
        if path is None:
            made = self._compiled()
            _own_words.add(made.library)
            return made
        name.unique_id, name.unique_name = 0, f"{name.func_qualname}$0"
        found = kept.load(path, state, _library, _entry)
        if found is not None:
            return found
        made = self._compiled()
        if any(each in _own_words for each in made.library._linking_libraries):
            _own_words.add(made.library)
        else:
            kept.save(path, made)
        return made

    def _compiled(self) -> Any:
        """What ``CompilerBase.compile_extra`` does once the function has its name."""
        ExtractByteCode().run_pass(self.state)
        self.state.lifted, self.state.lifted_from = (), None
        return self._compile_bytecode()

    def define_pipelines(self) -> list[PassManager]:
        builder = DefaultPassBuilder
        manager = PassManager("part")
        untyped = builder.define_untyped_pipeline(self.state)
        typed = builder.define_typed_pipeline(self.state)
        manager.passes.extend(untyped.passes)
        manager.passes.extend(typed.passes)
        lowering = builder.define_nopython_lowering_pipeline(self.state)
        for step, why in lowering.passes:
            manager.add_pass(PartLowering if step is typed_passes.NativeLowering else step, why)
        manager.finalize()
        return [manager]


PART_OPTIONS: dict[str, Any] = {
    "forceinline": True, "error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True,
    "pipeline_class": PartCompiler,
}  # fmt: skip
"""What Numba is told of a method or property of a view."""
