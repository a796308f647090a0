"""A server in memory, asked by bytes."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from asked import Asked


@pytest.fixture
def asked():
    """A server with the least memory."""
    made = Asked(memory_bytes=1 << 20)
    yield made
    made.close()
