"""A collector for one test, and what it counted."""

import pytest

from wirespeed.apps.collector.collector import Collector
from wirespeed.apps.collector.reasons import REASONS
from wirespeed.apps.collector.state import LANES, REFUSALS, TOTALS, TotalsView
from wirespeed.jit import load64

NOW_NS, NOW_MS = 10**12, 1_700_000_100_000


class Rig:
    """A collector whose time stands still until somebody moves it."""

    def __init__(self, **options):
        options = {"talkers": 64, "exporters": 64, "templates": 64, "interfaces": 64, "rows": 64, **options}
        options = {"metrics": 64, "timers": 4, "sets": 4, **options}
        self.collector = Collector(**options)
        self.collector.tick(NOW_NS, NOW_MS)

    def feed(self, data, source="192.0.2.1", port=4000, **options):
        """A datagram; the reason why it is refused, or "" if it is not."""
        said = self.collector.feed(bytes(data), source, port, **options)
        return REASONS[-said - 1] if said else ""

    def refusals(self):
        """Reasons that were counted."""
        address = self.collector.address
        counts = {name: load64(address + REFUSALS + 8 * (i + 1)) for i, name in enumerate(REASONS)}
        return {name: count for name, count in counts.items() if count}

    def totals(self, lane):
        return TotalsView(self.collector.address + TOTALS + 64 * LANES.index(lane))

    def rows(self):
        return self.collector.take_rows()


@pytest.fixture
def make():
    """``make(**options)``: a collector."""
    made = []

    def build(**options):
        made.append(Rig(**options))
        return made[-1]

    yield build
    for rig in made:
        rig.collector.close()


@pytest.fixture
def rig(make):
    return make()


@pytest.fixture(scope="module")
def endless():
    """One collector for all examples of hypothesis: what one leaves behind, the next finds."""
    made = Rig()
    yield made
    made.collector.close()
