"""What all tests share: warnings that are errors, how long hypothesis tries, and test ports by import."""

import gc
import os
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from wirespeed.jit import COMPILED

HERE = Path(__file__).parent
for place in (HERE / "engine", HERE / "tables"):  # `from feed import Feed, Collect` in any test
    if str(place) not in sys.path:
        sys.path.append(str(place))

# Compiling takes seconds and a shared runner may stall: no example has a deadline. Interpreted, each memory
# access is checked, some 500 times slower: fewer examples.
settings.register_profile(
    "wirespeed",
    deadline=None,
    max_examples=int(os.environ.get("WIRESPEED_EXAMPLES", "100" if COMPILED else "25")),
    stateful_step_count=50 if COMPILED else 25,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
settings.load_profile("wirespeed")

CANNOT_CACHE = "Cannot cache compiled function"


def pytest_configure(config: pytest.Config) -> None:
    """Machine code that is not found again on disk is a bug, not a warning."""
    config.addinivalue_line("filterwarnings", f"error:{CANNOT_CACHE}")


@pytest.fixture
def uncached_is_an_error():
    """The same for code that a thread or an engine compiles while it catches warnings."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", CANNOT_CACHE)
        yield


@pytest.fixture
def open_files():
    """``open_files()``: how many descriptors this process holds."""

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    return count
