"""Meters: colour packets by how much came before them.

    =================  =============================================================  ==========================
    class              rates                                                          source
    =================  =============================================================  ==========================
    SingleRateMeters   one rate; a burst within (green) and one beyond it (yellow)    RFC 2697, srTCM
    TwoRateMeters      committed and peak rate, peak checked first                    RFC 2698, trTCM
    DifferentiatedMeters  committed rate, and an excess rate on top of it             RFC 4115
    =================  =============================================================  ==========================

Each is colour-aware: the packet's colour so far is an argument, and no packet gets a better one. GREEN makes it
colour-blind. In a node::

    if meters.color(customer, pkt.length, now_ns) == ws.RED: ...

A record is two cache lines::

    0   green_tokens, 8 yellow_tokens         scaled (wirespeed.traffic.tokens)
    16  green_capacity, 24 yellow_capacity
    32  green_rate, 40 yellow_rate            a nanosecond, scaled
    48  green_fill_ns, 56 yellow_fill_ns
    64  last_ns
    72  packets of each colour, 8 bytes each
    96  bytes of each colour

The "yellow" bucket is E in RFC 2697 and 4115, P in RFC 2698. Sizes are compared with buckets scaled down, so no size
overflows. O(1) and 128 bytes a meter; a meter belongs to one worker at a time.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, inline, kernel, le64, load64, store64
from wirespeed.mem.shared import Shared
from wirespeed.traffic.tokens import filled, scale, shift_for

GREEN: int = 0
YELLOW: int = 1
RED: int = 2

_HEAD, _RECORD = 64, 128
MAX_METERS: int = 1 << 24


class MeterView(View):
    """One meter."""

    green_tokens = le64(0)
    yellow_tokens = le64(8)
    green_capacity = le64(16)
    yellow_capacity = le64(24)
    green_rate = le64(32)
    yellow_rate = le64(40)
    green_fill_ns = le64(48)
    yellow_fill_ns = le64(56)
    last_ns = le64(64)
    packets = le64(72, "green ones; yellow and red follow")
    bytes = le64(96, "of green ones; yellow and red follow")
    SIZE = _RECORD


@inline
def _count(meter, size, color):  # type: ignore[no-untyped-def]
    at = meter.address + 72 + (color << 3)
    store64(at, load64(at) + 1)
    store64(at + 24, load64(at + 24) + size)
    return color


@inline
def _refill_apart(meter, now_ns):  # type: ignore[no-untyped-def]
    """Each bucket at its own rate."""
    elapsed = now_ns - meter.last_ns
    meter.green_tokens = filled(
        meter.green_tokens, meter.green_capacity, meter.green_rate, meter.green_fill_ns, elapsed
    )
    meter.yellow_tokens = filled(
        meter.yellow_tokens, meter.yellow_capacity, meter.yellow_rate, meter.yellow_fill_ns, elapsed
    )
    if elapsed > 0:
        meter.last_ns = now_ns


class MetersView(View):
    """Meters as nodes see them. An index outside them wraps: it charges another one, never other memory."""

    mask = le64(0, "meters - 1")
    shift = le64(8, "tokens are scaled by 2 to this")
    SIZE = _HEAD

    def _meter(self, index: int) -> int:
        return self.address + _HEAD + (index & self.mask) * _RECORD  # type: ignore[no-any-return]


class SingleRateView(MetersView):
    """RFC 2697."""

    def color(self, index: int, size: int, now_ns: int, color: int = 0) -> int:
        """GREEN, YELLOW or RED for a packet of ``size`` bytes that was ``color`` before; section 3."""
        meter = MeterView(self._meter(index))
        elapsed = now_ns - meter.last_ns
        green, yellow = meter.green_tokens, meter.yellow_tokens
        if elapsed > 0:  # what the committed burst cannot hold goes to the excess burst: section 3, last paragraph
            meter.last_ns = now_ns
            both = filled(
                green + yellow,
                meter.green_capacity + meter.yellow_capacity,
                meter.green_rate,
                meter.green_fill_ns,
                elapsed,
            )
            earned = both - green - yellow
            given = min(earned, meter.green_capacity - green)
            green += given
            yellow = min(yellow + earned - given, meter.yellow_capacity)
        shift = self.shift
        found = RED
        if color == GREEN and size <= green >> shift:
            found = GREEN
            green -= size << shift
        elif color <= YELLOW and size <= yellow >> shift:
            found = YELLOW
            yellow -= size << shift
        meter.green_tokens = green
        meter.yellow_tokens = yellow
        return _count(meter, size, found)  # type: ignore[no-any-return]


class TwoRateView(MetersView):
    """RFC 2698."""

    def color(self, index: int, size: int, now_ns: int, color: int = 0) -> int:
        """GREEN, YELLOW or RED for a packet of ``size`` bytes that was ``color`` before; section 3."""
        meter = MeterView(self._meter(index))
        _refill_apart(meter, now_ns)
        shift = self.shift
        if color == RED or size > meter.yellow_tokens >> shift:
            return _count(meter, size, RED)  # type: ignore[no-any-return]
        meter.yellow_tokens -= size << shift
        if color == YELLOW or size > meter.green_tokens >> shift:
            return _count(meter, size, YELLOW)  # type: ignore[no-any-return]
        meter.green_tokens -= size << shift
        return _count(meter, size, GREEN)  # type: ignore[no-any-return]


class DifferentiatedView(MetersView):
    """RFC 4115."""

    def color(self, index: int, size: int, now_ns: int, color: int = 0) -> int:
        """GREEN, YELLOW or RED for a packet of ``size`` bytes that was ``color`` before; section 2."""
        meter = MeterView(self._meter(index))
        _refill_apart(meter, now_ns)
        shift = self.shift
        if color == GREEN and size <= meter.green_tokens >> shift:
            meter.green_tokens -= size << shift
            return _count(meter, size, GREEN)  # type: ignore[no-any-return]
        if color <= YELLOW and size <= meter.yellow_tokens >> shift:
            meter.yellow_tokens -= size << shift
            return _count(meter, size, YELLOW)  # type: ignore[no-any-return]
        return _count(meter, size, RED)  # type: ignore[no-any-return]


@kernel
def _single_many(address, indices, sizes, times, colors):  # type: ignore[no-untyped-def]
    meters = SingleRateView(address)
    for i in range(len(indices)):
        colors[i] = meters.color(int(indices[i]), int(sizes[i]), int(times[i]), int(colors[i]))


@kernel
def _two_many(address, indices, sizes, times, colors):  # type: ignore[no-untyped-def]
    meters = TwoRateView(address)
    for i in range(len(indices)):
        colors[i] = meters.color(int(indices[i]), int(sizes[i]), int(times[i]), int(colors[i]))


@kernel
def _differentiated_many(address, indices, sizes, times, colors):  # type: ignore[no-untyped-def]
    meters = DifferentiatedView(address)
    for i in range(len(indices)):
        colors[i] = meters.color(int(indices[i]), int(sizes[i]), int(times[i]), int(colors[i]))


@dataclass(frozen=True)
class MetersStats:
    """Of all meters: packets and bytes by colour, (green, yellow, red)."""

    meters: int
    packets: tuple[int, int, int]
    bytes: tuple[int, int, int]
    memory_bytes: int
    pages: str


class Meters(Shared):
    """What the three kinds have in common: ``count`` meters, rounded up to a power of two."""

    View: ClassVar[type[MetersView]]
    _many: ClassVar[Any]

    def _make(self, count: int, name: str | None, rates: tuple[float, float], bursts: tuple[int, int]) -> None:
        if not 1 <= count <= MAX_METERS:
            raise TableError(f"{name or self.KIND}: {count} meters are not possible: use 1 to {MAX_METERS}")
        size = 1 << (count - 1).bit_length()
        shift = shift_for(sum(bursts))
        green, yellow = (
            scale(name or self.KIND, rate, burst, shift) for rate, burst in zip(rates, bursts, strict=True)
        )
        self._create(_HEAD + size * _RECORD, name)
        self._attached()
        self._view.mask, self._view.shift = size - 1, shift
        records = self._records()
        records[:, 0] = records[:, 2] = green.capacity
        records[:, 1] = records[:, 3] = yellow.capacity
        records[:, 4], records[:, 5] = green.rate, yellow.rate
        records[:, 6], records[:, 7] = green.fill_ns, yellow.fill_ns
        records[:, 8] = -(1 << 62)  # before any clock

    def _attached(self) -> None:
        self._view = self.View(self.address)

    def __len__(self) -> int:
        return int(self._view.mask) + 1

    def color(self, index: int, size: int, now_ns: int, color: int = GREEN) -> int:
        """GREEN, YELLOW or RED for a packet of ``size`` bytes that was ``color`` before; ``now_ns``: a steady clock."""
        self._check_writable()
        return int(self._view.color(index, size, now_ns, color))  # type: ignore[attr-defined]

    def color_many(self, indices: Any, sizes: Any, times_ns: Any, colors: Any = GREEN) -> NDArray[np.int64]:
        """The colours of many packets, in order: arrays of one length, or single numbers that count for all."""
        self._check_writable()
        asked = np.broadcast_arrays(indices, sizes, times_ns, colors)
        *given, found = (np.array(each, dtype=np.int64, order="C").ravel() for each in asked)
        type(self)._many(self.address, *given, found)
        return found.reshape(asked[0].shape)

    def stats(self) -> MetersStats:
        """Packets and bytes by colour, all meters together."""
        records = self._records()
        packets, size = records[:, 9:12].sum(axis=0).tolist(), records[:, 12:15].sum(axis=0).tolist()
        return MetersStats(len(self), tuple(packets), tuple(size), self.memory_bytes, self.pages)

    def counts(self, index: int) -> tuple[int, int, int]:
        """Packets of one meter by colour: (green, yellow, red)."""
        if not 0 <= index < len(self):
            raise TableError(f"{self.name}: meter {index} is out of range: 0 to {len(self) - 1}")
        green, yellow, red = self._records()[index, 9:12].tolist()
        return green, yellow, red

    def _records(self) -> NDArray[np.int64]:
        return self._words(np.int64, _HEAD, len(self) * _RECORD // 8).reshape(-1, _RECORD // 8)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}: {len(self)} meters>"


class SingleRateMeters(Meters):
    """RFC 2697: green within the committed burst, yellow within the excess burst, red beyond.

    Args:
        count: meters, rounded up to a power of two.
        rate: CIR, bytes a second.
        burst: CBS, bytes.
        excess_burst: EBS, bytes.
        name: under which other processes can attach them.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[MetersView]] = SingleRateView
    KIND = "srtcm"
    _many = staticmethod(_single_many)

    def __init__(self, count: int, rate: float, burst: int, excess_burst: int, name: str | None = None) -> None:
        self._make(count, name, (rate, rate), (burst, excess_burst))
        records = self._records()
        records[:, 6] += records[:, 7]  # one rate fills both, one after the other


class TwoRateMeters(Meters):
    """RFC 2698: red above the peak rate, yellow above the committed rate, else green.

    Args:
        count: meters, rounded up to a power of two.
        rate: CIR, bytes a second.
        burst: CBS, bytes.
        peak_rate: PIR, bytes a second, not below ``rate``.
        peak_burst: PBS, bytes.
        name: under which other processes can attach them.

    Raises:
        TableError: out of range, or the peak is below the committed rate.
    """

    View: ClassVar[type[MetersView]] = TwoRateView
    KIND = "trtcm"
    _many = staticmethod(_two_many)

    def __init__(
        self, count: int, rate: float, burst: int, peak_rate: float, peak_burst: int, name: str | None = None
    ) -> None:
        if peak_rate < rate:
            raise TableError(f"{name or self.KIND}: a peak rate of {peak_rate:g} is below the committed {rate:g}")
        self._make(count, name, (rate, peak_rate), (burst, peak_burst))


class DifferentiatedMeters(Meters):
    """RFC 4115: green within the committed rate, yellow within the excess rate on top of it, else red.

    Args:
        count: meters, rounded up to a power of two.
        rate: CIR, bytes a second.
        burst: CBS, bytes.
        excess_rate: EIR, bytes a second.
        excess_burst: EBS, bytes.
        name: under which other processes can attach them.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[MetersView]] = DifferentiatedView
    KIND = "rfc4115"
    _many = staticmethod(_differentiated_many)

    def __init__(
        self, count: int, rate: float, burst: int, excess_rate: float, excess_burst: int, name: str | None = None
    ) -> None:
        self._make(count, name, (rate, excess_rate), (burst, excess_burst))
