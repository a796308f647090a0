"""What a node takes from around its definition, and what becomes of it.

    plain numbers        compiled in as constants; a change is noticed and compiled anew
    state (tables, counters, anything with ``address`` and ``View``)
                         bound by reference: the loop gets its address at start, so it changes live
    functions            compiled with the node, recursively
    header classes       used as they are
    modules              looked through: ``ipv4.decrement_ttl`` is that function

Anything else is an error that says what to use instead.
"""

import ast
import builtins
import hashlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FunctionType, ModuleType
from typing import Any

from wirespeed.errors import NodeError
from wirespeed.graph.source import Source, attributes, plain
from wirespeed.jit import Local, View, python_function
from wirespeed.wire.header import Header

_BUILTINS = frozenset({"abs", "bool", "int", "len", "max", "min", "range", "divmod", "True", "False", "None"})


@dataclass
class Captured:
    """Everything one generated module takes from outside, under the names it uses inside."""

    constants: dict[str, Any] = field(default_factory=dict)
    objects: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)  # name in the module: source text
    needs: dict[str, list[str]] = field(default_factory=dict)  # function: states it takes as arguments
    touches: dict[str, set[str]] = field(default_factory=dict)  # function: attributes in it and below
    origins: dict[str, str] = field(default_factory=dict)  # function: file:line
    watched: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def changed(self) -> bool:
        """Whether a number that was compiled in has another value now."""
        return any(scope.get(name) != value for scope, name, value in self.watched)

    def name_for(self, thing: Any, wish: str) -> str:
        """A name for ``thing`` that no other thing has; always the same one."""
        if id(thing) not in self._names:
            taken = {*self._names.values()}
            name, count = wish, 1
            while name in taken:
                count += 1
                name = f"{wish}_{count}"
            self._names[id(thing)] = name
            self._kept.append(thing)
        return self._names[id(thing)]


def is_state(value: Any) -> bool:
    """Whether a node can hold ``value`` by reference."""
    kind = getattr(type(value), "View", None)
    return isinstance(kind, type) and issubclass(kind, View) and hasattr(value, "address")


def scope_of(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Closure variables and globals of a function."""
    function = python_function(function)
    found = inspect.getclosurevars(function)
    return dict(found.nonlocals), function.__globals__


class _Rename(ast.NodeTransformer):
    """Rewrites the names a function takes from outside into those of the generated module."""

    def __init__(self, source: Source, function: Callable[..., Any], name: str, captured: Captured) -> None:
        self.source, self.name, self.captured = source, name, captured
        self.near, self.far = scope_of(function)
        self.local = set(python_function(function).__code__.co_varnames)
        self.states: dict[str, None] = {}
        self.touches = attributes(source.tree)

    def visit_Attribute(self, tree: ast.Attribute) -> Any:
        """``module.name``, statically; anything else is an attribute at run time."""
        path: list[str] = []
        at: ast.expr = tree
        while isinstance(at, ast.Attribute):
            path.insert(0, at.attr)
            at = at.value
        if isinstance(at, ast.Name) and at.id not in self.local:
            value, known = self._look(at.id)
            if known and isinstance(value, ModuleType):
                for depth, attribute in enumerate(path):
                    if not isinstance(value, ModuleType):
                        break
                    if not hasattr(value, attribute):
                        raise NodeError(f"{self.source.at(tree)}: {value.__name__} has no {attribute!r}")
                    scope, value = vars(value), getattr(value, attribute)
                    rest = path[depth + 1 :]
                replaced: ast.expr = self._use(value, path[len(path) - len(rest) - 1], tree, scope)
                for attribute in rest:
                    replaced = ast.Attribute(replaced, attribute, tree.ctx)
                return ast.copy_location(replaced, tree)
        return self.generic_visit(tree)

    def visit_Name(self, tree: ast.Name) -> Any:
        if tree.id in self.local:
            return tree
        value, known = self._look(tree.id)
        if not known:
            if tree.id in _BUILTINS:
                return tree
            what = "is not allowed in a node" if hasattr(builtins, tree.id) else "is not defined"
            raise NodeError(f"{self.source.at(tree)}: {self.name} uses {tree.id!r}, which {what}")
        scope = self.near if tree.id in self.near else self.far
        return ast.copy_location(self._use(value, tree.id, tree, scope), tree)

    def _look(self, name: str) -> tuple[Any, bool]:
        if name in self.near:
            return self.near[name], True
        return self.far.get(name), name in self.far

    def _use(self, value: Any, wish: str, tree: ast.AST, scope: Mapping[str, Any]) -> ast.expr:
        captured = self.captured
        if isinstance(value, (bool, int, float)):
            if scope is self.far:
                captured.watched.append((scope, wish, value))
            return ast.Constant(value)
        if isinstance(value, tuple) and all(isinstance(part, (bool, int, float)) for part in value):
            return ast.Tuple([ast.Constant(part) for part in value], ast.Load())
        if is_state(value):
            name = captured.name_for(value, f"state_{wish}")
            captured.states[name] = value
            self.states[name] = None
            return ast.Name(name, ast.Load())
        if isinstance(value, type) and issubclass(value, (View, Local)):
            return self._object(value, wish)
        if callable(value) and getattr(value, "__module__", "").partition(".")[0] == "wirespeed":
            function = python_function(value)
            if isinstance(function, FunctionType):
                self.touches |= attributes(plain(function, wish).tree)
            return self._object(value, wish)
        if isinstance(python_function(value), FunctionType):
            name = include(value, captured, wish)
            self.touches |= captured.touches[name]
            self.states.update(dict.fromkeys(captured.needs[name]))
            return ast.Name(name, ast.Load())
        raise NodeError(
            f"{self.source.at(tree)}: {self.name} uses {wish!r}, a {type(value).__name__}; a node can use numbers, "
            "functions, header classes and state such as ws.counter(), ws.per_worker() or a table"
        )

    def _object(self, value: Any, wish: str) -> ast.expr:
        name = self.captured.name_for(value, wish)
        self.captured.objects[name] = value
        return ast.Name(name, ast.Load())

    def visit_Call(self, tree: ast.Call) -> Any:
        tree = self.generic_visit(tree)  # type: ignore[assignment]
        if isinstance(tree.func, ast.Name) and tree.func.id in self.captured.needs:
            for state in self.captured.needs[tree.func.id]:
                tree.args.append(ast.Name(state, ast.Load()))
        return tree


def rename(
    source: Source, function: Callable[..., Any], name: str, new_name: str, captured: Captured
) -> tuple[str, set[str]]:
    """Put ``function``'s tree in ``captured.functions`` under ``new_name``; returns text and touched attributes."""
    captured.needs[new_name] = []
    transformer = _Rename(source, function, name, captured)
    transformer.visit(source.tree)
    source.tree.name = new_name
    states = list(transformer.states)
    for state in states:
        source.tree.args.args.append(ast.arg(state))
    captured.needs[new_name] = states
    captured.touches[new_name] = transformer.touches
    captured.origins[new_name] = f"{source.file}:{source.first}"
    ast.fix_missing_locations(source.tree)
    text = ast.unparse(source.tree)
    captured.functions[new_name] = text
    return text, transformer.touches


def include(function: Any, captured: Captured, wish: str) -> str:
    """Compile a helper of the user's along with the node; returns its name in the module."""
    name = captured.name_for(function, f"help_{wish}")
    if name not in captured.needs:
        rename(plain(python_function(function), wish), function, wish, name, captured)
    return name


def identity(value: Any) -> str:
    """A text that changes when a captured class or function means something else."""
    if isinstance(value, type) and value.__module__.partition(".")[0] != "wirespeed":
        shown = "; ".join(f"{name}={field!r}" for name, field in getattr(value, "fields", {}).items())
        if issubclass(value, Header):
            shown += value.finder_source()
        try:
            shown += inspect.getsource(value)
        except (OSError, TypeError):
            shown += "defined where its source cannot be read: fields only"
        return f"{value.__qualname__} {hashlib.sha256(shown.encode()).hexdigest()[:16]}"
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"
