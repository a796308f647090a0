"""LoadResult: what one load found, and percentiles of all that was sent, lost requests among them."""

import math
from dataclasses import dataclass
from typing import Any

from wirespeed.tables.hdr import PERCENTILES, Distribution

SHORT: float = 0.01
"""A load that offered this share less than it was asked has fallen short."""


@dataclass(frozen=True)
class LoadResult:
    """What one load found.

    Attributes:
        rate: requests a second asked for.
        offered: requests a second that left.
        seconds: from the first to the last.
        sent: requests that left.
        answered: of them, those with an answer, each once.
        late: of these, answers after the time that was to be waited.
        duplicates, strangers, earlier, short, parts: other datagrams of the server's: answers again, with numbers that
            were not sent, to requests of a load before, without any number, and those before the last of an answer in
            several.
        kinds: answers by what they say.
        errors: answers that say that something is wrong.
        refused: requests that the port had no room for.
        behind_ns: the most that a request left late; its latency contains it.
        timeout_ns: how long answers were waited for after the last request.
        latency: of what was answered: nanoseconds from when a request was due to when its answer was seen.
    """

    rate: float
    offered: float
    seconds: float
    sent: int
    answered: int
    late: int
    duplicates: int
    strangers: int
    earlier: int
    short: int
    parts: int
    kinds: dict[str, int]
    errors: int
    refused: int
    behind_ns: int
    timeout_ns: int
    latency: Distribution

    @property
    def lost(self) -> int:
        """Requests without an answer."""
        return max(self.sent - self.answered, 0)

    @property
    def loss(self) -> float:
        """Their share, 0 to 1."""
        return self.lost / self.sent if self.sent else 0.0

    @property
    def fell_short(self) -> bool:
        """Whether less was offered than was asked for: it says nothing of the server at that rate."""
        return self.offered < self.rate * (1 - SHORT) or self.refused > self.sent * SHORT

    def percentile(self, percent: float) -> int | None:
        """The smallest latency, in nanoseconds, that ``percent`` of all requests sent do not exceed.

        A lost request is later than any that was answered; None: this percentile is one of those, or nothing was sent.

        Raises:
            TableError: not 0 to 100.
        """
        answered = self.latency.count
        sent = max(self.sent, answered)
        rank = min(max(1, math.ceil(percent * sent / 100 - 1e-9 * sent)), sent)
        if rank > answered and 0 <= percent <= 100:
            return None
        return self.latency.percentile(percent if sent == answered else 100 * rank / answered)

    def percentiles(self, percents: tuple[float, ...] = PERCENTILES) -> dict[str, int | None]:
        """:meth:`percentile` of each, by name (``p99.9``)."""
        return {f"p{percent:g}": self.percentile(percent) for percent in percents}

    def to_dict(self) -> dict[str, Any]:
        """For JSON; latencies in nanoseconds: of what was answered, and of all that was sent (null: lost)."""
        names = (
            "rate", "offered", "seconds", "sent", "answered", "lost", "loss", "late", "duplicates", "strangers",
            "earlier", "short", "parts", "kinds", "errors", "refused", "behind_ns", "timeout_ns", "fell_short",
        )  # fmt: skip
        return {
            **{name: getattr(self, name) for name in names},
            "latency_ns": self.latency.to_dict(),
            "latency_of_sent_ns": self.percentiles(),
        }


__all__ = ["LoadResult"]
