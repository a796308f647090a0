"""Which flows the generator sends: one row for each, in the order they leave.

Counting fields turn like an odometer, the first one fastest, so that every combination comes before any
comes again. Random fields are drawn for each flow, and drawn again until no two flows are the same.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from wirespeed.ports.generator.fields import Values

Words = NDArray[np.uint64]

_LOW = (1 << 64) - 1
_DRAWN = 1 << 62  # spans above this are drawn with Python's integers


@dataclass
class Column:
    """One field of all flows: 128-bit values in two halves."""

    high: Words
    low: Words


def combinations(fields: Sequence[Values]) -> int:
    """How many distinct rows the fields can make."""
    return prod(field.span for field in fields)


def choose(fields: Sequence[Values], count: int, seed: int, distinct: bool = True) -> dict[str, Column]:
    """``count`` rows, by field name.

    Args:
        fields: the one that turns fastest first.
        count: at most :func:`combinations` where ``distinct``.
        seed: the same seed gives the same rows.
        distinct: no two rows are the same.
    """
    rng = np.random.default_rng(seed)
    numbers = np.arange(count, dtype=np.uint64)
    columns: dict[str, Column] = {}
    turns = 1
    for field in fields:
        if field.mode != "random":
            digit = numbers // np.uint64(min(turns, _DRAWN))
            if field.span <= count:
                digit %= np.uint64(field.span)
            columns[field.name] = values(field, digit)
            turns *= field.span
    drawn = [field for field in fields if field.mode == "random"]
    if not drawn:
        return columns
    laps = -(-count // turns)
    room = combinations(drawn)
    if distinct and room <= 4 * laps:
        columns.update(_shuffled(drawn, room, min(turns, count), laps, count, rng))
        return columns
    for field in drawn:
        columns[field.name] = draw(field, count, rng)
    while distinct:
        again = _repeated(columns, count)
        if not len(again):
            break
        for field in drawn:
            fresh = draw(field, len(again), rng)
            columns[field.name].high[again] = fresh.high
            columns[field.name].low[again] = fresh.low
    return columns


def values(field: Values, index: Words) -> Column:
    """``first + index``, with the carry."""
    low = np.uint64(field.first & _LOW) + index
    high = np.uint64(field.first >> 64) + (low < index).astype(np.uint64)
    return Column(high, low)


def draw(field: Values, count: int, rng: np.random.Generator) -> Column:
    """``count`` values, each drawn evenly."""
    if field.span <= _DRAWN:
        return values(field, rng.integers(0, field.span, count, dtype=np.uint64))
    source = random.Random(int(rng.integers(0, _DRAWN)))
    drawn = [field.first + source.randrange(field.span) for _ in range(count)]
    return Column(
        np.array([value >> 64 for value in drawn], np.uint64),
        np.array([value & _LOW for value in drawn], np.uint64),
    )


def _shuffled(
    fields: Sequence[Values], room: int, turns: int, laps: int, count: int, rng: np.random.Generator
) -> dict[str, Column]:
    """Draw without putting back: for each state of the odometer, a shuffle of all that can be drawn."""
    every = rng.permuted(np.tile(np.arange(room, dtype=np.uint64), (turns, 1)), axis=1)[:, :laps]
    index = every.T.reshape(-1)[:count]
    columns = {}
    for field in fields:
        columns[field.name] = values(field, index % np.uint64(field.span))
        index = index // np.uint64(field.span)
    return columns


def _repeated(columns: dict[str, Column], count: int) -> NDArray[np.int64]:
    """Rows that are the same as an earlier one (or, once in 2**64, merely hash the same)."""
    key = np.zeros(count, np.uint64)
    for column in columns.values():
        for half in (column.high, column.low):
            key = (key ^ half) * np.uint64(0x9E3779B97F4A7C15)
            key ^= key >> np.uint64(29)
    _, first = np.unique(key, return_index=True)
    again = np.ones(count, bool)
    again[first] = False
    return np.flatnonzero(again)
