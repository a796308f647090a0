"""A short run of each fuzz target: atheris, guided by coverage, from a fixed seed. By hand: ``scripts/fuzz TARGET``."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from targets import TARGETS

HERE = Path(__file__).parent
RUNS = 500

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris is not installed (pip install wirespeed[dev])"
)


@pytest.mark.parametrize("name", TARGETS)
def test_no_bytes_make_it_fail(name, tmp_path):
    """What failed is among the last lines, and the input that did it is there to be tried again."""
    environment = {**os.environ, "WIRESPEED_FUZZ": str(tmp_path), "PYTHONPATH": str(HERE.parents[1] / "src")}
    done = subprocess.run(
        [sys.executable, str(HERE / "fuzz.py"), name, f"-runs={RUNS}", "-seed=1"], capture_output=True, text=True,
        env=environment, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert f"Done {RUNS} runs" in done.stderr
