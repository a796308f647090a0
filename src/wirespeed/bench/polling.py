"""What do the kernel's own settings for polled interfaces gain on a veth? ``wirespeed bench polling``

An echo over AF_XDP by a worker that never sleeps, and by a kernel socket that is polled without end, each as it is and
with what the kernel offers beside:

==========================  ===========================================================================================
``busy_poll=50``            the worker has the driver look for frames, instead of a softirq (SO_PREFER_BUSY_POLL)
``gro_flush_timeout``,      and interrupts are put off, so that the worker finds the frames, not the softirq (the way of
``napi_defer_hard_irqs``    the kernel's Documentation/networking/napi.rst)
``threaded``                the driver's polling in a kernel thread instead of a softirq
==========================  ===========================================================================================

Requests come by schedule, as in ``wirespeed bench serve``. A ratio above 1: it is better as it is.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from statistics import median

from wirespeed.bench.result import Row, ratio
from wirespeed.bench.serve_late import SHARES, effort
from wirespeed.bench.serve_latency import latencies
from wirespeed.bench.serve_veth import Scene
from wirespeed.bench.settings import Settings
from wirespeed.bench.veths import Veths

_RATE = 25_000.0
_DEFERRED = {"gro_flush_timeout": 200_000, "napi_defer_hard_irqs": 100}  # nanoseconds; polls that may find nothing
_WAYS: dict[str, dict[str, tuple[str, dict[str, int]]]] = {
    "af_xdp": {
        "as it is": ("awake", {}),
        "busy_poll=50": ("fetching", {}),
        "busy_poll=50 and deferred interrupts": ("fetching", _DEFERRED),
        "the driver in a thread": ("awake", {"threaded": 1}),
    },
    "a polled kernel socket": {
        "as it is": ("busy", {}),
        "deferred interrupts": ("busy", _DEFERRED),
    },
}
"""Who echoes, and each setting: a kind of :mod:`wirespeed.bench.serve_peers`, and values of the interface."""


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    turns: dict[str, dict[str, list[list[float]]]] = {who: {how: [] for how in ways} for who, ways in _WAYS.items()}
    with Veths() as veths:
        scene = Scene(veths)
        for number in range(settings.pairs):
            tell(f"on a veth: round {number + 1} of {settings.pairs}")
            for who, ways in turns.items():
                for how, found in ways.items():
                    found.append(_turn(scene, *_WAYS[who][how], settings))
    return [row for who, ways in turns.items() for place in range(len(SHARES)) for row in _beside(who, place, ways)]


def _beside(who: str, place: int, ways: dict[str, list[list[float]]]) -> Iterator[Row]:
    """One share of the probes: as it is, beside each setting."""
    plain, *others = ([each[place] for each in found] for found in ways.values())
    metric = f"latency of {who}, p{SHARES[place] * 100:g}"
    for how, theirs in zip(list(ways)[1:], others, strict=True):
        pairs = [ratio(a, b, lower_is_better=True) for a, b in zip(plain, theirs, strict=True)]
        yield Row("polling", metric, "us", median(plain), how, median(theirs), median(pairs))


def _turn(scene: Scene, kind: str, values: dict[str, int], settings: Settings) -> list[float]:
    probes, settle_s = effort(settings)
    with scene.answering(kind), _set(scene, values):
        time.sleep(settle_s)
        return latencies(*scene.client, scene.frame, _RATE, probes, scene.far, SHARES).microseconds


@contextlib.contextmanager
def _set(scene: Scene, values: dict[str, int]) -> Iterator[None]:
    """Settings of the server's interface, for a while."""
    before = {name: scene.setting(name) for name in values}
    try:
        for name, value in values.items():
            scene.set(name, value)
        yield
    finally:
        for name, value in before.items():
            scene.set(name, value)


__all__ = ["rows"]
