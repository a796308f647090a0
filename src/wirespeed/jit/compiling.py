"""Compiling on demand, with progress, and what a compiler error means to who wrote the function."""

import re
from collections.abc import Callable, Sequence
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


def explain(function: Any, packet: type[Local], views: Sequence[type[View]]) -> tuple[str, int]:
    """Compile ``function(packet, *views)`` alone; why it fails and the line, or an empty reason."""
    dispatcher = numba.njit(**_COMMON)(function)
    signature = (packet.numba_type(), *(view_type(view, False) for view in views))
    try:
        dispatcher.compile(signature)
    except errors.NumbaError as error:
        reason, line = _sentence(error)
        return reason, line or function.__code__.co_firstlineno
    return "", 0


def _sentence(error: Exception) -> tuple[str, int]:
    """The part of Numba's message that says something, and the first line number it names."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error))
    found = re.search(r'File "[^"]*", line (\d+)', text)
    line = int(found[1]) if found else 0
    location = getattr(error, "loc", None)
    if location is not None and getattr(location, "line", 0):
        line = location.line
    skipped = ("Failed in", "During:", "File ", "def ", "<source", "- ", "Known signatures", "There are", ">>>")
    said = [part.strip() for part in text.splitlines() if part.strip()]
    said = [part for part in said if not part.startswith(skipped)]
    return (said[0] if said else text.strip()) + "".join(f" {part}" for part in said[1:3]), line
