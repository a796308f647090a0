"""Memory by name: as arrays, as words in kernels, and from a second process."""

import os
import subprocess
import sys

import numpy as np
import pytest

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.zone import Zone, ZoneView


@kernel
def change(zone, index, value):
    return ZoneView(zone).store(index, value), ZoneView(zone).load(index)


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A directory of our own."""
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))


def test_words_and_arrays_are_the_same_memory():
    with ws.Zone(100) as zone:
        assert (len(zone), zone.data % 128) == (104, 0)
        assert not zone.array().any()
        zone.array("int64")[3] = -5
        assert zone.load(3) == -5
        assert tuple(change(zone.address, 12, 77)) == (1, 77)
        assert zone.array(np.int64)[12] == 77
        assert zone.array("<u4").shape == (26,)
        assert zone.array([("a", "<u8"), ("b", "<u4")]).shape == (8,)  # as many as fit
        assert repr(zone) == "<zone zone: 104 bytes>"


@pytest.mark.parametrize("call", [change, change.py_func if COMPILED else change], ids=["kernel", "python"])
@pytest.mark.parametrize("index", [-1, 13, 1 << 62, -(1 << 62)])
def test_words_that_are_not_there(call, index):
    with Zone(104) as zone:
        assert tuple(call(zone.address, index, 77)) == (0, 0)
        assert (zone.store(index, 1), zone.load(index)) == (0, 0)
        assert not zone.array().any()


@pytest.mark.parametrize("size", [0, -1, (1 << 40) + 1])
def test_sizes_out_of_range(size):
    with pytest.raises(TableError, match=f"{size} bytes are not possible: 1 to "):
        Zone(size)


def test_what_memory_cannot_hold():
    with Zone(64) as zone, pytest.raises(TableError, match="cannot hold object"):
        zone.array(object)


def test_attached_read_only_and_writable():
    with Zone(64, "test-zone") as zone:
        zone.store(1, 5)
        there = Zone.attach("test-zone")
        assert (len(there), there.load(1)) == (64, 5)
        with pytest.raises(TableError, match="attached read-only"):
            there.store(1, 6)
        with pytest.raises(ValueError, match="read-only"):
            there.array()[0] = 1
        there.close()
        there = Zone.attach("test-zone", writable=True)
        there.store(1, 6)
        there.close()
        assert zone.load(1) == 6


def test_another_process():
    with Zone(1 << 21, "test-zone") as zone:
        code = "import wirespeed as ws; z = ws.Zone.attach('test-zone', writable=True); print(z.load(9)); z.store(9, 8)"
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        zone.store(9, 7)
        said = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
        assert said.stdout == "7\n"
        assert zone.load(9) == 8
