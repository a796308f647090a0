"""The tests of RFC 2544: throughput, latency, loss, back-to-back frames, for one frame size after the other.

=============  ==================================================================================================
throughput     section 26.1: the fastest rate at which nothing is lost: between a rate that passed and one that did
               not, by halving, or where what came through at a rate with loss suggests; down to a resolution. Then a
               longer trial confirms it, or the search goes on below with trials as long
latency        section 26.2: at that rate. Every frame has a stamp, not one a trial: a distribution, not a mean
loss           section 26.3: from the highest rate down in tenths, until two trials in a row lose nothing
back_to_back   section 26.4: the longest burst at the line's rate of which nothing is lost; where the line says none, or
               one that is beyond the tester, at the fastest that the tester sends, which the result says
=============  ==================================================================================================

What differs from the letter: trials are seconds long (the RFC wants 60), repeats are few, and the tester is software:
it is on time within its polling, its times contain its own ports, and where it can offer less than the device takes,
the throughput found is its own; the result says so (``tester_limited``). A trial is judged by what was offered.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf
from typing import Any

from wirespeed.apps.measure import SHORT, Trial
from wirespeed.ports.generator.plan import WIRE

SIZES: tuple[int, ...] = (64, 128, 256, 512, 1024, 1280, 1518)
"""Frame sizes of Ethernet, RFC 2544 section 9.1, FCS included."""

TESTS: tuple[str, ...] = ("throughput", "latency", "loss", "back_to_back")

_RETRIES = 3  # of a trial in which the tester fell short
_TRIALS = 60  # of a search: halving never needs so many
_SLOWEST = 2.0  # packets a second: a device that loses some of these passes nothing
_NEAR = 0.9  # of the resolution: where a rate that passed is tried next, to be done if it fails there
_TELLING = 1024  # frames of a burst: the clock sees when the first and the last of shorter ones left, or neither
_SETTLED = 2  # trials in a row without loss that end a loss curve

Run = Callable[..., Trial]
"""``run(rate=0.0, seconds=0.0, count=0)``: one trial."""

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Settings:
    """How the tests are run.

    Attributes:
        seconds: of a trial while searching.
        confirm: of the trial that confirms a throughput, and measures latency; 0: none.
        resolution: how near the search comes: the share of a rate with loss that lies between it and one without.
        tolerance: the share of frames that may be lost; the RFC says none.
        top: packets a second to begin with; 0: what the tester can do.
        bursts: how often the back-to-back search is repeated; the mean is reported.
        line_bits: bits a second of the line that is sent to, for back-to-back frames; 0: it says none.
        tests: which of :data:`TESTS`.
    """

    seconds: float = 2.0
    confirm: float = 10.0
    resolution: float = 0.005
    tolerance: float = 0.0
    top: float = 0.0
    bursts: int = 3
    line_bits: float = 0.0
    tests: tuple[str, ...] = TESTS

    def line(self, size: int) -> float:
        """Frames a second of a size that the line takes, preamble and gap between them; 0: it says none."""
        return self.line_bits / ((size + WIRE) * 8)


@dataclass(frozen=True)
class Throughput:
    """What a search for the throughput found.

    Attributes:
        rate: packets a second offered without loss; 0 if there was loss at any rate.
        bits: the same in bits a second on a wire.
        tester_limited: the tester could offer no more: the device may do better.
        confirmed: a longer trial at that rate lost nothing either.
        trials: all of them, in order.
    """

    rate: float
    bits: float
    tester_limited: bool
    confirmed: bool
    trials: tuple[Trial, ...] = field(repr=False)


@dataclass(frozen=True)
class BackToBack:
    """The longest burst of which nothing was lost.

    Attributes:
        frames: its length, on average over repeats.
        rate: packets a second at which the longest one left; 0 if it was too short to tell.
        line: packets a second of the line; 0 if it says none.
        tester_limited: no burst was too long that the tester can send: the device may forward for ever.
    """

    frames: float
    rate: float = 0.0
    line: float = 0.0
    tester_limited: bool = False

    @property
    def fell_short(self) -> bool:
        """Whether frames left slower than the line takes them: the device had time between them."""
        return 0 < self.rate < self.line * (1 - SHORT)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "frames": self.frames, "packets_per_second": self.rate, "line_packets_per_second": self.line,
            "fell_short": self.fell_short, "tester_limited": self.tester_limited,
        }  # fmt: skip


@dataclass(frozen=True)
class SizeResult:
    """All that was found for one frame size. What was not asked for is None."""

    size: int
    throughput: Throughput | None = None
    latency: Trial | None = None
    loss: tuple[Trial, ...] | None = None
    back_to_back: BackToBack | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        found: dict[str, Any] = {"size": self.size}
        if self.throughput:
            found["throughput"] = {
                "packets_per_second": self.throughput.rate, "bits_per_second": self.throughput.bits,
                "tester_limited": self.throughput.tester_limited, "confirmed": self.throughput.confirmed,
                "trials": [trial.to_dict() for trial in self.throughput.trials],
            }  # fmt: skip
        if self.latency:
            found["latency"] = self.latency.to_dict()
        if self.loss is not None:
            found["loss"] = [trial.to_dict() for trial in self.loss]
        if self.back_to_back is not None:
            found["back_to_back"] = self.back_to_back.to_dict()
        return found


def passed(trial: Trial, tolerance: float) -> bool:
    """Whether a trial lost no more than it may; one in which nothing was sent shows nothing."""
    return trial.sent > 0 and trial.loss <= tolerance


def attempt(run: Run, rate: float, seconds: float, least: float) -> Trial:
    """A trial, again if the tester fell short and offered no more than ``least``, a few times; the best of them."""
    best: Trial | None = None
    for _ in range(_RETRIES):
        trial = run(rate=rate, seconds=seconds)
        if best is None or trial.offered > best.offered:
            best = trial
        if not trial.fell_short or trial.offered > least:
            break
    assert best is not None
    return best


def find_throughput(run: Run, settings: Settings, tell: Tell = lambda text: None) -> Throughput:
    """Search for the highest rate without loss.

    Args:
        run: makes a trial.
        settings: how near, how long.
        tell: told before each trial.
    """
    trials: list[Trial] = []

    def tried(rate: float, seconds: float, least: float) -> Trial:
        trial = attempt(run, rate, seconds, least)
        trials.append(trial)
        tell(f"{trial.offered:,.0f} packets/s: {'nothing lost' if not trial.lost else f'{trial.loss:.3%} lost'}")
        return trial

    first = tried(settings.top, settings.seconds, 0.0)
    good, bad = (first, inf) if passed(first, settings.tolerance) else (None, first.offered)
    hint = first.received_rate
    step = _NEAR * settings.resolution
    seconds, stuck = settings.seconds, False
    while len(trials) < _TRIALS and bad > _SLOWEST:
        low = good.offered if good else 0.0
        if bad == inf or stuck or bad - low <= settings.resolution * bad:
            if good is None or not settings.confirm or seconds == settings.confirm:
                break
            again = tried(low, settings.confirm, low * (1 - 2 * settings.resolution))
            if passed(again, settings.tolerance):
                return _found(again, True, bad == inf or stuck, trials)
            # Shorter trials do not show what it loses: from here on all are as long as this one.
            good, bad, hint, seconds, stuck = None, low, again.received_rate, settings.confirm, False
            continue
        rate = hint if low < hint < bad else (low + bad) / 2
        hint = 0.0
        trial = tried(rate, seconds, low)
        if not passed(trial, settings.tolerance):
            bad = min(bad, max(trial.offered, low))
        elif trial.offered > low:
            good, hint, step = trial, trial.offered * (1 + step), 2 * step
        else:
            stuck = True
    return _found(good, good is not None and seconds == settings.confirm, bad == inf or stuck, trials)


def _found(trial: Trial | None, confirmed: bool, limited: bool, trials: list[Trial]) -> Throughput:
    if trial is None:
        return Throughput(0.0, 0.0, False, False, tuple(trials))
    return Throughput(trial.offered, trial.bits(trial.offered), limited, confirmed, tuple(trials))


def find_loss(run: Run, top: float, settings: Settings, tell: Tell = lambda text: None) -> list[Trial]:
    """The loss at 100 %, 90 %, 80 % ... 10 % of a rate, then at halves of it, until two in a row lose nothing."""
    trials: list[Trial] = []
    clean = 0
    shares = [tenths / 10 for tenths in range(10, 0, -1)] + [0.1 / 2**n for n in range(1, 8)]
    for share in shares:
        trial = attempt(run, top * share, settings.seconds, 0.0)
        trials.append(trial)
        tell(f"{share:.1%}: {trial.loss:.3%} lost")
        clean = clean + 1 if trial.lost == 0 else 0
        if clean == _SETTLED:
            break
    return trials


def find_back_to_back(run: Run, settings: Settings, line: float = 0.0, tell: Tell = lambda text: None) -> BackToBack:
    """Search for the longest burst of which nothing is lost.

    Args:
        run: makes a trial.
        settings: how often; a burst is at most as long as a trial.
        line: packets a second of the line; 0: as fast as the tester can.
        tell: told after each trial.
    """
    found: list[int] = []
    limited = False
    longest: Trial | None = None
    for turn in range(settings.bursts):
        good, bad, count = 0, 0, 16
        while not bad or bad - good > max(1, good // 20):
            trial = run(rate=line, count=count, seconds=settings.seconds)
            if trial.lost == 0 and trial.sent:
                good = trial.sent
                if longest is None or good >= longest.sent:
                    longest = trial
                if trial.sent < count or trial.seconds >= settings.seconds / 2:
                    limited = True  # the burst is as long as a trial: it could go on for ever
                    break
            else:
                bad = count
            tell(f"burst {turn + 1} of {settings.bursts}: {count:,} frames: {trial.lost:,} lost")
            count = (good + bad) // 2 if bad else count * 2
            if count == 0:
                break
        found.append(good)
    rate = longest.offered if longest is not None and longest.sent >= _TELLING else 0.0
    return BackToBack(sum(found) / max(1, len(found)), rate, line, limited)


def measure_size(
    run: Run,
    size: int,
    settings: Settings,
    tell: Tell = lambda text: None,
    search: Callable[[Run, Settings, Tell], Throughput] = find_throughput,
) -> SizeResult:
    """All tests that are asked for, at one frame size.

    Args:
        run: makes a trial with frames of that size.
        size: for the result.
        search: for the throughput.
    """
    named = {test: (lambda text, test=test: tell(f"{size} B, {test}: {text}")) for test in TESTS}
    throughput = latency = loss = burst = None
    top = settings.top
    if "throughput" in settings.tests or "latency" in settings.tests:
        throughput = search(run, settings, named["throughput"])
        top = top or max(trial.offered for trial in throughput.trials)
    if "latency" in settings.tests and throughput is not None and throughput.rate:
        last = throughput.trials[-1]
        latency = last if last.offered == throughput.rate else run(rate=throughput.rate, seconds=settings.seconds)
    if "loss" in settings.tests:
        top = top or run(seconds=settings.seconds).offered
        loss = tuple(find_loss(run, top, settings, named["loss"]))
    if "back_to_back" in settings.tests:
        burst = find_back_to_back(run, settings, settings.line(size), named["back_to_back"])
    return SizeResult(size, throughput, latency, loss, burst)
