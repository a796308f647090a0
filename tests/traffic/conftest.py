"""The folder's own module of packets, and a bench that checks that no cell was lost."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from packets import Bench


@pytest.fixture
def bench():
    bench = Bench()
    yield bench
    bench.close()
