"""A server over memif, asked by ``wirespeed load``: a process of its own on the other core.

The load asks for more than the server answers, by schedule; what counts is the answers a second that the load heard.
What the port had no room for never left, and is the server's limit, not a loss; what left and has no answer is lost.

Two figures say whether a turn is worth anything: what the load sends alone, into a port that drops, which bounds every
row of its; and for how much of the time others had the core of our worker. Within a millisecond of that a ring of 1024
fills up, so a tenth of it costs much more than a tenth.

A hypervisor may move a machine's cores apart, so that a line of memory takes four times as long from one to the other,
and all that goes over memif half as much. Who has the choice takes cores near each other, so a turn that begins or ends
with cores far apart is repeated a few times, and told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from wirespeed.apps.service import Service
from wirespeed.bench.errors import BenchError
from wirespeed.bench.hop import hop_ns
from wirespeed.bench.port_echo import waited_s
from wirespeed.bench.port_memif import Turn, memif_path, places
from wirespeed.bench.serve_memory import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SERVER, _CLIENT = "10.7.0.1", "10.7.0.2"
_RATE = "14M"  # more than any server over memif answers on one core
_ALONE = "50M"  # more than the load sends
_CONNECTIONS, _TIMEOUT_S = 1024, 0.2
_DISTURBED = 0.02
_FAR_NS, _TRIES = 120, 4
_PATIENCE_S = 300


@dataclass(frozen=True)
class Asked(Turn):
    """A turn whose client is the load.

    Attributes:
        lost: of the requests that left, the share without an answer.
        waited: the share of the time for which others had our worker's core.
        instead: turns with cores far apart, which this one repeats.
    """

    lost: float
    waited: float
    instead: tuple[Asked, ...] = ()

    @property
    def far(self) -> bool:
        """Whether the cores were far apart, before or after."""
        return max(self.before_ns, self.after_ns) > _FAR_NS

    def __str__(self) -> str:
        found = f"{_turn(self)}, {self.lost:.1%} lost"
        if self.instead:
            found += f", instead of {shown(self.instead)}"
        return found if self.waited < _DISTURBED else f"{found}, disturbed: waited {self.waited:.0%} for its core"


def over_memif(answer: Callable[[Service], None], what: str, options: Sequence[str], seconds: float) -> Asked:
    """Answers a second of a service on one core.

    Args:
        answer: lets a service answer.
        what: what ``wirespeed load`` asks, by its ``options``.
        seconds: how long.

    Raises:
        BenchError: the load failed, or fewer than one in a hundred requests were answered.
    """
    turns = [_turn_over_memif(answer, what, options, seconds)]
    while turns[-1].far and len(turns) < _TRIES:
        turns.append(_turn_over_memif(answer, what, options, seconds))
    *instead, last = turns
    return replace(last, instead=tuple(instead))


def _turn_over_memif(answer: Callable[[Service], None], what: str, options: Sequence[str], seconds: float) -> Asked:
    ours, far = places()
    with memif_path() as path:
        service = Service(f"memif:{path},role=server", f"{_SERVER}/24")
        answer(service)
        with serving(service, idle="latency"):
            assert service.engine is not None
            before = hop_ns(ours, far)
            waited, begun = waited_s(ours), time.monotonic()
            found = _load(far, what, f"memif:{path},role=client", _RATE, options, seconds)
            waited, spent = waited_s(ours) - waited, time.monotonic() - begun
            service.engine.pause()
            if found["answered"] * 100 < found["sent"] or found["errors"]:
                raise BenchError(f"{found['answered']} of {found['sent']} requests answered: {found['kinds']}")
            left = max(found["sent"] - found["refused"], 1)
            lost = max(left - found["answered"], 0) / left
            rate = found["answered"] / found["seconds"]
            return Asked(rate, before, hop_ns(ours, far), lost, waited / spent)


def alone(what: str, options: Sequence[str], seconds: float) -> float:
    """Requests a second that the load sends into a port that drops them: its own limit."""
    _, far = places()
    found = _load(far, what, "null:count=0", _ALONE, [*options, "--mac", "02:00:00:00:00:01"], seconds)
    return float(found["offered"])


def _load(core: int, what: str, spec: str, rate: str, options: Sequence[str], seconds: float) -> dict[str, Any]:
    command = [
        "taskset", "-c", str(core), sys.executable, "-m", "wirespeed", "load", what, spec, "--to", _SERVER,
        "--address", f"{_CLIENT}/24", "--rate", rate, "--seconds", str(seconds), "--json",
        "--connections", str(_CONNECTIONS), "--timeout", str(_TIMEOUT_S), *options,
    ]  # fmt: skip
    said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _PATIENCE_S)
    if said.returncode != 0:
        raise BenchError(f"wirespeed load {what}: {said.stderr.strip()[-300:]}")
    found: dict[str, Any] = json.loads(said.stdout)
    return found


def shown(turns: Sequence[Turn]) -> str:
    """Turns for the notes: millions a second, the distance of the cores before and after, and what else is known."""
    return ", ".join(str(turn) if isinstance(turn, Asked) else _turn(turn) for turn in turns)


def _turn(turn: Turn) -> str:
    return f"{turn.rate / 1e6:.2f} M/s ({turn.before_ns:.0f}/{turn.after_ns:.0f} ns)"


__all__ = ["Asked", "alone", "over_memif", "shown"]
