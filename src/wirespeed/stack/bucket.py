"""A token bucket: so many a second on average, so many at once."""

from dataclasses import dataclass, field


@dataclass(slots=True)
class Bucket:
    """Allows ``per_second`` on average and ``burst`` at once; it starts full.

    Attributes:
        refused: how often it said no.
    """

    per_second: float
    burst: int
    refused: int = 0
    _tokens: float = field(init=False)
    _at_s: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._tokens = float(self.burst)

    def take(self, now_s: float) -> bool:
        """Whether one more may pass now."""
        since = 0.0 if self._at_s is None else max(now_s - self._at_s, 0.0)
        self._at_s = now_s
        self._tokens = min(self._tokens + since * self.per_second, float(self.burst))
        if self._tokens < 1:
            self.refused += 1
            return False
        self._tokens -= 1
        return True
