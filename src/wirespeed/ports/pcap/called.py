"""Capture records whose work is done by a kernel of its own, called by address (:mod:`wirespeed.jit.entry`).

Whether records, blocks or a table are read, or packets laid out, is said by the address in the record. So a graph
compiles the same few instructions whatever the capture is, and the readers and the writer compile once.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from wirespeed.jit import inline, le64
from wirespeed.jit.entry import enter4
from wirespeed.ports.queue import Queue


class CalledQueue(Queue):
    """A queue record that knows its kernel."""

    kernel = le64(184, "of a function (queue, cache, vector, count), as entry() gave it")
    SIZE = 192


@inline
def call(queue: int, cache: int, vector: int, count: int) -> int:
    """What the record's kernel does with it: a driver's ``receive``."""
    return enter4(CalledQueue(queue).kernel, queue, cache, vector, count)


__all__ = ["CalledQueue", "call"]
