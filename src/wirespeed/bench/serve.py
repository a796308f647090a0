"""How many requests a second does a service answer? ``wirespeed bench serve``

=====================  ============================================================================================
in memory              requests from a capture in memory, answers into a sink: cycles of one core a request; the same
                       with a handler in plain Python, which runs on the other core
over memif             the client is testpmd (``flowgen``) on the other core, its counters count the answers; the peer
                       is testpmd as echo (``macswap``) at the same place in the same run
over af_xdp            a client at the far end of a veth, how many and how late: :mod:`wirespeed.bench.serve_veth`
idle                   time on a core while nothing comes, there
=====================  ============================================================================================

Frames of 60 bytes are 64 on a wire. Other servers' rows: :data:`SERVERS`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from importlib import import_module
from statistics import median

from wirespeed.apps.service import Service
from wirespeed.bench import serve_memory as in_memory
from wirespeed.bench import serve_veth
from wirespeed.bench.hop import hop_ns
from wirespeed.bench.port_memif import SCENES, Turn, connected, count, memif_path, places, testpmd, their_turn
from wirespeed.bench.result import Row
from wirespeed.bench.serve_client import shown
from wirespeed.bench.serve_memory import echo, serving
from wirespeed.bench.settings import Settings
from wirespeed.bench.testpmd import version

SERVERS: dict[str, str] = {
    "steps": "wirespeed.bench.serve_steps",
    "dns": "wirespeed.bench.serve_dns",
    "memcached": "wirespeed.bench.serve_memcached",
}
"""Other servers' benches: a name, and the module whose ``rows(settings, tell)`` measures it."""

Tell = Callable[[str], None]

_BENCH = "serve"
_FLOWGEN = ("10.254.0.0", "00:01:02:03:04:00", 1001)  # who testpmd's flowgen is, and the port it asks
_ASKED = ("10.253.0.0/16", "00:01:02:03:04:01")


def rows(settings: Settings, tell: Tell) -> Sequence[Row]:
    """Measure every row."""
    tell("in memory")
    found = [
        Row(_BENCH, "UDP echo of 64 B in memory", "cycles/request", in_memory.cycles(settings)),
        _over_memif(settings, tell),
    ]
    if not settings.quick:  # another loop to compile
        plain = in_memory.requests(settings, compiled=False)
        found.append(Row(_BENCH, "a plain-Python handler, in memory", "requests/s", plain))
    found += serve_veth.rows(settings, tell)
    for name, module in SERVERS.items():
        if settings.quick and name != "steps":  # each is minutes of compiling
            continue
        tell(name)
        found += import_module(module).rows(settings, tell)
    return found


def _over_memif(settings: Settings, tell: Tell) -> Row:
    what = "UDP echo of 64 B over memif"
    ours: list[Turn] = []
    theirs: list[Turn] = []
    for number in range(settings.pairs):
        tell(f"{what}: pair {number + 1} of {settings.pairs}")
        ours.append(_our_turn(settings))
        if settings.peer:
            theirs.append(their_turn(SCENES[3], "server", 64, settings))
    settings.notes.append(f"{what}: ours {shown(ours)}; testpmd {shown(theirs) if theirs else 'not run'}")
    value = median(turn.rate for turn in ours)
    if not theirs:
        return Row(_BENCH, what, "requests/s", value)
    ratio = median(a.rate / b.rate for a, b in zip(ours, theirs, strict=True))
    peer = median(turn.rate for turn in theirs)
    return Row(_BENCH, what, "requests/s", value, f"{version()} testpmd macswap", peer, ratio)


def _our_turn(settings: Settings) -> Turn:
    ours, far = places()
    client, mac, asked = _FLOWGEN
    with memif_path() as path, contextlib.ExitStack() as stack:
        service = Service(
            f"memif:{path},role=server", "10.254.255.1/16", local=_ASKED[0], mac=_ASKED[1], neighbours={client: mac}
        )
        service.udp(asked)(echo)
        stack.enter_context(serving(service))
        peer = stack.enter_context(testpmd("client", path, SCENES[3].peer, 64, far, ours))
        connected(service.port.link)
        before = hop_ns(ours, far)
        answered = count(peer, SCENES[3], settings.seconds)
        assert service.engine is not None
        service.engine.pause()
        return Turn(answered, before, hop_ns(ours, far))


__all__ = ["SERVERS", "rows"]
