"""Field programs: what a header field says in one packet after the other.

    =====================================  =================================================================
    ``7``, ``"10.0.0.1"``                  the same in all
    ``range(1, 100)``, ``Counting(...)``   up by a step, and from the beginning again
    ``Random(first, last)``                drawn evenly
    ``[80, 443, 8080]``                    in turn
    ``{443: 80, 53: 20}``                  drawn by weight, ``Weighted``
    ``FromRoutes("internet.txt.gz")``      an address inside a prefix of a routing table, both drawn
    =====================================  =================================================================

A program is run once for each packet that is written down before the first one leaves (``packets=`` of a stream, 1024
unless told otherwise); the generator then sends them round and round. So it costs nothing while packets leave, and
what is drawn repeats after that many packets. What never repeats is the stamp's sequence number.

Values are integers, or addresses as text: IPv4, IPv6 (then of 128 bits) and Ethernet; a prefix or a range of addresses
is text for ``Counting`` and ``Random``: ``Random("2001:db8::/64")``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import PortError
from wirespeed.ports.generator.fields import Values, addresses
from wirespeed.ports.generator.flows import Column, draw, values
from wirespeed.tables.routes import load_routes
from wirespeed.wire.ethernet import mac_address

Value = int | str
_LOW = (1 << 64) - 1


class Program(Protocol):
    """What a field program is: the values of ``count`` packets, drawn with ``random`` where they are drawn."""

    def column(self, count: int, random: np.random.Generator) -> Column:
        """One value for each packet."""
        ...


def number(value: Any) -> int:
    """An integer, from itself or from an address.

    Raises:
        PortError: it is neither.
    """
    if isinstance(value, int | np.integer):
        if value < 0:
            raise PortError(f"field value {value}: fields hold no negative numbers")
        return int(value)
    for read in (lambda: int(ip_address(value)), lambda: mac_address(value)):
        try:
            return read()
        except (ValueError, AttributeError):
            continue
    raise PortError(f"field value {value!r} is no number, no IP address and no Ethernet address")


def column_of(numbers: Iterable[int]) -> Column:
    """A column of 128-bit numbers."""
    listed = list(numbers)
    return Column(
        np.array([value >> 64 for value in listed], np.uint64), np.array([value & _LOW for value in listed], np.uint64)
    )


def _span(first: Value, last: Value | None) -> tuple[int, int]:
    """First value and how many, of a range that is written one way or the other."""
    if last is None and isinstance(first, str) and ("/" in first or "-" in first):
        found = addresses("field program", "range", first, "counting")
        return found.first, found.span
    low = number(first)
    high = low if last is None else number(last)
    if high < low:
        raise PortError(f"field program: a range from {first!r} to {last!r} has nothing in it: say the smaller first")
    return low, high - low + 1


@dataclass(frozen=True)
class Constant:
    """The same in all packets."""

    value: Value

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`."""
        return column_of([number(self.value)] * count)


@dataclass(frozen=True)
class Counting:
    """From ``first`` to ``last`` by ``step``, then again from ``first``; ``first`` may be a prefix or a range."""

    first: Value
    last: Value | None = None
    step: int = 1

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`."""
        low, span = _span(self.first, self.last)
        if self.step < 1:
            raise PortError(f"field program: a step of {self.step} must be 1 or more")
        laps = -(-span // self.step)
        return column_of(low + index % laps * self.step for index in range(count))


@dataclass(frozen=True)
class Random:
    """Drawn evenly from ``first`` to ``last``; ``first`` may be a prefix or a range."""

    first: Value
    last: Value | None = None

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`."""
        low, span = _span(self.first, self.last)
        return draw(Values("", low, span, "random"), count, random)


@dataclass(frozen=True)
class Listed:
    """In turn."""

    values: tuple[Value, ...]

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`."""
        if not self.values:
            raise PortError("field program: a list without values: name one at least")
        known = [number(value) for value in self.values]
        return column_of(known[index % len(known)] for index in range(count))


@dataclass(frozen=True)
class Weighted:
    """Drawn, each value as often as its weight says."""

    weights: Mapping[Value, float]

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`."""
        shares = np.array(list(self.weights.values()), float)
        if not len(shares) or (shares < 0).any() or not shares.sum() > 0 or not np.isfinite(shares).all():
            raise PortError(f"field program: weights {dict(self.weights)} must be positive numbers, one at least")
        known = column_of(number(value) for value in self.weights)
        chosen = random.choice(len(shares), count, p=shares / shares.sum())
        return Column(known.high[chosen], known.low[chosen])


@dataclass(frozen=True)
class FromRoutes:
    """An IPv4 address inside a random prefix of a routing table (text, MRT or a dump; plain or gzip)."""

    path: str

    def column(self, count: int, random: np.random.Generator) -> Column:
        """See :class:`Program`. Raises TableError: the file cannot be read."""
        prefixes, lengths, _ = load_routes(self.path)
        if not len(prefixes):
            raise PortError(f"{self.path}: no IPv4 route to draw destinations from: name prefixes, one a line")
        return values(Values("", 0, 1, "counting"), inside(prefixes, lengths, count, random).astype(np.uint64))


def inside(
    prefixes: NDArray[np.uint32], lengths: NDArray[np.uint8], count: int, random: np.random.Generator
) -> NDArray[np.uint32]:
    """``count`` IPv4 addresses: a random one inside a random prefix each."""
    chosen = random.integers(0, len(prefixes), count)
    host_bits = 32 - lengths[chosen].astype(np.uint64)
    within = random.integers(0, 1 << 32, count, dtype=np.uint64) & ((np.uint64(1) << host_bits) - np.uint64(1))
    found: NDArray[np.uint32] = (prefixes[chosen].astype(np.uint64) | within).astype(np.uint32)
    return found


def program(given: Any) -> Program:
    """What somebody wrote for a field, as a program.

    Raises:
        PortError: it is none.
    """
    if hasattr(given, "column"):
        return given  # type: ignore[no-any-return]
    if isinstance(given, range):
        if not given or given.step < 1:
            raise PortError(f"field program: {given} has nothing in it or goes down: use a list")
        return Counting(given.start, given[-1], given.step)
    if isinstance(given, Mapping):
        return Weighted(given)
    if isinstance(given, str) and ("/" in given or "-" in given):
        return Counting(given)
    if isinstance(given, int | str | np.integer):
        return Constant(given if isinstance(given, str) else int(given))
    if isinstance(given, Iterable):
        return Listed(tuple(given))
    raise PortError(f"field program {given!r}: use a number, an address, a range, a list, weights or a program")
