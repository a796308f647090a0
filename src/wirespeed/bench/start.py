"""How long from the command to the first forwarded packet of the demo? Warm: machine code on disk; cold: nothing.

The demo is run as a user runs it, a process of its own; it prints the moment of its first packet, counted from
its own start, to which the interpreter's start is added. A cold start has an empty cache directory.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from statistics import median

from wirespeed.bench.errors import BenchError
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-start-") as cache:
        tell("cold start")
        cold = first_packet(cache)
        warm = []
        for turn in range(settings.pairs):
            tell(f"warm start {turn + 1} of {settings.pairs}")
            warm.append(first_packet(cache))
    return [
        Row("start", "command to first packet, warm", "s", median(warm)),
        Row("start", "command to first packet, cold", "s", cold),
    ]


def first_packet(cache: str) -> float:
    """Seconds from starting ``wirespeed demo`` to its first forwarded packet, with the cache in ``cache``."""
    environment = {**os.environ, "WIRESPEED_CACHE": cache}
    began = time.monotonic()
    run = subprocess.run(
        [sys.executable, "-m", "wirespeed", "demo", "--seconds", "0.1", "--json", "--no-profile"],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    if run.returncode != 0:
        raise BenchError(f"wirespeed demo failed: {run.stderr.strip()[-400:]}")
    return float(json.loads(run.stdout)["first_packet_monotonic"]) - began
