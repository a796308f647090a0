"""What a node's source says: by which doors it leaves, what of the packet it reads, and the code itself.

A door is named by a string in a ``return``. The compiled node returns its number instead, so each returned
name is looked up here, once, and one that nobody declared, or that only exists at run time, is an error that
points at the line.
"""

import ast
import functools
import inspect
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType
from typing import Any

from wirespeed.errors import NodeError
from wirespeed.graph.node import DEFAULT, Node
from wirespeed.ports.options import nearest


@dataclass(frozen=True)
class Source:
    """A function as a syntax tree, and where it stands."""

    tree: ast.FunctionDef
    file: str
    first: int

    def at(self, place: ast.AST) -> str:
        """``file:line`` of a part of the tree."""
        return f"{self.file}:{self.first + getattr(place, 'lineno', 1) - 1}"


@functools.lru_cache(maxsize=1024)
def _lines(code: CodeType) -> tuple[list[str], int]:
    return inspect.getsourcelines(code)


def read(function: Callable[..., Any], name: str) -> Source:
    """The syntax tree of ``function``.

    Raises:
        NodeError: its source cannot be had, or it is not a plain ``def``.
    """
    try:
        lines, first = _lines(inspect.unwrap(function).__code__)
    except (OSError, TypeError) as error:
        raise NodeError(f"{name}: its source cannot be read ({error}); define it in a file or notebook") from None
    tree = ast.parse(textwrap.dedent("".join(lines))).body[0]
    if not isinstance(tree, ast.FunctionDef):
        raise NodeError(f"{name}: a node is a plain def, not {type(tree).__name__}")
    return Source(tree, inspect.getsourcefile(function) or "?", max(first, 1))


def doors(node: Node) -> list[str]:
    """All doors of a node in the order of their numbers: default, outputs, drops."""
    return [DEFAULT, *node.outputs, *node.drops]


def _falls_through(body: list[ast.stmt]) -> bool:
    """Whether control can reach the end of ``body``. Errs on the side of yes."""
    for statement in body:
        if isinstance(statement, (ast.Return, ast.Raise)):
            return False
        if isinstance(statement, ast.If) and statement.orelse:
            if not _falls_through(statement.body) and not _falls_through(statement.orelse):
                return False
        if isinstance(statement, ast.While) and isinstance(statement.test, ast.Constant) and statement.test.value:
            if not any(isinstance(part, ast.Break) for part in ast.walk(statement)):
                return False
    return True


class _Doors(ast.NodeTransformer):
    """Replaces each returned name by its number, and notes which doors are used."""

    def __init__(self, node: Node, source: Source) -> None:
        self.node, self.source = node, source
        self.numbers = {name: number for number, name in enumerate(doors(node))}
        self.used: set[str] = set()

    def visit_FunctionDef(self, tree: ast.FunctionDef) -> Any:
        if tree is not self.source.tree:
            raise NodeError(f"{self.source.at(tree)}: {self.node.name} defines a function inside; define it outside")
        return self.generic_visit(tree)

    def visit_Return(self, statement: ast.Return) -> Any:
        statement.value = self._number(statement.value, statement)
        return statement

    def _number(self, value: ast.expr | None, statement: ast.Return) -> ast.expr:
        if value is None or (isinstance(value, ast.Constant) and value.value is None):
            self.used.add(DEFAULT)
            return ast.Constant(0)
        if isinstance(value, ast.IfExp):
            value.body = self._number(value.body, statement)
            value.orelse = self._number(value.orelse, statement)
            return value
        if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
            raise NodeError(
                f"{self.source.at(statement)}: {self.node.name} returns {ast.unparse(value)!r}, which is only known "
                "at run time; return the name of a door as a string literal"
            )
        name = value.value
        if not name or name not in self.numbers:
            raise NodeError(
                f"{self.source.at(statement)}: {self.node.name} returns {name!r}, which it does not declare; "
                f"{nearest(name, [*self.node.outputs, *self.node.drops])}"
            )
        self.used.add(name)
        return ast.Constant(self.numbers[name])


def number_doors(node: Node) -> tuple[Source, set[str]]:
    """The node's tree with numbers for doors, and the names of the doors it can leave by.

    Raises:
        NodeError: a return that names no declared door.
    """
    source = read(node.function, node.name)
    source.tree.decorator_list = []
    _strip_annotations(source.tree)
    transformer = _Doors(node, source)
    transformer.visit(source.tree)
    if node.around is not None:
        transformer.used |= node.around.doors
    if _falls_through(source.tree.body):
        transformer.used.add(DEFAULT)
        source.tree.body.append(ast.Return(ast.Constant(0)))
    ast.fix_missing_locations(source.tree)
    return source, transformer.used


def plain(function: Callable[..., Any], name: str) -> Source:
    """The tree of a helper function that a node calls."""
    source = read(function, name)
    source.tree.decorator_list = []
    _strip_annotations(source.tree)
    return source


def _strip_annotations(tree: ast.FunctionDef) -> None:
    tree.returns = None
    for argument in [*tree.args.posonlyargs, *tree.args.args, *tree.args.kwonlyargs]:
        argument.annotation = None
    if tree.body and isinstance(tree.body[0], ast.Expr) and isinstance(tree.body[0].value, ast.Constant):
        if isinstance(tree.body[0].value.value, str) and len(tree.body) > 1:
            del tree.body[0]


def attributes(tree: ast.AST) -> set[str]:
    """Every attribute name in the tree: what of a packet it may read."""
    return {part.attr for part in ast.walk(tree) if isinstance(part, ast.Attribute)}
