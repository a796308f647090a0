"""From the text of a loop to machine code: written to the cache, imported, compiled, with progress and errors.

The file is found again by a later run (:mod:`wirespeed.jit.generated`). When it does not compile, each node is
compiled alone with the user's own file and line numbers, so that the error points at the node, not at what was made
of it.
"""

import ast
import linecache
import time
import types as python_types
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wirespeed.errors import NodeError
from wirespeed.graph.capture import Captured, rename
from wirespeed.graph.emit import Emitted, emit
from wirespeed.graph.plan import Plan
from wirespeed.graph.source import Source, number_doors, plain
from wirespeed.jit import COMPILED, Local, inline
from wirespeed.jit.compiling import CompileFailure, compile_kernel, explain
from wirespeed.jit.generated import load_module, write_module
from wirespeed.timers.timer import Timer
from wirespeed.timers.timers import Timers
from wirespeed.wire.packet import Packet


@dataclass(frozen=True)
class Built:
    """A loop that can run.

    Attributes:
        run: the entry; ``run(address of a worker record)``.
        source: the generated module's file.
        seconds: how long it took to get machine code.
        cached: whether it was found on disk.
    """

    plan: Plan
    run: Callable[[int], int]
    source: Path
    captured: Captured
    seconds: float
    cached: bool


def build(plan: Plan, progress: Callable[[str], None] | None = None) -> Built:
    """Write, import and compile the loop for ``plan``.

    Args:
        progress: told what is being compiled, now and then.

    Raises:
        NodeError: a node that does not compile.
    """
    started = time.perf_counter()
    emitted = emit(plan)
    path = write_module(emitted.text, "loop")
    module = load_module(path, emitted.captured.objects)
    cached = True
    if COMPILED:
        try:
            cached = compile_kernel(module.run, 1, progress)
        except CompileFailure as failure:
            raise _blame(plan, emitted, failure) from None
    return Built(plan, module.run, path, emitted.captured, time.perf_counter() - started, cached)


def _blame(plan: Plan, emitted: Emitted, failure: CompileFailure) -> NodeError:
    """Find the node that does not compile, and say why at the line of the node, or of the helper it calls."""
    timers = [state for state in emitted.captured.states.values() if isinstance(state, Timers)]
    suspects: list[tuple[str, Callable[..., Any], Source, tuple[type[Local], ...]]] = []
    for node in plan.order:
        suspects.append(
            (node.name, node.function, number_doors(node)[0], node.around.takes if node.around else (Packet,))
        )
        beside = [each for each in (node.prefetch, node.worker) if each is not None]
        suspects += [(each.__name__, each, plain(each, each.__name__), (Packet,)) for each in beside]
    suspects += [(f.__name__, f, plain(f, f.__name__), (Timer,)) for each in timers for f in each.callbacks]
    for name, function, source, subjects in suspects:
        reason, file, line = _try_alone(name, function, source, subjects)
        if reason:
            shown = linecache.getline(file, line).strip()
            return NodeError(f"{file}:{line}: {name} does not compile: {reason}\n    {shown}")
    return NodeError(f"the graph does not compile: {failure.reason}")


def _try_alone(
    name: str, function: Callable[..., Any], source: Source, subjects: tuple[type[Local], ...]
) -> tuple[str, str, int]:
    """Compile one node, or callback of timers, with the lines of the user's files; why it fails and where, if so."""
    captured = Captured()
    rename(source, function, name, "subject", captured)
    scope: dict[str, Any] = {"inline": inline, **captured.objects}
    for known, origin in captured.trees.items():
        ast.increment_lineno(origin.tree, origin.first - 1)
        if known != "subject":
            origin.tree.decorator_list = [ast.copy_location(ast.Name("inline", ast.Load()), origin.tree)]
        exec(compile(ast.Module([origin.tree], []), origin.file, "exec"), scope)
    compiled: python_types.FunctionType = scope["subject"]
    views = [type(captured.states[name]).View for name in captured.needs["subject"]]
    return explain(compiled, subjects, views, {origin.file for origin in captured.trees.values()})


__all__ = ["Built", "build"]
