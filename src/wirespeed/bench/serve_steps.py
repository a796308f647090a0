"""What does each of the ways to ten million answers gain? The echo in memory with one of them switched off at a time.

==================  ===============================================================================================
batching            bursts of one packet instead of 64
fusing              every node takes the whole burst, instead of all nodes each packet (``shape="split"``)
huge pages          pages of 4 KiB (``WIRESPEED_HUGE=0``)
SIMD                no instruction that not every x86-64 has (``NUMBA_CPU_NAME=generic``)
compiling           the same code, interpreted (``NUMBA_DISABLE_JIT=1``)
==================  ===============================================================================================

Kernel bypass and polling are rows of :mod:`wirespeed.bench.serve`, shared nothing is ``wirespeed bench locks``.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from wirespeed.bench import serve_memory as in_memory
from wirespeed.bench.errors import BenchError
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings

_PROCESSES: dict[str, dict[str, str]] = {
    "huge pages": {"WIRESPEED_HUGE": "0"},
    "SIMD": {"NUMBA_CPU_NAME": "generic"},
    "compiling": {"NUMBA_DISABLE_JIT": "1"},
}


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row; the ratio says how many times as long it takes without."""
    tell("steps: everything on")
    whole = in_memory.cycles(settings)
    without: dict[str, float] = {}
    loops = (("batching", {"burst": 1}), ("fusing", {"shape": "split"}))
    for name, options in loops if not settings.quick else ():  # each is another loop to compile
        tell(f"steps: without {name}")
        without[name] = in_memory.cycles(settings, **options)
    for name, environment in _PROCESSES.items():
        if settings.quick and name == "SIMD":
            continue
        tell(f"steps: without {name}")
        without[name] = _in_process(environment, settings)
    return [
        Row(
            "serve",
            f"UDP echo in memory, without {name}",
            "cycles/request",
            whole,
            f"without {name}",
            value,
            value / whole,
        )
        for name, value in without.items()
    ]


def _in_process(environment: dict[str, str], settings: Settings) -> float:
    """The same in a process of its own."""
    command = [sys.executable, "-m", "wirespeed.bench.serve_memory", "--pairs", str(settings.pairs)]
    source = str(Path(__file__).parents[2])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    run = subprocess.run(
        [*command, *(["--quick"] if settings.quick else [])],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path, **environment},
    )  # fmt: skip
    if run.returncode:
        raise BenchError(f"{' '.join(command)} failed: {run.stderr.strip()[-400:]}")
    return float(run.stdout)


__all__ = ["rows"]
