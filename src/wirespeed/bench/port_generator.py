"""How fast are packets made, and what does it cost to read them? The generator beside testpmd's.

======================  ===========================================================================================
1,000 flows             64-byte frames of 1,000 flows into a port without a wire; testpmd: flowgen, 1,000 flows
one flow                the same frame over and over; testpmd: txonly
stamped, IMIX, paced    what the peer has no equal for: numbers and times in each packet; mixed sizes; a given rate
meter                   cycles a packet: stamped packets into a meter, less the same into a sink, in turns
======================  ===========================================================================================

testpmd's port is net_null without receiving and without copying: what it is given it frees, as our sink does. Both
write 60 bytes of headers and payload for each packet; flowgen sums up each header, ours are in the table.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence

from wirespeed.bench.disturbance import observer
from wirespeed.bench.forward import turns
from wirespeed.bench.pairing import Paired, interleave
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import Setting, Testpmd, version
from wirespeed.eal import cores
from wirespeed.eal.clock import tsc_hz
from wirespeed.graph.graph import Graph
from wirespeed.ports.generator.port import Generator
from wirespeed.ports.port import Port, port

FLOWS: int = 1000
_BENCH = "port generator"
_PACED = 1_000_000  # packets a second
_NULL = "net_null0,size=60,copy=0,no-rx=1"

Tell = Callable[[str], None]


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    return [
        _made(settings, tell, "64 B, 1,000 flows", f"flows={FLOWS}", "flowgen", f"--flowgen-flows={FLOWS}"),
        _made(settings, tell, "64 B, one flow", "flows=1,sport=1024", "txonly", "--txpkts=60"),
        _made(settings, tell, "64 B, 1,000 flows, stamped", f"flows={FLOWS},stamp=yes"),
        _made(settings, tell, "IMIX, 1,000 flows, stamped", f"flows={FLOWS},stamp=yes,imix=yes"),
        _meter(settings, tell),
        _paced(settings, tell),
    ]


def _graph(options: str, sink: str = "sink:") -> Graph:
    graph = Graph()
    graph.add(_source(options) >> port(sink))
    return graph


def _source(options: str) -> Port:
    return port(f"generator:{options}")


def _made(settings: Settings, tell: Tell, metric: str, options: str, mode: str = "", more: str = "") -> Row:
    """Packets a second into a sink; beside a mode of testpmd, if there is one for it."""
    placement = cores.choose(1)
    both = (placement.control, placement.workers[0])
    tell(f"{metric}: compiling")
    with contextlib.ExitStack() as stack:
        peer, name = None, None
        if settings.peer and mode:
            peer = stack.enter_context(Testpmd(None, Setting(mode), cores=both, vdevs=[_NULL], options=[more]))
            name = f"{version()} testpmd {mode}, net_null"
            settings.notes.append(peer.note)
        ours = stack.enter_context(turns(_graph(options), settings))
        paired = interleave(
            ours.measure,
            functools.partial(peer.measure, settings.seconds) if peer else None,
            settings.pairs,
            progress=_teller(tell, metric),
            observe=observer([peer.pid]) if peer else None,
        )
    _note(settings, metric, paired)
    return Row.of(_BENCH, metric, "packets/s", paired, name)


def _meter(settings: Settings, tell: Tell) -> Row:
    """What a packet costs in the meter."""
    metric = "meter, 64 B"
    options = f"flows={FLOWS},stamp=yes"
    tell(f"{metric}: compiling")
    with turns(_graph(options, "meter:"), settings) as metered, turns(_graph(options), settings) as freed:

        def cost() -> float:
            return tsc_hz() / metered.measure() - tsc_hz() / freed.measure()

        paired = interleave(cost, None, settings.pairs, progress=_teller(tell, metric), lower_is_better=True)
    _note(settings, metric, paired)
    return Row.of(_BENCH, metric, "cycles/packet", paired)


def _paced(settings: Settings, tell: Tell) -> Row:
    """How far a rate is missed, by the port's own clock: what is left is who else had the core."""
    metric = f"paced, {_PACED:,} packets/s: error"
    tell(f"{metric}: compiling")
    source = Generator.from_options(flows=FLOWS, rate=_PACED, stamp=True)
    graph = Graph()
    graph.add(source >> port("sink:"))
    with turns(graph, settings) as ours:

        def error() -> float:
            source.send(1 << 40, _PACED)
            ours.measure()
            return abs(source.pace().error_ppm)

        paired = interleave(error, None, settings.pairs, progress=_teller(tell, metric), lower_is_better=True)
    _note(settings, metric, paired)
    return Row.of(_BENCH, metric, "ppm", paired)


def _note(settings: Settings, metric: str, paired: Paired) -> None:
    settings.notes.append(f"{_BENCH}, {metric}: {paired.note}")


def _teller(tell: Tell, metric: str) -> Callable[[int, int, str], None]:
    return lambda done, wanted, text: tell(f"{metric}: pair {done}/{wanted} {text}")


__all__ = ["rows"]
