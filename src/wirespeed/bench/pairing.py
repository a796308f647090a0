"""Ours and the peer in turns: A B A B, and the ratio of each pair.

On machines like ours the core's clock moves by 30 % within an hour, in both directions, for both sides.
Two figures taken one after the other share the clock; their ratio does not move with it. So: turns,
medians of both, and the median of the **pair-by-pair** ratios. A pair during which the machine was
disturbed (:mod:`wirespeed.bench.disturbance`) is void and run again; how often that may happen is bounded,
and pairs kept in spite of it are counted, logged, and to be said beside the figure.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from wirespeed.bench.disturbance import Bounds, Reading, observer
from wirespeed.bench.result import ratio

log = logging.getLogger("wirespeed.bench")

Progress = Callable[[int, int, str], None]
"""Called with (pairs done, pairs wanted, what is happening now)."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One turn of each; `disturbance` says why the pair would have been void, had a repeat been left."""

    value: float
    peer_value: float | None
    disturbance: str | None = None


@dataclass(frozen=True, slots=True)
class Paired:
    """What an interleaved run found: medians, the median ratio, and every pair it rests on."""

    value: float
    peer_value: float | None
    ratio: float | None
    samples: tuple[Pair, ...] = field(repr=False)
    voided: int = 0

    @property
    def disturbed(self) -> int:
        """Pairs that were kept although they were disturbed, since the repeats were used up."""
        return sum(pair.disturbance is not None for pair in self.samples)

    @property
    def note(self) -> str:
        """One sentence for the report."""
        text = f"median of {len(self.samples)} {'runs' if self.ratio is None else 'pairs'}"
        if self.voided:
            text += f", {self.voided} void and repeated"
        if self.disturbed:
            text += f", {self.disturbed} kept although the machine was disturbed"
        return text


def summarise(samples: list[Pair], *, lower_is_better: bool = False, voided: int = 0) -> Paired:
    """Medians of both sides, and the median of the ratios pair by pair (above 1: ours is ahead)."""
    value = median(pair.value for pair in samples)
    peers = [pair.peer_value for pair in samples if pair.peer_value is not None]
    if len(peers) != len(samples):
        return Paired(value, None, None, tuple(samples), voided)
    ratios = [ratio(p.value, v, lower_is_better=lower_is_better) for p, v in zip(samples, peers, strict=True)]
    return Paired(value, median(peers), median(ratios), tuple(samples), voided)


def interleave(
    ours: Callable[[], float],
    theirs: Callable[[], float] | None = None,
    pairs: int = 5,
    warmup: int = 1,
    progress: Progress | None = None,
    *,
    lower_is_better: bool = False,
    bounds: Bounds | None = None,
    repeats: int = 2,
    observe: Callable[[], Reading] | None = None,
) -> Paired:
    """Run `ours` and `theirs` in turns and compare them pair by pair.

    Arguments:
        ours, theirs: one turn each; return the figure (in one unit). Without `theirs` only ours is measured.
        pairs: how many undisturbed pairs are wanted; at least five for a figure that is published.
        warmup: pairs run first and forgotten.
        progress: called before every turn.
        lower_is_better: the figures are times or costs, see :func:`wirespeed.bench.result.lower_is_better`.
        bounds: what disturbance makes a pair void.
        repeats: how often each pair may be void and run again; then it is kept, and counted as disturbed.
        observe: reads the disturbance so far; ``observer(pids=[peer.pid])`` watches a peer that stays up.
    """
    bounds = bounds or Bounds()
    observe = observe or observer()
    left, voided = repeats, 0
    samples: list[Pair] = []

    def turn(what: str) -> Pair:
        if progress:
            progress(len(samples), pairs, f"{what}: wirespeed")
        value = ours()
        if theirs is None:
            return Pair(value, None)
        if progress:
            progress(len(samples), pairs, f"{what}: peer")
        return Pair(value, theirs())

    for _ in range(warmup):
        turn("warm-up")
    while len(samples) < pairs:
        before = observe()
        pair = turn(f"pair {len(samples) + 1}")
        violation = bounds.violation(observe() - before)
        if violation and left > 0:
            left -= 1
            voided += 1
            log.warning("pair %d is void and runs again: %s", len(samples) + 1, violation)
            continue
        if violation:
            log.warning("pair %d is kept although disturbed, no repeats left: %s", len(samples) + 1, violation)
        samples.append(Pair(pair.value, pair.peer_value, violation))
        left = repeats
    if progress:
        progress(pairs, pairs, "done")
    return summarise(samples, lower_is_better=lower_is_better, voided=voided)
