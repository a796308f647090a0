"""What tests with real peers share: namespaces, and a visible reason where there can be none."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from topology import WHY_NOT, Network


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if WHY_NOT and "network" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=WHY_NOT))


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    """Namespaces for the tests of one file."""
    made = Network()
    try:
        yield made
    finally:
        made.remove()
