"""What nodes take from around them: one graph with everything, checked against the interpreted nodes."""

import enum
import types

import numpy as np
import pytest
from feed import Collect, Feed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.errors import NodeError
from wirespeed.graph.build import build
from wirespeed.graph.emit import emit
from wirespeed.graph.plan import make_plan
from wirespeed.jit import COMPILED
from wirespeed.wire import checksum, ipv4

NEGATIVE = -5
BIG = 0x1234_5678_9ABC
RATIO = 0.5
YES = True
NUMPY = np.int64(7)
PAIR = (3, -4, True)
settings = types.ModuleType("settings")
settings.LIMIT = 60
settings.inner = types.ModuleType("inner")
settings.inner.STEP = 2


class Colour(enum.IntEnum):
    """Numbers with names."""

    RED = 1
    BLUE = 4


class Cache(ws.Header):
    """A header with the name of something in the loop's own module, and a method with a constant."""

    key = ws.be16(0)
    value = ws.be16(2)
    SIZE = 4

    def plus(self, more):
        """Uses a number of this file."""
        return self.value + more + NEGATIVE


Cache.bind(ws.Udp, dport=4242)

total = ws.counter("total")
mine = ws.per_worker(seen=0, longest=0)
routes = ws.Lpm4(groups=16)
routes.add("10.0.0.0/8", 3)
routes.add("10.0.0.3/32", 4)
talkers = ws.Tally(64)


def scaled(pkt, factor=2):
    """A helper with a default and state, which calls another."""
    total.add(factor)
    return deeper(pkt.length, extra=1) * factor


def deeper(value, extra=0):
    """State two calls down."""
    mine.seen += 1
    return value + extra


@ws.inline
def parity(value):
    """An inline function of the user's."""
    return value & 1


def close_over(step):
    """A node that closes over a number and a function."""

    def both(value):
        return value + step

    @ws.node(drops=["odd-key"])
    def closed(pkt):
        """Uses what is around it."""
        if pkt[Cache]:
            pkt[Cache].value = both(pkt[Cache].value)
            if parity(pkt[Cache].key) == 1:
                return "odd-key"

    return closed


closed = close_over(100)


@ws.node(outputs=["far"], drops=["short"])
def everything(pkt):
    """Every kind of capture."""
    total.add(1)
    mine.longest = max(mine.longest, pkt.length)
    if NEGATIVE**2 != 25 or NUMPY != 7 or not YES or RATIO * 2 != 1.0 or PAIR[1] != -4 or BIG >> 44 != 1:
        return "short"
    if Colour.BLUE != 4 or ipv4.PROTOCOL_UDP != 17 or settings.inner.STEP != 2:
        return "short"
    if pkt.length < settings.LIMIT - Colour.RED:
        return "short"
    if scaled(pkt) + scaled(pkt, 3) + scaled(pkt, factor=1) < 6 * pkt.length + 6:
        return "short"
    if pkt.ipv4:
        talkers.add(pkt.ipv4.src, pkt.length)
        checksum.decrement_ttl(pkt.ipv4)
        if routes.lookup(pkt.ipv4.dst) == 4:
            pkt.eth.dst = BIG
            return "far"
    if pkt[Cache].plus(5) == 9:
        pkt[Cache].key += 1


FRAMES = [
    ipv4_udp(dport=4242, payload=bytes([0, key, 0, value]) + bytes(20), dst=f"10.0.0.{last}", ttl=9)
    for key, value, last in ((1, 9, 1), (2, 9, 2), (2, 8, 3), (4, 0xFF, 4), (5, 3, 3), (1, 8, 9))
] + [ipv4_udp(dport=53, payload=bytes(40)), bytes(30), bytes(70)]


def interpreted(frames):
    """What ``everything`` and ``closed`` do, by trace: (bytes out, bytes far, drops)."""
    out, far, drops = [], [], []
    for frame in frames:
        said = everything.trace(frame)
        if said.door == "far":
            far.append(said.data)
        elif said.dropped:
            drops.append(said.door)
        else:
            then = closed.trace(said.data)
            drops.append(then.door) if then.dropped else out.append(then.data)
    return out, far, drops


def test_everything_at_once():
    out, far = Collect(), Collect("far")
    graph = ws.Graph()
    graph.add(Feed(FRAMES) >> everything >> closed >> out)
    graph.add(everything["far"] >> far)
    report = ws.run(graph)
    seen = (total.value, mine.seen, mine.longest, dict(talkers))
    total.reset()
    mine[0].seen = mine[0].longest = 0
    expected_out, expected_far, drops = interpreted(FRAMES)
    assert out.packets == expected_out
    assert far.packets == expected_far
    assert report.nodes["everything"].outputs == {"": len(expected_out) + drops.count("odd-key"), "far": 2}
    assert report.nodes["everything"].drops == {"short": drops.count("short")}
    assert report.nodes["closed"].drops == {"odd-key": drops.count("odd-key")}
    assert drops.count("short") == 1
    assert drops.count("odd-key") > 0
    assert report.in_use == 0
    assert seen[:3] == (len(FRAMES) + (len(FRAMES) - 1) * 6, [(len(FRAMES) - 1) * 3], [82])
    assert seen[3] == {0x0A000001: sum(map(len, FRAMES[:7]))}
    assert (total.value, mine.seen, mine.longest) == seen[:3]  # the traces counted the same
    assert dict(talkers) == {key: 2 * count for key, count in seen[3].items()}


def test_the_loop_is_a_readable_module():
    graph = ws.Graph()
    graph.add(Feed([]) >> everything >> closed >> Collect())
    graph.add(everything["far"] >> Collect("far"))
    emitted = emit(make_plan(graph))
    compile(emitted.text, "loop", "exec")
    assert "class Cache" not in emitted.text
    assert "Cache_2 = " in emitted.text  # not the pool's
    assert emit(make_plan(graph)).digest == emitted.digest
    for origin in ("test_capture.py", "everything", "(-5) ** 2"):
        assert origin in emitted.text


def test_a_number_that_changes_is_noticed():
    graph = ws.Graph()
    graph.add(Feed([]) >> everything >> closed >> Collect())
    graph.add(everything["far"] >> Collect("far"))
    captured = emit(make_plan(graph)).captured
    assert not captured.changed()
    for scope, name in ((globals(), "BIG"), (vars(settings), "LIMIT"), (vars(settings.inner), "STEP")):
        before = scope[name]
        scope[name] = before + 1
        assert captured.changed(), name
        scope[name] = before
        assert not captured.changed()


# What cannot be captured -----------------------------------------------------------------------------------

TABLE = {}
TEXT = "text"
COUNT = 0


def recursive(value):
    return recursive(value - 1) if value else 0


def uses_a_dict(pkt):
    if TABLE:
        return "a"


def uses_text(pkt):
    if TEXT:
        return "a"


def prints(pkt):
    print(pkt)


def undefined(pkt):
    return "a" if nothing_there else None  # noqa: F821


def counts(pkt):
    global COUNT
    COUNT += 1


def sets_a_module(pkt):
    settings.LIMIT = 3


def not_in_the_module(pkt):
    if settings.LIMITS:
        return "a"


def calls_itself(pkt):
    if recursive(3):
        return "a"


def helper_prints(value):
    x = 1
    print(x)
    return value


def uses_that(pkt):
    if helper_prints(3):
        return "a"


def graph_of(function):
    node = ws.node(outputs=["a"])(function)
    graph = ws.Graph()
    graph.add(Feed([]) >> node >> Collect())
    graph.add(node["a"] >> Collect("a"))
    return graph


def at(function, text):
    """file:line of the line with ``text`` in ``function``."""
    code = function.__code__
    with open(code.co_filename) as source:
        lines = source.read().splitlines()
    return f"{code.co_filename}:{next(i for i in range(code.co_firstlineno, len(lines)) if text in lines[i]) + 1}: "


@pytest.mark.parametrize(
    ("function", "place", "message"),
    [
        (uses_a_dict, "TABLE", "uses 'TABLE', a dict; a node can use numbers, functions, header classes and state"),
        (uses_text, "TEXT", "uses 'TEXT', a str"),
        (prints, "print", "uses 'print', which is not allowed in a node"),
        (undefined, "nothing_there", "uses 'nothing_there', which is not defined"),
        (counts, "global", "changes COUNT from outside; a node keeps what changes in ws.counter()"),
        (sets_a_module, "LIMIT", "changes settings.LIMIT; a node keeps what changes in ws.counter()"),
        (not_in_the_module, "LIMITS", "settings has no 'LIMITS'"),
    ],
)
def test_what_a_node_cannot_use(function, place, message):
    with pytest.raises(NodeError) as caught:
        emit(make_plan(graph_of(function)))
    assert str(caught.value).startswith(at(function, place))
    assert message in str(caught.value)


def test_what_a_helper_cannot_use():
    for function, helper, place in ((uses_that, helper_prints, "print"), (calls_itself, recursive, "recursive(value")):
        with pytest.raises(NodeError) as caught:
            emit(make_plan(graph_of(function)))
        assert str(caught.value).startswith(at(helper, place))


# What Numba refuses ----------------------------------------------------------------------------------------


def bad_attribute(pkt):
    """Doc."""
    x = 1

    y = pkt.nonsense  # here
    return "a" if x + y else None


def bad_types(pkt):
    if pkt.length + "text":  # here
        return "a"


def bad_state(pkt):
    mine.seen += 1
    mine.nothing += 1  # here


def bad_helper_inside(pkt, factor=3):
    """Doc."""
    more = factor * 2
    return pkt.nowhere + more  # here


def middle(pkt):
    return bad_helper_inside(pkt)


def bad_helper(pkt):
    total.add(1)
    if middle(pkt):
        return "a"


@pytest.mark.skipif(not COMPILED, reason="types are only looked at by the compiler")
@pytest.mark.parametrize(
    ("function", "where", "message"),
    [
        (bad_attribute, bad_attribute, "does not compile: Unknown attribute 'nonsense'"),
        (bad_types, bad_types, "does not compile: No implementation of function"),
        (bad_state, bad_state, "Unknown attribute 'nothing'"),
        (bad_helper, bad_helper_inside, "Unknown attribute 'nowhere'"),
    ],
)
def test_what_does_not_compile_points_at_the_users_line(function, where, message):
    with pytest.raises(NodeError) as caught:
        build(make_plan(graph_of(function)))
    text = str(caught.value)
    assert text.startswith(at(where, "# here") + f"{function.__name__} does not compile: ")
    assert message in text
    assert text.endswith("# here")


@pytest.mark.skipif(not COMPILED, reason="types are only looked at by the compiler")
def test_nothing_stays_open_when_a_node_does_not_compile(open_files):
    graph = graph_of(bad_attribute)
    before = open_files()
    with pytest.raises(NodeError):
        Engine(graph)
    assert open_files() == before
    assert [port.closed for port in graph.sinks] == [1, 1]
