"""A server over memif, asked by ``wirespeed load``: a process of its own on the other core.

The load asks for more than the server answers, by schedule; what counts is the answers a second that the load heard.
What the port had no room for never left, and is the server's limit, not a loss.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from wirespeed.apps.service import Service
from wirespeed.bench.errors import BenchError
from wirespeed.bench.hop import hop_ns
from wirespeed.bench.port_memif import Turn, memif_path, places
from wirespeed.bench.serve_memory import serving

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SERVER, _CLIENT = "10.7.0.1", "10.7.0.2"
_RATE = "14M"  # more than any server over memif answers on one core
_CONNECTIONS, _TIMEOUT_S = 1024, 0.2
_PATIENCE_S = 300


def over_memif(answer: Callable[[Service], None], what: str, options: Sequence[str], seconds: float) -> Turn:
    """Answers a second of a service on one core.

    Args:
        answer: lets a service answer.
        what: what ``wirespeed load`` asks, by its ``options``.
        seconds: how long.

    Raises:
        BenchError: the load failed, or fewer than one in a hundred requests were answered.
    """
    ours, far = places()
    with memif_path() as path:
        service = Service(f"memif:{path},role=server", f"{_SERVER}/24")
        answer(service)
        with serving(service, idle="latency"):
            assert service.engine is not None
            before = hop_ns(ours, far)
            command = [
                "taskset", "-c", str(far), sys.executable, "-m", "wirespeed", "load", what, f"memif:{path},role=client",
                "--to", _SERVER, "--address", f"{_CLIENT}/24", "--rate", _RATE, "--seconds", str(seconds), "--json",
                "--connections", str(_CONNECTIONS), "--timeout", str(_TIMEOUT_S), *options,
            ]  # fmt: skip
            said = subprocess.run(command, capture_output=True, text=True, timeout=seconds + _PATIENCE_S)
            if said.returncode != 0:
                raise BenchError(f"wirespeed load {what}: {said.stderr.strip()[-300:]}")
            service.engine.pause()
            found = json.loads(said.stdout)
            if found["answered"] * 100 < found["sent"] or found["errors"]:
                raise BenchError(f"{found['answered']} of {found['sent']} requests answered: {found['kinds']}")
            return Turn(found["answered"] / found["seconds"], before, hop_ns(ours, far))


def shown(turns: Sequence[Turn]) -> str:
    """Turns for the notes: millions a second, and the distance of the cores before and after."""
    return ", ".join(f"{turn.rate / 1e6:.2f} M/s ({turn.before_ns:.0f}/{turn.after_ns:.0f} ns)" for turn in turns)


__all__ = ["over_memif", "shown"]
