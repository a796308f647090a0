"""What the server says, each text at a place of its own in memory, and how it is put into an answer.

::

    figure      (a line of ``stats``; made by control code from the declarations in this file)
    0    1      kind
    1    1      bytes of the name
    8    8      of what: a value, or an offset
    16   48     name
"""
# mypy: no-warn-return-any

from wirespeed.apps.memcached.parse import digits_of, write_number
from wirespeed.apps.memcached.state import STATE_BYTES, ServerView
from wirespeed.jit import View, cold, copy, le64, load8, load64, store16, store64, u8

TEXTS: tuple[bytes, ...] = tuple(
    line + b"\r\n" if line else b""
    for line in (
        b"STORED", b"NOT_STORED", b"EXISTS", b"NOT_FOUND", b"DELETED", b"TOUCHED", b"OK", b"END", b"RESET", b"ERROR",
        b"CLIENT_ERROR bad command line format", b"CLIENT_ERROR bad data chunk",
        b"CLIENT_ERROR invalid exptime argument", b"CLIENT_ERROR invalid numeric delta argument",
        b"CLIENT_ERROR cannot increment or decrement non-numeric value",
        b"CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]",
        b"SERVER_ERROR object too large for cache", b"SERVER_ERROR out of memory writing get response",
        b"",  # the version
    )
)  # fmt: skip
(
    STORED, NOT_STORED, EXISTS, NOT_FOUND, DELETED, TOUCHED, OK, END, RESET, ERROR, BAD_LINE, BAD_DATA, BAD_EXPIRY,
    BAD_DELTA, NOT_A_NUMBER, BAD_DELETE, TOO_LARGE, NO_ROOM, VERSION,
) = range(len(TEXTS))  # fmt: skip

NOTHING, NUMBER = -1, -2
"""What a command says whose answer is written already, or is ``state.result``."""

TEXT_BYTES: int = 128
"""From one text to the next; the first byte is its length."""

VALUE, TIME, UPTIME, OF_WORKERS, OF_SHARDS, AS_TEXT = range(6)
"""Kinds of figures: a constant; now; since the start; the sum of all workers', of all shards'; both as one text."""


class FigureView(View):
    """A line of ``stats``."""

    kind = u8(0)
    name_bytes = u8(1)
    value = le64(8, "constant, or offset in a worker's state or a shard")
    SIZE = 64


FIGURE_BYTES: int = FigureView.SIZE


@cold
def say(state: ServerView, number: int) -> None:
    """Append a text, or with ``NUMBER`` ``state.result``, unless the command said ``noreply``."""
    if number == NOTHING or state.quiet != 0:
        return
    out, text = state.out, state.messages + number * TEXT_BYTES
    length = digits_of(state.result) + 2 if number == NUMBER else load8(text)
    if length > state.out_end - out:
        state.answer_too_large += 1
        return
    if number == NUMBER:
        store16(write_number(out, state.result, length - 2), 0x0A0D)
    else:
        copy(out, text + 1, length)
    state.out = out + length


@cold
def say_figures(state: ServerView) -> None:
    """Append all lines of ``stats``."""
    for index in range(state.figure_count):
        figure = FigureView(state.figures + index * FIGURE_BYTES)
        value = _value_of(state, figure)
        out, length, digits = state.out, figure.name_bytes, digits_of(value)
        if 5 + length + 1 + digits + 2 > state.out_end - out:
            break
        store64(out, 0x2054415453)  # "STAT "; what is behind it is written next
        copy(out + 5, figure.address + 16, length)
        out += 5 + length
        if figure.kind != AS_TEXT:
            store16(out, 0x20)
            out = write_number(out + 1, value, digits)
        store16(out, 0x0A0D)
        state.out = out + 2


@cold
def _value_of(state: ServerView, figure: FigureView) -> int:
    kind, value = figure.kind, figure.value
    if kind == TIME:
        return state.now
    if kind == UPTIME:
        return state.now - state.started
    total = 0
    if kind == OF_WORKERS:
        for index in range(state.worker_count):
            total += load64(state.workers + index * STATE_BYTES + value)
        return total
    if kind == OF_SHARDS:
        for index in range(state.shards):
            total += load64(state.store + index * state.shard_bytes + value)
        return total
    return value


__all__ = [
    "AS_TEXT",
    "BAD_DATA",
    "BAD_DELETE",
    "BAD_DELTA",
    "BAD_EXPIRY",
    "BAD_LINE",
    "DELETED",
    "END",
    "ERROR",
    "EXISTS",
    "NOTHING",
    "NOT_A_NUMBER",
    "NOT_FOUND",
    "NOT_STORED",
    "NO_ROOM",
    "NUMBER",
    "OF_SHARDS",
    "OF_WORKERS",
    "OK",
    "RESET",
    "STORED",
    "TEXTS",
    "TEXT_BYTES",
    "TIME",
    "TOO_LARGE",
    "TOUCHED",
    "UPTIME",
    "VALUE",
    "VERSION",
    "FigureView",
    "say",
    "say_figures",
]  # fmt: skip
