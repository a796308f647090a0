"""Token buckets: limit how much passes, by customer, flow or port.

::

    limits = ws.TokenBuckets(1024, rate=1_000_000, burst=64_000)     # bytes a second, bytes
    ...
    if not limits.take(customer, pkt.length, now_ns):                # in a node
        return "over-limit"

A record is one cache line::

    0   tokens    scaled (wirespeed.traffic.tokens)
    8   capacity  scaled
    16  rate      scaled, a nanosecond
    24  fill_ns   how long an empty bucket takes
    32  last_ns   when tokens were counted last
    40  passed    amounts that were granted, in all
    48  refused   amounts that were refused

O(1) and 64 bytes a bucket. A bucket belongs to one worker at a time, which flow-affine spreading gives for nothing; two
that use one at once may grant one amount twice. A new rate or burst is taken by the worker at its next packet.
"""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.jit import View, kernel, le64
from wirespeed.mem.shared import Shared
from wirespeed.traffic.tokens import filled, scale, shift_for

_HEAD = 64
MAX_BUCKETS: int = 1 << 24


class BucketView(View):
    """One bucket."""

    tokens = le64(0)
    capacity = le64(8)
    rate = le64(16)
    fill_ns = le64(24)
    last_ns = le64(32)
    passed = le64(40, "what was granted")
    refused = le64(48, "what was refused")
    SIZE = 64


class TokenBucketsView(View):
    """The buckets as nodes see them. An index outside them wraps: it charges another one, never other memory."""

    mask = le64(0, "buckets - 1")
    shift = le64(8, "tokens are scaled by 2 to this")
    SIZE = _HEAD

    def take(self, index: int, amount: int, now_ns: int) -> int:
        """1 if bucket ``index`` holds ``amount`` now, which is then gone; else 0. ``now_ns``: any steady clock."""
        bucket = BucketView(self.address + _HEAD + (index & self.mask) * 64)
        tokens = filled(bucket.tokens, bucket.capacity, bucket.rate, bucket.fill_ns, now_ns - bucket.last_ns)
        if now_ns > bucket.last_ns:
            bucket.last_ns = now_ns
        granted = 1 if amount >= 0 and amount <= tokens >> self.shift else 0  # shifted down: no amount overflows
        bucket.tokens = tokens - ((amount * granted) << self.shift)
        bucket.passed += amount * granted
        bucket.refused += amount * (1 - granted)
        return granted


@kernel
def _take_many(address, indices, amounts, times, granted):  # type: ignore[no-untyped-def]
    buckets = TokenBucketsView(address)
    for i in range(len(indices)):
        granted[i] = buckets.take(int(indices[i]), int(amounts[i]), int(times[i]))


@dataclass(frozen=True)
class TokenBucketsStats:
    """Of all buckets: what was granted and refused, in the unit of the rate."""

    buckets: int
    passed: int
    refused: int
    memory_bytes: int
    pages: str


class TokenBuckets(Shared):
    """``count`` buckets that fill at ``rate`` a second up to ``burst``; they start full.

    Args:
        count: rounded up to a power of two, so that any index is safe.
        rate: tokens a second, of each; a token is whatever :meth:`take` is given: bytes, packets.
        burst: the most that passes at once.
        largest_burst: the most that :meth:`set` may give later; ``burst`` if not said.
        name: under which other processes can attach them.

    Raises:
        TableError: out of range.
    """

    View: ClassVar[type[TokenBucketsView]] = TokenBucketsView
    KIND = "token-buckets"

    def __init__(
        self, count: int, rate: float, burst: int, *, largest_burst: int | None = None, name: str | None = None
    ) -> None:
        if not 1 <= count <= MAX_BUCKETS:
            raise TableError(f"{name or self.KIND}: {count} buckets are not possible: use 1 to {MAX_BUCKETS}")
        size = 1 << (count - 1).bit_length()
        shift = shift_for(burst, largest_burst or burst)
        scaled = scale(name or self.KIND, rate, burst, shift)
        self._create(_HEAD + size * 64, name)
        self._attached()
        self._view.mask, self._view.shift = size - 1, shift
        records = self._records()
        records[:, 0] = records[:, 1] = scaled.capacity
        records[:, 2], records[:, 3] = scaled.rate, scaled.fill_ns
        records[:, 4] = -(1 << 62)  # before any clock

    def _attached(self) -> None:
        self._view = TokenBucketsView(self.address)

    def __len__(self) -> int:
        return int(self._view.mask) + 1

    def set(self, index: int, rate: float, burst: int) -> None:
        """Give one bucket another rate and burst, live. Raises TableError, and changes nothing then."""
        self._check_writable()
        if not 0 <= index < len(self):
            raise TableError(f"{self.name}: bucket {index} is out of range: 0 to {len(self) - 1}")
        scaled = scale(self.name, rate, burst, self._view.shift)
        if burst.bit_length() + self._view.shift > 61:
            raise TableError(f"{self.name}: a burst of {burst} is more than it was made for: give it as largest_burst")
        bucket = BucketView(self.address + _HEAD + index * 64)
        bucket.fill_ns = min(bucket.fill_ns, scaled.fill_ns)  # first: neither rate earns too much for 64 bits
        bucket.rate, bucket.capacity = scaled.rate, scaled.capacity
        bucket.fill_ns = scaled.fill_ns

    def take(self, index: int, amount: int, now_ns: int) -> int:
        """See :meth:`TokenBucketsView.take`."""
        self._check_writable()
        return int(self._view.take(index, amount, now_ns))

    def take_many(self, indices: Any, amounts: Any, times_ns: Any) -> NDArray[np.int64]:
        """1 or 0 for each of three arrays of one length, in order."""
        self._check_writable()
        asked = [np.ascontiguousarray(each, dtype=np.int64) for each in np.broadcast_arrays(indices, amounts, times_ns)]
        granted = np.empty(asked[0].size, dtype=np.int64)
        _take_many(self.address, asked[0].ravel(), asked[1].ravel(), asked[2].ravel(), granted)
        return granted.reshape(asked[0].shape)

    def level(self, index: int) -> float:
        """Tokens of a bucket when it was asked last."""
        if not 0 <= index < len(self):
            raise TableError(f"{self.name}: bucket {index} is out of range: 0 to {len(self) - 1}")
        return float(BucketView(self.address + _HEAD + index * 64).tokens / (1 << self._view.shift))

    def stats(self) -> TokenBucketsStats:
        """What they granted and refused, all together."""
        records = self._records()
        passed, refused = int(records[:, 5].sum()), int(records[:, 6].sum())
        return TokenBucketsStats(len(self), passed, refused, self.memory_bytes, self.pages)

    def _records(self) -> NDArray[np.int64]:
        return self._words(np.int64, _HEAD, len(self) * 8).reshape(-1, 8)

    def __repr__(self) -> str:
        return f"<TokenBuckets {self.name}: {len(self)} buckets>"
