"""RSS in software: which worker gets a flow is what the port's fields, key and table say, or a rule."""

import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import PortError
from wirespeed.jit import COMPILED
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.rss import Rss, parse_rss
from wirespeed.ports.spread import NOT_AT_ALL
from wirespeed.tables.toeplitz import MICROSOFT_KEY, SYMMETRIC_KEY, Toeplitz

FLOWS = 64 if COMPILED else 16
flows = ws.Tally(1024, workers=MAX_WORKERS, name="spread-flows")


@ws.node
def note(pkt):
    """Which worker saw which flow."""
    flows.add(pkt.udp.sport)


FRAMES = [ipv4_udp(1000 + i, 53, bytes(8), f"10.0.0.{i % 7 + 1}") for i in range(FLOWS)] * 3


def seen():
    """For each of two workers, the flows it counted."""
    blocks = [zip(*map(list, flows._read(block)), strict=True) for block in flows._blocks[:2]]
    return [{key for key, _ in block} for block in blocks]


@pytest.fixture(autouse=True)
def fresh():
    for block in flows._blocks[:2]:
        ws.jit.fill(block.address + 128, 0, flows.stride - 128)
        block.used = 0


def run(prepare, **options):
    graph, source = ws.Graph(), Feed(FRAMES)
    prepare(source)
    graph.add(source >> note >> Collect(log=0))
    report = Engine(graph, 2, **options)
    with report as engine:
        assert engine.wait(60)
    final = engine.stop()
    assert final.sent == len(FRAMES)
    assert final.in_use == 0
    return seen()


def test_key_fields_and_table_decide():
    def prepare(source):
        source.rss = Rss(("ipv4",), SYMMETRIC_KEY, (1, 0, 0, 0))

    first, second = run(prepare)
    table = {}
    with Toeplitz(SYMMETRIC_KEY) as hashed:
        for i in range(FLOWS):
            source = f"10.0.0.{i % 7 + 1}"
            table[1000 + i] = (1, 0, 0, 0)[hashed.hash_v4(source, "10.0.0.2") & 3]
    assert second == {flow for flow, worker in table.items() if worker == 1}
    assert first == {flow for flow, worker in table.items() if worker == 0}


def test_key_fields_and_table_change_while_it_runs():
    graph, source = ws.Graph(), Feed(FRAMES, endless=True)
    graph.add(source >> note >> Collect(log=0))
    engine = Engine(graph, 2)

    def counts():
        return [
            sum(count for _, count in zip(*map(list, flows._read(block)), strict=True)) for block in flows._blocks[:2]
        ]

    def comes_to(worker):
        """Wait until all that comes goes to one worker; what was on its way before does not matter."""
        for _ in range(100_000):
            before = counts()
            while counts()[worker] < before[worker] + len(FRAMES):
                assert not engine.ended, engine.workers.failure
                engine.workers.wait(0.0005)
            if counts()[1 - worker] == before[1 - worker]:
                return
        raise AssertionError(f"not all goes to worker {worker}")

    with engine:
        source.rss = Rss(("ipv4",), SYMMETRIC_KEY, (1,))
        comes_to(1)
        source.rss = Rss(("ipv6",), table=(1,))  # no packet has these fields
        comes_to(0)
        source.rss = Rss(key=bytes(39) + b"\1", table=(1, 0))  # a hash of 0 for all: none has the key's last bit
        comes_to(1)
        source.rss = None
        before = counts()
        while min(now - then for now, then in zip(counts(), before, strict=True)) < len(FRAMES):
            engine.workers.wait(0.0005)
        with pytest.raises(PortError, match="leads to queue 2"):
            source.rss = Rss(table=(2,))
        assert source.rss is None
    assert engine.stop().in_use == 0


class Able(Feed):
    """Its device spreads packets as it is told."""

    def __init__(self):
        super().__init__(FRAMES, queues=2)
        self.told = []

    def configure_rss(self, rss):
        self.told.append(rss)
        return True


def test_a_device_is_told_of_changes():
    graph, source = ws.Graph(), Able()
    graph.add(source >> note >> Collect(log=0))
    first, second = Rss(("ipv4",)), Rss(key=SYMMETRIC_KEY)
    source.rss = first
    engine = Engine(graph, 2)
    source.rss = second
    source.rss = None
    assert source.told == [first, second, Rss()]
    assert source.software.spreading.record.how == NOT_AT_ALL
    engine.stop()
    source.rss = first
    assert source.told[2:] == [Rss()]


def test_a_rule_goes_before_the_hash():
    def prepare(source):
        source.rules.add("sport/1000-1004", "queue:1")
        source.rules.add("sport/1005-1009", "queue:0")

    first, second = run(prepare)
    assert set(range(1000, 1005)) <= second
    assert set(range(1005, 1010)) <= first
    assert len(first | second) == FLOWS
    assert not first & second


def test_what_has_no_field_stays():
    def prepare(source):
        source.rss = Rss(("ipv6",))

    assert [len(each) for each in run(prepare)] == [FLOWS, 0]


def test_a_table_for_more_workers_than_there_are():
    def prepare(source):
        source.rss = Rss(table=(0, 1, 2))

    with pytest.raises(PortError, match="rss_table leads to queue 2, and there are 2: run more workers"):
        run(prepare)


def test_text():
    made = ws.port(f"null:rss=ipv4+tcp,rss_key={MICROSOFT_KEY.hex()},rss_table=0+0+1")
    assert made.rss == Rss(("ipv4", "tcp"), MICROSOFT_KEY, (0, 0, 1))
    assert ws.port("null:rss=symmetric").rss == Rss(key=SYMMETRIC_KEY)
    assert ws.port("null:").rss is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("ipv5", "", ""), "RSS has no field 'ipv5'; did you mean 'ipv"),
        (("ipv4", "zz", ""), "rss_key is in hexadecimal"),
        (("ipv4", "00" * 39, ""), "an RSS key of 39 bytes"),
        (("symmetric", "00" * 40, ""), "rss=symmetric has a key of its own"),
        (("", "", "0+x"), "rss_table is queues such as 0+0+1"),
        (("", "", "0+-1"), "queues from 0 to 1023"),
    ],
)
def test_bad_text(given, said):
    with pytest.raises(PortError, match="port 'x'") as raised:
        parse_rss("x", *given)
    assert said in str(raised.value)
