"""What a meter says of a stream: figures of one moment, for people and for JSON."""

from dataclasses import dataclass, field
from typing import Any

from wirespeed.tables.hdr import Distribution


@dataclass(frozen=True)
class StreamReading:
    """One stream, up to now.

    Attributes:
        stream: its number.
        received: packets, duplicates included.
        bytes: theirs, without FCS.
        lost: numbers that did not come, between the first and the highest that did. What was lost at either end only
            the sender knows: subtract :attr:`unique` from what it sent.
        duplicates: packets whose number had come.
        reordered: packets that came after one with a higher number (RFC 4737).
        late: of these, packets so late that they may be duplicates.
        gaps: times that numbers were missing at first.
        farthest: the most that a packet came late by, in numbers.
        early: packets stamped after they arrived: the clocks of the two cores disagree.
        restarts: times that the sender began anew.
        jitter_ns: smoothed difference of one packet's latency from the next one's (RFC 3550).
        seconds: from the first packet to the last.
        latency: nanoseconds from the sender's burst to the meter's.
    """

    stream: int
    received: int = 0
    bytes: int = 0
    lost: int = 0
    duplicates: int = 0
    reordered: int = 0
    late: int = 0
    gaps: int = 0
    farthest: int = 0
    early: int = 0
    restarts: int = 0
    jitter_ns: float = 0.0
    seconds: float = 0.0
    latency: Distribution | None = field(default=None, repr=False)

    @property
    def unique(self) -> int:
        """Packets without the duplicates."""
        return self.received - self.duplicates

    @property
    def rate(self) -> float:
        """Packets a second, from the first to the last; 0 of less than two."""
        return (self.received - 1) / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        """For JSON; latencies in nanoseconds."""
        names = (
            "stream", "received", "bytes", "lost", "duplicates", "reordered", "late", "gaps", "farthest", "early",
            "restarts", "jitter_ns", "seconds", "rate",
        )  # fmt: skip
        latency = self.latency.to_dict() if self.latency else None
        return {**{name: getattr(self, name) for name in names}, "latency_ns": latency}

    def __str__(self) -> str:
        said = [f"{self.received:,} received", f"{self.lost:,} lost"]
        said += [
            f"{getattr(self, name):,} {name}"
            for name in ("duplicates", "reordered", "late", "early", "restarts")
            if getattr(self, name)
        ]
        if self.latency and self.latency.count:
            p50, p99, p999 = self.latency.percentiles([50, 99, 99.9])
            said.append(f"latency p50 {p50:,} p99 {p99:,} p99.9 {p999:,} max {self.latency.largest:,} ns")
            said.append(f"jitter {self.jitter_ns:,.0f} ns")
        return f"stream {self.stream}: {', '.join(said)}"
