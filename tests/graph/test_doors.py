"""How a node says by which door a packet leaves, and what is said when it does not."""

import re
import textwrap

import pytest

import wirespeed as ws
from wirespeed.errors import NodeError
from wirespeed.graph.source import doors, number_doors


def line_of(function, text):
    """``file:line`` of the line of ``function`` that contains ``text``."""
    code = getattr(function, "function", function).__code__
    with open(code.co_filename) as source:
        lines = source.read().splitlines()
    number = next(i for i in range(code.co_firstlineno - 1, len(lines)) if text in lines[i])
    return f"{code.co_filename}:{number + 1}"


@ws.node(outputs=["dns"], drops=["not-dns"])
def classify(pkt):
    """Send DNS one way, drop the rest.

    More about it.
    """
    if pkt.udp and (pkt.udp.dport == 53 or pkt.udp.sport == 53):
        return "dns"
    return "not-dns"


def test_the_declaration_is_the_manual():
    assert (classify.name, classify.outputs, classify.drops) == ("classify", ("dns",), ("not-dns",))
    assert classify.summary == "Send DNS one way, drop the rest."
    assert classify.__doc__.endswith("More about it.")
    assert classify.where == line_of(classify, "@ws.node")
    assert doors(classify) == ["", "dns", "not-dns"]
    assert repr(classify) == "<node classify>"


def test_the_doors_it_uses():
    source, used = number_doors(classify)
    assert used == {"dns", "not-dns"}
    assert source.at(source.tree) == line_of(classify, "def classify")


def falls(pkt):
    if pkt.length > 9:
        return "a"


def both_ways(pkt):
    if pkt.length > 9:
        return "a"
    else:
        return


def never_falls(pkt):
    while True:
        if pkt.length:
            return "a"


def breaks(pkt):
    while True:
        if pkt.length:
            break


def chosen(pkt):
    return "a" if pkt.length > 9 else ("b" if pkt.length > 3 else None)


@pytest.mark.parametrize(
    ("function", "used"),
    [(falls, {"", "a"}), (both_ways, {"", "a"}), (never_falls, {"a"}), (breaks, {""}), (chosen, {"", "a", "b"})],
)
def test_the_default_door(function, used):
    assert number_doors(ws.node(outputs=["a", "b"])(function))[1] == used


def undeclared(pkt):
    if pkt.length:
        return "dsn"
    return "dns"


def computed(pkt):
    door = "dns"
    return door


def formatted(pkt):
    return f"d{'ns'}"


def number(pkt):
    return 1


def empty(pkt):
    return ""


def nested(pkt):
    def inner():
        return "dns"

    return "dns"


@pytest.mark.parametrize(
    ("function", "line", "message"),
    [
        (undeclared, 'return "dsn"', "returns 'dsn', which it does not declare; did you mean 'dns'?"),
        (computed, "return door", "returns 'door', which is only known at run time; return the name of a door"),
        (formatted, "return f", "only known at run time"),
        (number, "return 1", "returns '1', which is only known at run time"),
        (empty, 'return ""', "returns '', which it does not declare"),
        (nested, "def inner", "defines a function inside; define it outside"),
    ],
)
def test_a_door_that_is_none_points_at_its_line(function, line, message):
    node = ws.node(outputs=["dns"])(function)
    graph = ws.Graph()
    graph.add(ws.port("null:") >> node)
    graph.add(node["dns"] >> ws.port("sink:"))
    with pytest.raises(NodeError) as caught:
        graph.check()
    assert str(caught.value).startswith(f"{line_of(function, line)}: {function.__name__} ")
    assert message in str(caught.value)


def test_the_line_is_right_under_decorators_and_in_a_method_of_nothing():
    @ws.node(
        outputs=["a"],
        drops=["b"],
    )
    def tall(pkt):
        """With a docstring
        of two lines."""

        return "c"  # here

    with pytest.raises(NodeError, match=re.escape(line_of(tall, "# here") + ":")):
        number_doors(tall)


def test_declarations_are_checked():
    def node(pkt):
        """Nothing."""

    where = re.escape(line_of(node, "def node"))
    for doors_, message in (
        ({"outputs": ["a"], "drops": ["a"]}, "declares the door 'a' twice"),
        ({"outputs": ["a", "a"]}, "declares the door 'a' twice"),
        ({"drops": [""]}, "a door is a non-empty name"),
        ({"outputs": [3]}, "a door is a non-empty name"),
    ):
        with pytest.raises(NodeError, match=f"{where}: node .*{message}"):
            ws.node(**doors_)(node)
    with pytest.raises(NodeError, match="takes 2 arguments; a node takes the packet alone"):
        ws.node(lambda pkt, other: None)


def test_doors_are_taken_by_name():
    with pytest.raises(NodeError, match="no output 'dnss': did you mean 'dns'"):
        classify["dnss"]
    with pytest.raises(NodeError, match=r"classify\['not-dns'\] is a drop: it ends there; declare it in outputs"):
        classify["not-dns"]


def test_what_is_no_def():
    with pytest.raises(NodeError, match="a node is a plain def"):
        number_doors(ws.node(lambda pkt: None))
    scope = {"ws": ws}
    exec(textwrap.dedent("@ws.node\ndef unseen(pkt):\n    return None\n"), scope)
    with pytest.raises(NodeError, match="its source cannot be read"):
        number_doors(scope["unseen"])


def test_a_node_once_more_under_another_name():
    other = classify.named("again")
    assert (other.name, other.outputs, other.function) == ("again", ("dns",), classify.function)
