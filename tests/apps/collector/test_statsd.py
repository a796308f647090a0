"""statsd: lines as clients send them, what they add up to, limits, and hostile bytes."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from statsd.client.base import StatsClientBase

from wirespeed.apps.collector.metrics import TIMER_DIGITS
from wirespeed.apps.collector.reasons import REASONS


def send(rig, *lines, worker=0):
    said = rig.collector.feed("\n".join(lines).encode(), statsd=True, worker=worker)
    return REASONS[-said - 1] if said else ""


def read(rig):
    return {(m.name, *m.tags): m for m in rig.collector.metrics.read(rig.collector.window)}


def values(rig):
    return {key[0] if len(key) == 1 else key: m.value for key, m in read(rig).items()}


def test_counters(rig):
    assert send(rig, "a:1|c", "b:2.5|c", "a:41|c", "c:1|c|@0.1", "d:-3|c") == ""
    assert values(rig) == {"a": 42, "b": 2.5, "c": 10, "d": -3}
    assert read(rig)["a",].kind == "counter"
    assert (rig.totals("statsd").datagrams, rig.totals("statsd").samples) == (1, 5)


def test_gauges(rig):
    assert send(rig, "a:7|g", "a:+3|g", "a:-1.5|g", "b:+4|g", "c:333|g", "c:10|g") == ""
    assert values(rig) == {"a": 8.5, "b": 4, "c": 10}


def test_timers(rig):
    assert send(rig, *(f"t:{i}|ms" for i in range(1, 101)), "h:0.5|h", "h:1.5|d") == ""
    timer = read(rig)["t",]
    assert (timer.kind, timer.updates, timer.value) == ("timer", 100, 5050)
    assert timer.distribution.count == 100
    assert timer.distribution.percentile(50) == pytest.approx(50_000, rel=10**-TIMER_DIGITS)
    assert timer.distribution.percentile(99) == pytest.approx(99_000, rel=10**-TIMER_DIGITS)
    assert (timer.distribution.smallest, timer.distribution.largest) == (1000, 100_000)
    histogram = read(rig)["h",]
    assert (histogram.kind, histogram.value, histogram.distribution.largest) == ("histogram", 2, 1500)


def test_timers_that_were_sampled(rig):
    assert send(rig, "t:5|ms|@0.25", "t:5|ms|@0.25") == ""
    assert read(rig)["t",].updates == 8


def test_sets_count_in_their_window(rig):
    assert send(rig, "s:a|s", "s:b|s", "s:a|s", "s:user-17|s") == ""
    assert round(values(rig)["s"]) == 3
    ended = rig.collector.end_window()
    assert send(rig, "s:z|s") == ""
    assert round(values(rig)["s"]) == 1
    (before,) = rig.collector.metrics.read(ended)
    assert round(before.value) == 3
    for _ in range(2):
        rig.collector.end_window()
    assert values(rig)["s"] == 0


def test_tags_are_part_of_the_name(rig):
    assert send(rig, "a:1|c|#x:1,y", "a:2|c|#x:2", "a:4|c", "a:8|c|@0.5|#x:1,y", "a:1|c|#x:1|c:container|T1") == ""
    assert values(rig) == {("a", "x:1", "y"): 17, ("a", "x:2"): 2, "a": 4, ("a", "x:1"): 1}


def test_kinds_of_one_name_are_apart(rig):
    assert send(rig, "a:1|c", "a:2|g", "a:3|ms") == ""
    found = {m.kind: m.value for m in rig.collector.metrics.read(1)}
    assert found == {"counter": 1, "gauge": 2, "timer": 3}


def test_several_values(rig):
    assert send(rig, "a:1:2:3|c", "t:4:5|ms") == ""
    assert (values(rig)["a"], read(rig)["t",].updates) == (6, 2)


def test_workers_are_added_up(make):
    rig = make(workers=2)
    for worker in range(2):
        assert (
            send(rig, f"a:{worker + 1}|c", f"t:{10 * (worker + 1)}|ms", f"s:{worker}|s", "s:both|s", worker=worker)
            == ""
        )
    rig.collector.tick(10**12 + 5, 0)
    assert send(rig, "g:1|g", worker=1) == ""
    rig.collector.tick(10**12 + 6, 0)
    assert send(rig, "g:2|g", worker=0) == ""
    found = values(rig)
    assert (found["a"], found["t"], round(found["s"]), found["g"]) == (3, 30, 3, 2)
    assert read(rig)["t",].distribution.count == 2


class Client(StatsClientBase):
    """The package statsd's client, whose datagrams go to a test."""

    def __init__(self, take):
        self._take, self._prefix, self._ipv6 = take, "app", False

    def _send(self, data):
        self._take(data)

    def pipeline(self):
        raise NotImplementedError


def test_a_client_from_pypi(rig):
    client = Client(lambda line: send(rig, line) == "" or pytest.fail(line))
    client.incr("hits")
    client.incr("hits", 4)
    client.decr("hits", 2)
    client.gauge("queue", 12)
    client.gauge("queue", -2, delta=True)
    client.timing("wait", 320)
    client.timing("wait", 0.00001)
    client.set("users", "alice")
    client.set("users", "bob")
    found = values(rig)
    assert (found["app.hits"], found["app.queue"], found["app.wait"]) == (3, 10, pytest.approx(320))
    assert round(found["app.users"]) == 2


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("a", "metric"),
        (":1|c", "metric"),
        ("a:1", "metric"),
        ("a:|c", "metric"),
        ("a|c", "metric"),
        ("a\x01:1|c", "metric"),
        ("a" * 185 + ":1|c", "metric"),
        ("a" * 100 + ":1|c|#" + "b" * 90, "metric"),
        ("a:1|", "metric-kind"),
        ("a:1|x", "metric-kind"),
        ("a:1|mx", "metric-kind"),
        ("a:1|cc", "metric-kind"),
        ("a:x|c", "metric-value"),
        ("a:1x|c", "metric-value"),
        ("a:.|c", "metric-value"),
        ("a:-|g", "metric-value"),
        ("a:1e|g", "metric-value"),
        ("a:1e+|g", "metric-value"),
        ("a:1e1234|g", "metric-value"),
        ("a:1e99|g", "metric-value"),
        ("a:nan|g", "metric-value"),
        ("a:inf|g", "metric-value"),
        ("a:1000000000001|g", "metric-value"),
        ("a:-1|ms", "metric-value"),
        ("a:1::2|c", "metric-value"),
        ("a:1|c|@0", "metric-value"),
        ("a:1|c|@2", "metric-value"),
        ("a:1|c|@x", "metric-value"),
        ("a:9999999999|c|@0.000001", "metric-value"),
    ],
)
def test_refusals(rig, line, reason):
    assert send(rig, "good:1|c", line, "good:1|c") == reason
    assert rig.refusals() == {reason: 1}
    assert values(rig)["good"] == 2


def test_new_metrics_beyond_the_limit_are_refused(make):
    """Strangers fill the table; what is there goes on, and what is idle gives way."""
    rig = make(metrics=64, timers=2, sets=2, metric_idle_s=10)
    assert send(rig, "t0:1|ms", "t1:1|ms", "s0:x|s", "s1:x|s") == ""
    assert send(rig, "t2:1|ms") == "metric-limit"
    assert send(rig, "s2:x|s") == "metric-limit"
    for i in range(60):
        assert send(rig, f"m{i}:1|c") == ""
    assert send(rig, "one-more:1|c") == "metric-limit"
    assert send(rig, "m7:1|c", "t0:5|ms") == ""
    for second in range(1, 40):
        rig.collector.tick(10**12 + second * 10**9, 0)
        assert send(rig, "m7:1|c") == ""
    for i in range(63):
        assert send(rig, f"n{i}:1|c") in ("", "metric-limit")
    found = values(rig)
    assert found["m7"] == 41
    assert rig.collector.metrics.views[0].evicted >= 50
    assert send(rig, "t9:8|ms", "s9:x|s") in ("", "metric-limit")
    assert read(rig).get(("t9",), None) is None or read(rig)["t9",].distribution.count == 1


numbers = st.floats(-1e11, 1e11, allow_nan=False)


@given(
    st.one_of(numbers, st.integers(-(10**11), 10**11), st.floats(-1, 1)), st.sampled_from(["", ".3f", ".6f", "e", "g"])
)
def test_numbers(endless, value, form):
    text = format(value, form)
    endless.collector.feed(b"n:0|g", statsd=True)
    assert endless.collector.feed(f"n:{'' if text[0] == '-' else '+'}{text}|g".encode(), statsd=True) == 0
    assert read(endless)["n",].value == pytest.approx(float(text), rel=1e-9, abs=1.1e-6)
    assert not math.isnan(read(endless)["n",].value)


LINES = b"a:1|c\nb:2.5e3|g|#x:y\nt:4:5|ms|@0.5\ns:abc|s\nh:+1|h\n"


@given(
    st.lists(st.tuples(st.integers(0, 200), st.sampled_from(b":|@#\n+-.e09az\0\x7f\xff")), max_size=10),
    st.integers(0, 60),
)
def test_mutations_are_counted_never_read_beyond(endless, changes, cut):
    """Interpreted, a read outside of the datagram is an error."""
    data = bytearray(LINES)
    for at, value in changes:
        data[at % len(data)] = value
    del data[len(data) - cut % len(data) :]
    before = sum(endless.refusals().values())
    said = endless.collector.feed(bytes(data), statsd=True)
    assert (said != 0) == (sum(endless.refusals().values()) > before)
    endless.collector.metrics.read(endless.collector.window)
