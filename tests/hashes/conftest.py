"""Memory that interpreted code may touch."""

import pytest

from wirespeed.mem.region import Region


@pytest.fixture(scope="module")
def memory():
    """Address of some pages."""
    with Region(16384, "test-hashes", huge=False) as region:
        yield region.address
