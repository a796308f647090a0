"""Where packets may ask for what a sink's device does not do, the loop finishes them; elsewhere nothing is written."""

import pytest

import wirespeed as ws
from wirespeed.graph.emit import emit
from wirespeed.graph.plan import make_plan
from wirespeed.mem.pool import Pool
from wirespeed.ports.null import Sink, SinkOptions
from wirespeed.ports.offloads import Offload
from wirespeed.ports.software.software import Software
from wirespeed.tables.toeplitz import Toeplitz


class Plain(Sink):
    """A sink whose device does nothing by itself."""

    offloads = Offload.NONE


@ws.node
def plain(pkt):
    """Asks for nothing."""


@ws.node
def tags(pkt):
    """Asks for a tag."""
    pkt.with_meta().vlan_tci = 7


def text(source, node, sink):
    """The loop of such a graph."""
    graph = ws.Graph()
    graph.add(source >> node >> sink)
    with Pool(4096) as pool, Toeplitz() as hashed:
        for port in graph.ports:
            port.open(pool, int(port is source), int(port is sink))
            port.software = Software(port, 1, hashed)
        written = emit(make_plan(graph)).text
        for port in graph.ports:
            port.software.close()
            port.close()
    return written


@pytest.mark.parametrize(
    ("spec", "node", "sink", "finished"),
    [
        ("null:", plain, Plain, False),
        ("null:coalesce=yes", plain, Plain, True),
        ("null:vlan_strip=yes", plain, Plain, True),
        ("null:", tags, Plain, True),
        ("null:coalesce=yes", tags, Sink, False),
    ],
)
def test_who_finishes_packets(spec, node, sink, finished):
    assert ("def send_0(" in text(ws.port(spec), node, sink("sink:", SinkOptions()))) is finished
