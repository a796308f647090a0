"""The tester through graphs whose faults are known: losses, a policer whose rate the search must find."""

import pytest

import wirespeed as ws
from wirespeed.apps.measure import Tester
from wirespeed.apps.rfc2544 import Settings, find_throughput
from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import ConfigError, PortError
from wirespeed.jit import COMPILED
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.stamp import Stamp

pytestmark = pytest.mark.skipif(not COMPILED, reason="too much traffic for an interpreted run")

POLICED = 20_000  # packets a second
BURST = 400
"""What the policer holds: 20 ms of its rate, for a tester that is a few milliseconds late."""

policer = ws.TokenBuckets(1, rate=POLICED, burst=BURST)
CYCLES_TO_NS = round((10**9 << 20) / tsc_hz())


@ws.node(drops=["policed"])
def police(pkt):
    """A token a packet, by the time that its stamp says it left: what was late on this machine's way does not count."""
    stamp = Stamp(pkt.start + 42)
    cycles = (stamp.time_high << 32) | stamp.time_low
    if not policer.take(0, 1, ((cycles & 0xFFF_FFFF_FFFF) * CYCLES_TO_NS) >> 20):
        return "policed"


passing = ws.per_worker(seen=0)


@ws.node(drops=["fourth"])
def drop_each_fourth(pkt):
    """Of four packets one goes."""
    passing.seen += 1
    if passing.seen % 4 == 0:
        return "fourth"


def through(node, **options):
    """A tester with a node between two rings as its device."""
    device = ws.port("ring:in") >> node >> ws.port("ring:out")
    return Tester(Generator.from_options(stamp=True, size=64, **options), "ring:in", "ring:out", device=device)


def test_a_tester_on_a_ring():
    with Tester(Generator.from_options(stamp=True, size=64), "ring:loop", "ring:loop") as tester:
        trial = tester.trial(rate=0, seconds=0.2)
        assert trial.sent == trial.received > 0
        assert (trial.lost, trial.loss, trial.duplicates, trial.reordered, trial.plain) == (0, 0.0, 0, 0, 0)
        assert trial.latency.count == trial.received
        assert trial.offered > 0
        assert not trial.fell_short
        assert trial.frame == 64
        again = tester.trial(count=1000, seconds=60)
        assert (again.sent, again.received, again.lost) == (1000, 1000, 0)
        seen = []
        paced = tester.trial(rate=5000, seconds=0.3, watch=seen.append)
        assert 0 < paced.sent <= 1500
        assert paced.offered <= 5000 * 1.02 + 50  # never ahead
        assert seen and seen[0] is tester
        assert paced.to_dict()["latency_ns"]["count"] == paced.sent
    assert tester.engines == []


def test_known_losses():
    passing[0].seen = 0
    with through(drop_each_fourth) as tester:
        trial = tester.trial(count=4000, seconds=60, settle=0.1)
        assert (trial.sent, trial.received, trial.lost) == (4000, 3000, 1000)
        assert trial.loss == 0.25


def test_the_search_finds_a_policers_rate():
    with through(police, late=2000) as tester:

        def run(rate=0.0, seconds=0.0, count=0):
            return tester.trial(rate=rate, seconds=seconds, count=count, settle=0.05)

        settings = Settings(seconds=1.0, confirm=0.0, resolution=0.02, top=4 * POLICED)
        found = find_throughput(run, settings)
    # A trial of a second passes with what the bucket holds on top of the rate.
    most = POLICED + BURST + 1
    passed = [trial for trial in found.trials if trial.lost == 0]
    assert found.rate == max(trial.offered for trial in passed)
    assert all(trial.sent <= most * trial.seconds + BURST for trial in passed)
    if not any(trial.fell_short for trial in found.trials):  # on a machine that has nothing else to do
        assert POLICED * 0.97 <= found.rate <= most * 1.03


def test_what_is_refused():
    generator = Generator.from_options(stamp=True)
    with pytest.raises(ConfigError, match="1 worker or 2"):
        Tester(generator, "ring:a", "ring:b", workers=3)
    with pytest.raises(ConfigError, match="one port cannot be opened by two"):
        Tester(generator, "ring:a", "ring:a", workers=2)
    with pytest.raises(PortError, match="no port is called 'rung'"):
        Tester(generator, "rung:a", "ring:b")
