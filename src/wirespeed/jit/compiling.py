"""Compiling on demand, with progress, and what a compiler error means to who wrote the function."""

import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numba
from numba.core import errors, event, types

from wirespeed.jit.decorators import _COMMON
from wirespeed.jit.local import Local
from wirespeed.jit.view import View, view_type


class CompileFailure(Exception):
    """Numba refused a function. ``reason`` is one sentence, ``line`` its line or 0."""

    def __init__(self, reason: str, line: int = 0) -> None:
        super().__init__(reason)
        self.reason, self.line = reason, line


class _Progress(event.Listener):  # type: ignore[misc]
    """Tells which function is being compiled."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.tell = tell

    def on_start(self, happening: Any) -> None:
        dispatcher = happening.data.get("dispatcher")
        if dispatcher is not None:
            self.tell(dispatcher.py_func.__name__)

    def on_end(self, happening: Any) -> None:
        """Nothing to say."""


def compile_kernel(function: Any, words: int, progress: Callable[[str], None] | None = None) -> bool:
    """Get machine code for a kernel that takes ``words`` int64; True if it was found on disk.

    Raises:
        CompileFailure: Numba refused it.
    """
    signature = (types.int64,) * words
    try:
        if progress is None:
            function.compile(signature)
        else:
            with event.install_listener("numba:compile", _Progress(progress)):
                function.compile(signature)
    except errors.NumbaError as error:
        raise CompileFailure(*_sentence(error)) from error
    return bool(sum(function.stats.cache_hits.values()))


def explain(
    function: Any, subjects: Sequence[type[Local]], views: Sequence[type[View]], files: Collection[str]
) -> tuple[str, str, int]:
    """Compile ``function(*views, *subjects)`` alone; why it fails, in which of ``files``, and the line.

    The innermost place in one of ``files`` is blamed. An empty reason: it compiles.
    """
    dispatcher = numba.njit(**_COMMON)(function)
    signature = (*(view_type(view, False) for view in views), *(subject.numba_type() for subject in subjects))
    try:
        dispatcher.compile(signature)
    except errors.NumbaError as error:
        reason, line = _sentence(error)
        for file, number in re.findall(r"typing of [^\n]*? at ([^\n]+) \((\d+)\)", _text(error)):
            if file in files:
                return reason, file, int(number)
        return reason, function.__code__.co_filename, line or function.__code__.co_firstlineno
    return "", "", 0


def _text(error: Exception) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error))


def _sentence(error: Exception) -> tuple[str, int]:
    """The part of Numba's message that says something, and the first line number it names."""
    text = _text(error)
    found = re.search(r'File "[^"]*", line (\d+)', text)
    line = int(found[1]) if found else 0
    location: Any = getattr(error, "loc", None)
    if location is not None:
        line = location.line or line
    said: list[str] = []
    for part in map(str.strip, text.splitlines()):
        if not said and part and not part.startswith(("Failed in", "During:")):
            said.append(part)
        elif said and part.startswith(">>>"):  # the call, behind "no implementation of ... for signature:"
            return f"{said[0]} {part[3:].strip()}", line
    return (said[0] if said else text.strip()), line
