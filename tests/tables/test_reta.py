"""Redirection table: dealt out, moved live, bounded."""

import subprocess
import sys

import numpy as np
import pytest

from wirespeed.errors import TableError
from wirespeed.jit import kernel
from wirespeed.tables.reta import Reta, RetaView


@kernel
def in_node(reta, hash_value):
    return RetaView(reta).queue(hash_value)


def test_dealt_out_in_turn():
    with Reta(3, size=100) as reta:  # rounded up
        assert len(reta) == 128
        assert list(reta)[:5] == [0, 1, 2, 0, 1]
        for value in (0, 1, 127, 128, 0xFFFF_FFFF):
            assert in_node(reta.address, value) == reta.queue(value) == (value & 127) % 3
        assert reta.queue_many(np.array([5, 0xFFFF_FFFF], dtype=np.uint32)).tolist() == [2, 1]
        assert reta.stats().by_queue == {0: 43, 1: 43, 2: 42}
        assert repr(reta) == "<Reta reta: 128 entries, queues [0, 1, 2]>"


def test_live_changes():
    with Reta([4, 9], size=8) as reta:
        reta[3] = 7
        assert list(reta) == [4, 9, 4, 7, 4, 9, 4, 9]
        assert reta.move(9, 4) == 3
        assert in_node(reta.address, 8 + 1) == 4
        assert reta[3] == 7


def test_bad_input():
    with pytest.raises(TableError, match="without queues"):
        Reta(0)
    with pytest.raises(TableError, match="0 entries"):
        Reta(1, size=0)
    with pytest.raises(TableError, match="queue 65536"):
        Reta([65536])
    with Reta(2) as reta:
        with pytest.raises(TableError, match="queue -1"):
            reta[0] = -1
        with pytest.raises(IndexError, match="entry 128"):
            reta[128]


def test_attached_by_another_process():
    code = "from wirespeed.tables.reta import Reta; r = Reta.attach('reta-test'); print(r[1], len(r)); r[1] = 0"
    with Reta(4, name="reta-test"):
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["1", "128"]
    assert "attached read-only" in done.stderr
