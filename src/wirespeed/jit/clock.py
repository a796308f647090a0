"""The time-stamp counter, read from plain Python."""

from wirespeed.jit.atomics import cycles
from wirespeed.jit.decorators import kernel


@kernel
def _read() -> int:
    return cycles()


def tsc() -> int:
    """The processor's time-stamp counter now; nanoseconds when run with ``NUMBA_DISABLE_JIT=1``."""
    return int(_read())
