"""What the hash bench reads out of the autotest's words, and that it measures."""

import pytest

from wirespeed.bench import hash as bench
from wirespeed.bench.errors import BenchError
from wirespeed.bench.settings import Settings
from wirespeed.jit import COMPILED

TABLE = """
Keysize           Add               Lookup            Lookup_bulk       Delete
16                {0}1                {0}2              {0}3               {0}4
8                 {0}5                {0}6              {0}7               {0}8
"""
PART = """Results (in CPU cycles/operation)
-----------------------------------

 Operations without data

Without pre-computed hash values
{}
With pre-computed hash values
{}
 Operations with 8-byte data

Without pre-computed hash values
{}
With pre-computed hash values
{}
"""
SAID = "\n".join([
    "Without locks in the code", "", "ALL ELEMENTS IN PRIMARY LOCATION",
    PART.format(*(TABLE.format(i) for i in (1, 2, 3, 4))), "ELEMENTS IN PRIMARY OR SECONDARY LOCATION",
    PART.format(*(TABLE.format(i) for i in (5, 6, 7, 8))), "With locks in the code",
])  # fmt: skip


def test_the_peers_figures():
    """Of keys in either bucket, with data: the third and fourth table of the second part."""
    assert bench.theirs(SAID, 16) == {
        "add, hash computed": 71, "lookup, hash computed": 72, "lookup bulk, hash computed": 73,
        "delete, hash computed": 74, "add, hash given": 81, "lookup, hash given": 82, "lookup bulk, hash given": 83,
        "delete, hash given": 84,
    }  # fmt: skip
    assert bench.theirs(SAID, 8)["lookup, hash given"] == 86
    with pytest.raises(BenchError, match="no figures of keys of 40 bytes"):
        bench.theirs(SAID, 40)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled: there is nothing to measure")
def test_rows():
    found = bench.rows(Settings(quick=True, pairs=1), lambda text: None)
    assert len(found) == 4 * 8 + 1 + 4
    assert all(row.value > 0 and row.bench == "hash" for row in found)
    assert [row.peer for row in found if row.peer] == ["dict"]
    assert {row.unit for row in found} == {"cycles", "bytes"}
