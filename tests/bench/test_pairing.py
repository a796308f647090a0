"""Turns alternate, disturbed pairs run again a bounded number of times, and readings become violations."""

import os
from collections.abc import Callable, Iterator

from wirespeed.bench.disturbance import Bounds, Reading, observer
from wirespeed.bench.pairing import interleave

QUIET = Reading(1.0, 0.0, 0)
NOISY = Reading(1.0, 0.5, 0)


def readings(*during: Reading) -> Callable[[], Reading]:
    """An observer whose runs show `during`, one after the other, then quiet ones for ever."""

    def totals() -> Iterator[Reading]:
        seconds, steal, switches = 0.0, 0.0, 0
        for run in (*during, *[QUIET] * 1000):
            yield Reading(seconds, steal, switches)
            seconds, steal, switches = seconds + run.seconds, steal + run.steal_s, switches + run.switches
            yield Reading(seconds, steal, switches)

    return totals().__next__


def test_turns_alternate_after_the_warm_up() -> None:
    turns: list[str] = []

    def side(name: str) -> Callable[[], float]:
        return lambda: turns.append(name) or 1.0  # type: ignore[func-returns-value]

    paired = interleave(side("a"), side("b"), pairs=2, warmup=1, observe=readings())
    assert "".join(turns) == "ababab"
    assert len(paired.samples) == 2 and paired.ratio == 1.0


def test_the_warm_up_does_not_count() -> None:
    values = iter([1000.0, 2.0, 2.0, 2.0])
    assert interleave(lambda: next(values), pairs=3, observe=readings()).value == 2.0


def test_a_disturbed_pair_is_void_and_runs_again() -> None:
    ours = iter([99.0, 4.0, 4.0])
    paired = interleave(lambda: next(ours), lambda: 2.0, pairs=2, warmup=0, observe=readings(NOISY, QUIET, QUIET))
    assert (paired.value, paired.ratio, paired.voided, paired.disturbed) == (4.0, 2.0, 1, 0)
    assert paired.note == "median of 2 pairs, 1 void and repeated"


def test_repeats_are_bounded_for_each_pair_and_what_is_kept_is_said() -> None:
    calls: list[int] = []
    paired = interleave(
        lambda: float(len(calls) + (calls.append(1) or 1)),  # type: ignore[func-returns-value]
        pairs=2,
        warmup=0,
        repeats=2,
        observe=readings(NOISY, NOISY, NOISY, NOISY, QUIET),
    )
    assert len(calls) == 5
    assert (paired.voided, paired.disturbed) == (3, 1)
    assert [pair.value for pair in paired.samples] == [3.0, 5.0]
    assert "1 kept although the machine was disturbed" in paired.note


def test_progress_is_told_before_every_turn() -> None:
    told: list[tuple[int, int, str]] = []
    interleave(lambda: 1.0, lambda: 1.0, 1, 1, lambda *what: told.append(what), observe=readings())
    assert told == [
        (0, 1, "warm-up: wirespeed"),
        (0, 1, "warm-up: peer"),
        (0, 1, "pair 1: wirespeed"),
        (0, 1, "pair 1: peer"),
        (1, 1, "done"),
    ]


def test_bounds() -> None:
    bounds = Bounds(steal_share=0.01, switches_per_s=50, spare_switches=20)
    assert bounds.violation(QUIET) is None
    assert bounds.violation(Reading(2.0, 0.02, 119)) is None
    assert bounds.violation(Reading(2.0, 0.03, 0)) == "0.03 s stolen in 2.00 s"
    assert bounds.violation(Reading(2.0, 0.0, 121)) == "121 involuntary context switches in 2.00 s"


def test_the_observer_reads_this_machine_and_forgives_ended_children() -> None:
    read = observer([os.getpid(), 2**22 + 1])
    first = read()
    second = read()
    assert second.seconds >= first.seconds and second.steal_s >= 0 and second.switches >= first.switches
