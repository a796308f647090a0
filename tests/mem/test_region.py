"""Regions: zeros, registered while they live, shared by descriptor."""

import mmap

import pytest

from wirespeed import jit
from wirespeed.errors import ArenaError
from wirespeed.mem.region import Region


@pytest.mark.parametrize("huge", [False, True])
def test_zeros_until_closed(huge, open_files):
    before = open_files()
    with Region(10_000, "test-region", huge=huge) as region:
        assert region.size >= 10_000
        assert jit.read_bytes(region.address, 10_000) == bytes(10_000)
        jit.check(region.address, region.size)
        address = region.address
        assert "test-region" in repr(region)
    with pytest.raises(AssertionError):
        jit.check(address, 1)
    region.close()  # once more does nothing
    assert open_files() == before


def test_another_mapping_sees_the_same_bytes():
    with Region(4096, "test-shared", huge=False) as region:
        jit.write_bytes(region.address + 100, b"written by address")
        with mmap.mmap(region.fd, region.size) as other:
            assert other[100:118] == b"written by address"
            other[0:4] = b"back"
        assert jit.read_bytes(region.address, 4) == b"back"


def test_too_much():
    with pytest.raises(ArenaError):
        Region(1 << 60, "test-huge", populate=False)
