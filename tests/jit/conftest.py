"""Memory that interpreted code may touch, and nothing around it."""

import pytest

from wirespeed.mem.region import Region


@pytest.fixture(scope="module")
def memory():
    """Address of one page of zeros."""
    with Region(4096, "test-memory", huge=False) as region:
        yield region.address
