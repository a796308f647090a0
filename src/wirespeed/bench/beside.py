"""A row beside an autotest that takes a minute or two: ours in every pair, the peer's in the first two.

An autotest prints all its figures in one run, so all rows of a bench share its turns (:func:`recall`); the first two
runs are taken before and between ours, later pairs take one of the two again.
"""

from collections.abc import Callable
from itertools import count

from wirespeed.bench.dpdk_test import figures, peer, recall
from wirespeed.bench.pairing import interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings

Tell = Callable[[str], None]
_TURNS = 2


def beside(
    settings: Settings,
    tell: Tell,
    bench: str,
    metric: str,
    ours: Callable[[], float],
    autotest: str,
    *patterns: str,
    until: str | None = None,
    name: str | None = None,
) -> Row:
    """One row in cycles.

    Arguments:
        ours: one turn: cycles per operation.
        autotest: of DPDK, which ``settings.peer`` asks for; never in a quick run.
        patterns: of its figures, the better of which counts; none, and there is no peer.
        until: where its output has them all.
        name: of the peer if the autotest's name does not say enough.
    """
    turns = count()

    def theirs() -> float:
        text = recall(autotest, next(turns) % _TURNS, timeout_s=600.0, memory_mib=512, until=until)
        return min(figures(text, cost=pattern)["cost"] for pattern in patterns)

    with_peer = settings.peer == "dpdk" and not settings.quick and bool(patterns)
    paired = interleave(
        ours,
        theirs if with_peer else None,
        settings.pairs,
        warmup=0 if settings.quick or with_peer else 1,
        progress=lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}"),
        lower_is_better=True,
    )
    settings.notes.append(f"{bench}, {metric}: {paired.note}")
    return Row.of(bench, metric, "cycles", paired, (name or peer(autotest)) if with_peer else None)


__all__ = ["beside"]
