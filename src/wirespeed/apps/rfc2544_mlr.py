"""The throughput by MLRsearch, where its package is installed: ``pip install MLRsearch``.

It halves in logarithms, begins with short trials, and forgives: of the trials at a rate, half of the time may have had
loss (``exceed_ratio``) and the rate still counts as one without. On a machine that is not quiet that finds the same
rate twice where RFC 2544's own search finds the worst moment. What it calls a conditional throughput is not RFC 2544's.

Reference: draft-ietf-bmwg-mlrsearch; the package is FD.io CSIT's.
"""

from typing import Any

from wirespeed.apps.measure import Trial
from wirespeed.apps.rfc2544 import Run, Settings, Tell, Throughput
from wirespeed.errors import ConfigError

_SLOWEST = 10.0  # packets a second, to begin above
_LONGEST_S = 3600.0


def find_throughput(run: Run, settings: Settings, tell: Tell = lambda text: None) -> Throughput:
    """:func:`wirespeed.apps.rfc2544.find_throughput` by MLRsearch.

    Trials take ``seconds``, and a rate is judged by ``confirm`` seconds of them.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        import MLRsearch as mlr
    except ImportError:
        raise ConfigError("--search mlr needs the package MLRsearch: pip install MLRsearch") from None
    trials: list[Trial] = []

    class Measurer(mlr.AbstractMeasurer):  # type: ignore[misc]
        """Our trials in its terms."""

        def measure(self, intended_duration: float, intended_load: float) -> Any:
            """One trial."""
            trial = run(rate=intended_load, seconds=intended_duration)
            trials.append(trial)
            tell(f"{trial.offered:,.0f} packets/s: {trial.loss:.3%} lost")
            return mlr.MeasurementResult(
                intended_duration=intended_duration,
                intended_load=intended_load,
                offered_count=trial.sent,
                loss_count=trial.lost,
                offered_duration=trial.seconds,
                intended_count=max(trial.sent, round(intended_load * intended_duration)),
            )

    top = settings.top
    if not top:
        trials.append(run(seconds=settings.seconds))
        top = trials[0].offered
    if top <= _SLOWEST:
        return Throughput(0.0, 0.0, False, False, tuple(trials))
    goal = mlr.SearchGoal(
        loss_ratio=settings.tolerance,
        exceed_ratio=0.5,
        relative_width=settings.resolution,
        initial_trial_duration=settings.seconds,
        final_trial_duration=settings.seconds,
        duration_sum=max(settings.confirm, settings.seconds),
        fail_fast=False,
    )
    config = mlr.Config()
    config.goals = (goal,)
    config.min_load, config.max_load = _SLOWEST, top
    config.search_duration_max, config.warmup_duration = _LONGEST_S, 0.0
    found = mlr.MultipleLossRatioSearch(config=config).search(measurer=Measurer())[goal]
    if found.relevant_lower_bound is None:
        return Throughput(0.0, 0.0, False, False, tuple(trials))
    rate = float(found.conditional_throughput)
    limited = found.relevant_upper_bound is None
    return Throughput(rate, trials[-1].bits(rate), limited, True, tuple(trials))
