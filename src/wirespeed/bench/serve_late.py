"""How late is an echo on a veth, turn by turn, for each of who could echo there?

The slowest are told twice: all, and those during which nobody else had the server's core. Beside the latter stands what
a core that does nothing but read the clock is stopped for.

Whatever else runs on the machine wakes up on a core that is idle, if there is one, else where it ran last. A server
that starts up on its own core drives all that to the other one; one that starts up elsewhere draws it to its own, and
there it stays. And what a start left over, pages kept for one core above all, the kernel collects once a second, for
hundreds of microseconds on that core. So each has its core for three seconds, while the client's is idle, before it is
asked.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from wirespeed.bench import serve_peers
from wirespeed.bench.core_watch import refusal
from wirespeed.bench.serve_latency import Latencies, Server, latencies, stops

if TYPE_CHECKING:
    from collections.abc import Callable

    from wirespeed.bench.result import Row
    from wirespeed.bench.serve_veth import Scene
    from wirespeed.bench.settings import Settings

SHARES: tuple[float, ...] = (0.5, 0.999)
"""Of the probes: what they stayed below is told."""
_CORELESS = "mirror"  # it answers on the client's core: nobody can take the server's from it
_PROBES, _PROBES_QUICK = 50_000, 200
_TURNS = 11  # at least: the slowest move tenfold from turn to turn
_SETTLE_S, _SETTLE_S_QUICK = 3.0, 0.0
_STOPS_S, _STOPS_S_QUICK = 2.0, 0.05


def effort(settings: Settings) -> tuple[int, float]:
    """How many probes a turn has, and how many seconds a server has its core before them."""
    return (_PROBES_QUICK, _SETTLE_S_QUICK) if settings.quick else (_PROBES, _SETTLE_S)


def rows(scene: Scene, settings: Settings, load: float, tell: Callable[[str], None]) -> list[Row]:
    """Latencies at ``load`` requests a second."""
    times: dict[str, list[Latencies]] = {}
    clock: list[list[float]] = []
    probes, settle_s = effort(settings)
    turns = settings.pairs if settings.quick else max(settings.pairs, _TURNS)
    kinds = ("awake", "busy", "testpmd", "asleep", "mirror") if settings.peer else ("awake", "asleep")
    refused = refusal(scene.worker)
    for number in range(turns):
        tell(f"latency on a veth at {load:,.0f} requests/s: round {number + 1} of {turns}")
        for kind in kinds[number % len(kinds) :] + kinds[: number % len(kinds)]:  # none is always the first
            with scene.answering(kind) as process:
                time.sleep(settle_s)
                server = None if refused or kind == _CORELESS else Server(scene.worker, (process,))
                network, interface = scene.client
                turn = latencies(network, interface, scene.frame, load, probes, scene.far, SHARES, server)
                times.setdefault(kind, []).append(turn)
        if not refused:
            time.sleep(settle_s)
            clock.append(stops(scene.worker, scene.far, _STOPS_S_QUICK if settings.quick else _STOPS_S, SHARES))
    settings.notes += [f"latency at {load:,.0f} requests/s, {kind}: {spread(of)}" for kind, of in times.items()]
    named = {"ours": times.pop("awake"), **times}
    what = "latency on a veth at a tenth of the load"
    median, slowest = (f"{what}, p{share * 100:g}" for share in SHARES)
    found = [
        *serve_peers.rows(median, "us", {kind: [each.microseconds[0] for each in of] for kind, of in named.items()}),
        *serve_peers.rows(slowest, "us", {kind: [each.microseconds[1] for each in of] for kind, of in named.items()}),
    ]
    if refused:
        settings.notes.append(f"no row of the slowest while the server had its core: {refused}")
        return found
    kept = {kind: [each.undisturbed[1] for each in of] for kind, of in named.items() if kind != _CORELESS}
    kept["clock"] = [each[1] for each in clock]
    return [*found, *serve_peers.rows(f"{slowest} while the server had its core", "us", kept)]


def spread(turns: list[Latencies]) -> str:
    """All turns, and what was left out."""
    each = (
        f"p{share * 100:g} " + "/".join(f"{t.microseconds[i]:.1f}" for t in turns) for i, share in enumerate(SHARES)
    )
    kept = "/".join(f"{t.undisturbed[-1]:.1f}" for t in turns)
    lost = sum(t.lost for t in turns)
    left_out, taken = (sum(of) / len(turns) for of in ([t.left_out for t in turns], [t.taken for t in turns]))
    return (
        f"{', '.join(each)} us, {kept} while it had its core ({taken:.2%} while it had not); {lost} probes without an "
        f"answer, {left_out:.1%} left out: the prober stood still"
    )


__all__ = ["SHARES", "effort", "rows", "spread"]
