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
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import EnumMeta
from numbers import Integral, Rational, Real
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

from wirespeed.errors import NodeError
from wirespeed.graph.source import Source, attributes, plain
from wirespeed.jit import Local, View, python_function
from wirespeed.wire.header import Header

NUMBERS = (bool, Integral, Real)
"""What is compiled in as a constant (not a fraction); NumPy's scalars among them."""

_BUILTINS = frozenset({"abs", "bool", "int", "len", "max", "min", "range", "divmod", "True", "False", "None"})


@dataclass
class Captured:
    """Everything one generated module takes from outside, under the names it uses inside."""

    objects: dict[str, Any] = field(default_factory=dict)
    states: dict[str, Any] = field(default_factory=dict)
    functions: dict[str, str] = field(default_factory=dict)  # name in the module: source text
    needs: dict[str, list[str]] = field(default_factory=dict)  # function: states it takes as arguments
    touches: dict[str, set[str]] = field(default_factory=dict)  # function: attributes in it and below
    origins: dict[str, str] = field(default_factory=dict)  # function: file:line
    trees: dict[str, Source] = field(default_factory=dict)  # function: what its text was made of
    reserved: frozenset[str] = frozenset()  # names that mean something in the module already
    watched: list[tuple[Mapping[str, Any], str, Any]] = field(default_factory=list)
    _names: dict[int, str] = field(default_factory=dict)
    _kept: list[Any] = field(default_factory=list)

    def changed(self) -> bool:
        """Whether a number that was compiled in has another value now."""
        return any(scope.get(name) != value for scope, name, value in self.watched)

    def name_for(self, thing: Any, wish: str) -> str:
        """A name for ``thing`` that no other thing has; always the same one."""
        if id(thing) not in self._names:
            taken = {*self._names.values(), *self.reserved}
            name, count = wish, 1
            while name in taken:
                count += 1
                name = f"{wish}_{count}"
            self._names[id(thing)] = name
            self._kept.append(thing)
        return self._names[id(thing)]

    def has_function(self, thing: Any) -> bool:
        """Whether ``thing`` is a function of the module already: a handler, and be it one of wirespeed's own."""
        return self._names.get(id(thing)) in self.needs


def is_state(value: Any) -> bool:
    """Whether a node can hold ``value`` by reference."""
    kind = getattr(type(value), "View", None)
    return isinstance(kind, type) and issubclass(kind, View) and hasattr(value, "address")


def scope_of(function: Callable[..., Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Closure variables and globals of a function."""
    function = python_function(function)
    found = inspect.getclosurevars(function)
    return dict(found.nonlocals), function.__globals__


def _is_number(value: Any) -> bool:
    return isinstance(value, NUMBERS) and (isinstance(value, Integral) or not isinstance(value, Rational))


def _constant(value: Any) -> ast.expr:
    """A number as Python source says it: plain, and with its sign as an operator (``(-5) ** 2`` is not ``-5 ** 2``)."""
    plain = value if isinstance(value, bool) else int(value) if isinstance(value, Integral) else float(value)
    if not isinstance(plain, bool) and plain < 0:
        return ast.UnaryOp(ast.USub(), ast.Constant(-plain))
    return ast.Constant(plain)


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
            if known and isinstance(value, (ModuleType, EnumMeta)):
                if not isinstance(tree.ctx, ast.Load):
                    raise NodeError(
                        f"{self.source.at(tree)}: {self.name} changes {ast.unparse(tree)}; a node keeps what changes "
                        "in ws.counter(), ws.per_worker() or a table"
                    )
                for depth, attribute in enumerate(path):
                    if not isinstance(value, (ModuleType, EnumMeta)):
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

    def visit_Global(self, tree: Any) -> Any:
        """``global n`` says that the node will change it, which machine code cannot."""
        raise NodeError(
            f"{self.source.at(tree)}: {self.name} changes {', '.join(tree.names)} from outside; a node keeps what "
            "changes in ws.counter(), ws.per_worker() or a table"
        )

    def visit_Nonlocal(self, tree: Any) -> Any:
        """The same, of a function around."""
        return self.visit_Global(tree)

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
        if _is_number(value):
            if scope is not self.near:  # a module's, this one or another
                captured.watched.append((scope, wish, value))
            return _constant(value)
        if isinstance(value, tuple) and all(map(_is_number, value)):
            return ast.Tuple([_constant(part) for part in value], ast.Load())
        if is_state(value):
            name = captured.name_for(value, f"state_{wish}")
            captured.states[name] = value
            self.states[name] = None
            self.touches |= _touched_by(vars(type(value).View).values())
            return ast.Name(name, ast.Load())
        if isinstance(value, type) and issubclass(value, (View, Local)):
            return self._object(value, wish)
        if callable(value) and _is_ours(value) and not captured.has_function(value):
            self.touches |= _touched_by([value])
            return self._object(value, wish)
        if isinstance(python_function(value), FunctionType):
            name = include(value, captured, wish)
            if name not in captured.touches:
                raise NodeError(f"{self.source.at(tree)}: {wish} calls itself; write it as a loop with a bound")
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
            # In front, where neither defaults nor keywords come between.
            tree.args[:0] = [ast.Name(state, ast.Load()) for state in self.captured.needs[tree.func.id]]
        return tree


def _is_ours(value: Any) -> bool:
    """Whether it is wirespeed's, and compiles by itself. A function made inside another may hold state, as a user's."""
    made_inside = isinstance(value, FunctionType) and "<locals>" in value.__qualname__
    return getattr(value, "__module__", "").partition(".")[0] == "wirespeed" and not made_inside


def _touched_by(functions: Iterable[Any], seen: set[int] | None = None) -> set[str]:
    """Attributes in functions of wirespeed, and in the functions of wirespeed that those call."""
    seen = set() if seen is None else seen
    touched: set[str] = set()
    for value in functions:
        function = python_function(value.fget if isinstance(value, property) else value)
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        try:
            touched |= attributes(plain(function, function.__name__).tree)
        except NodeError:
            continue  # generated: a header's finder, say; headers are asked for their level
        called = (function.__globals__.get(name) for name in function.__code__.co_names)
        touched |= _touched_by(called, seen)
    return touched


def rename(
    source: Source, function: Callable[..., Any], name: str, new_name: str, captured: Captured
) -> tuple[str, set[str]]:
    """Put ``function``'s tree in ``captured.functions`` under ``new_name``; returns text and touched attributes."""
    captured.needs[new_name] = []
    transformer = _Rename(source, function, name, captured)
    transformer.visit(source.tree)
    source.tree.name = new_name
    states = list(transformer.states)
    arguments = source.tree.args.posonlyargs or source.tree.args.args
    arguments[:0] = [ast.arg(state) for state in states]
    captured.needs[new_name] = states
    captured.touches[new_name] = transformer.touches
    captured.origins[new_name] = f"{source.file}:{source.first}"
    captured.trees[new_name] = source
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
    """A text that changes when a captured class or function means something else.

    wirespeed's own are known by name: the cache's directory stands for their source. Others are known by their
    file, and by the numbers and functions they use from around them.
    """
    name = f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', repr(value))}"
    if name.startswith("wirespeed."):
        fields = getattr(value, "fields", {})  # per_worker() makes classes of one name with different fields
        return f"{name}({', '.join(f'{field}@{fields[field].offset}' for field in fields)})" if fields else name
    return f"{name} {hashlib.sha256(_meaning(value, set()).encode()).hexdigest()[:16]}"


_NAMED = ("wirespeed", "builtins")


def _meaning(value: Any, seen: set[int]) -> str:
    function = python_function(value.fget if isinstance(value, property) else value)
    if _is_number(value):
        return repr(value)
    if id(value) in seen or (getattr(function, "__module__", None) or "builtins").partition(".")[0] in _NAMED:
        return ""
    seen.add(id(value))
    if isinstance(value, type):
        parts = [f"{name}={field!r}" for name, field in getattr(value, "fields", {}).items()]
        if issubclass(value, Header) and (value.FOUND or value.bindings):
            parts.append(value.finder_source())
        parts += [_meaning(member, seen) for member in vars(value).values()]
        parts += [_meaning(kind, seen) for kind in value.__mro__[1:]]
        return f"{value.__qualname__}: {'; '.join(parts)}"
    if not isinstance(function, FunctionType):
        return ""
    near, far = scope_of(function)
    used = {name: far[name] for name in function.__code__.co_names if name in far} | near
    parts = [f"{name}={_meaning(what, seen)}" for name, what in used.items()]
    try:
        parts.append(Path(inspect.getsourcefile(function) or "").read_text())
    except (OSError, TypeError):
        parts.append(function.__code__.co_code.hex() + repr(function.__code__.co_consts))
    return f"{function.__qualname__}({'; '.join(parts)})"
