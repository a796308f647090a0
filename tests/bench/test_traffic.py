"""Every row of the traffic bench measures something, and gives back what it took."""

import pytest

from wirespeed.bench.settings import Settings
from wirespeed.bench.traffic import rows
from wirespeed.jit import COMPILED


@pytest.mark.skipif(not COMPILED, reason="the clock of an interpreted loop says nothing")
def test_rows():
    found = rows(Settings(quick=True, pairs=1), lambda text: None)
    assert len({row.metric for row in found}) == len(found) >= 13
    assert all(row.value > 0 and row.unit == "cycles" for row in found)
