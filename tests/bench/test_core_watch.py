"""Who else had a core, beside what the kernel's scheduler says a thread waited for it (/proc/.../schedstat)."""

import os
import subprocess
import sys
import threading
import time

import pytest

from wirespeed.bench.core_watch import CoreWatch, refusal
from wirespeed.bench.port_echo import waited_s
from wirespeed.bench.serve_latency import stops
from wirespeed.eal.clock import tsc_hz

_CORES = sorted(os.sched_getaffinity(0))
_CORE = _CORES[-1]
_REFUSED = refusal(_CORE)

pytestmark = pytest.mark.skipif(_REFUSED is not None, reason=str(_REFUSED))


def _polling(seconds: float) -> float:
    """How long a thread that polled on the core had to wait for it."""
    waited: list[float] = []

    def poll() -> None:
        os.sched_setaffinity(0, {_CORE})
        before, until = waited_s(_CORE), time.monotonic() + seconds
        while time.monotonic() < until:
            pass
        waited.append(waited_s(_CORE) - before)

    thread = threading.Thread(target=poll)
    thread.start()
    thread.join()
    return waited[0]


def test_time_that_others_had_is_what_a_polling_thread_waited() -> None:
    pin = f"import os; os.sched_setaffinity(0, {{{_CORE}}}); print(flush=True)\nwhile True: pass"
    with subprocess.Popen([sys.executable, "-c", pin], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with CoreWatch(_CORE) as watch:
            waited = _polling(0.5)
        other.kill()
    taken = watch.taken({os.getpid()})
    assert (taken[1:, 0] >= taken[:-1, 1]).all()
    assert waited > 0.1  # two that want all of it share it
    assert float((taken[:, 1] - taken[:, 0]).sum()) / tsc_hz() == pytest.approx(waited, abs=0.05)
    assert len(watch.taken({os.getpid(), other.pid})) < len(taken)


def test_a_core_that_reads_the_clock_is_stopped_now_and_then() -> None:
    half, slowest, always = stops(_CORE, _CORES[0], 0.3, (0.5, 0.999, 1.0))
    assert half <= slowest <= always
    assert 0 < always < 300_000  # other interrupts than the timer's: that one stops both cores at a time
