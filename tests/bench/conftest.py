"""What the bench tests need from the machine; each absence skips with its reason."""

import shutil
from pathlib import Path

import pytest

from wirespeed.bench.capture import default_captures


@pytest.fixture(scope="session")
def captures() -> Path:
    folder = default_captures()
    if folder is None:
        pytest.skip("no ../shared/data/captures beside the project")
    return folder


@pytest.fixture(scope="session")
def tcpdump() -> str:
    found = shutil.which("tcpdump")
    if found is None:
        pytest.skip("tcpdump is not installed (apt-get install tcpdump)")
    return found
