"""af_packet beside testpmd's net_af_packet, each on a veth of its own; and beside what users have today.

See :mod:`wirespeed.bench.port_rows` for the rows. The source is :mod:`wirespeed.bench.port_load` at the far end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wirespeed.bench import port_today
from wirespeed.bench.port_load import Load
from wirespeed.bench.port_rows import SMALL, Side, Stand, forwarded, frame
from wirespeed.bench.port_rows import rows as measure
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.veths import LEFT, RIGHT, Veths
from wirespeed.eal import cores


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    with Veths() as mine, Veths() as theirs:
        stand = Stand(
            "af_packet",
            f"af_packet:left,netns={mine.middle}",
            "net_af_packet0,iface=left,qdisc_bypass=1",
            theirs.middle,
            Side(mine.left, "eth0"),
            Side(theirs.left, "eth0"),
        )
        found = measure(stand, settings, tell)
    return [*found, *today(forwarded(found), settings, tell)]


def today(ours: float, settings: Settings, tell: Callable[[str], None]) -> list[Row]:
    """The ways of today, under the same load."""
    placement = cores.choose(1)
    worker = placement.workers[0]
    ways: dict[str, float | None] = {}
    with Veths() as veths:
        with Load(veths.left, "eth0", frame(SMALL), placement.control) as source:
            tell("a plain socket")
            ways["a plain Python socket"] = port_today.socket_rate(
                veths.middle, "left", worker, source, settings.seconds
            )
            tell("scapy")
            ways["scapy"] = port_today.scapy_rate(veths.middle, "left", worker, source, settings.seconds)
        tell("the kernel")
        veths.forward_by_kernel()
        veths.inside(veths.left, "ping", "-c", "1", RIGHT)
        station = bytes.fromhex(veths.mac(veths.middle, "left").replace(":", ""))
        with Load(veths.left, "eth0", station + frame(SMALL)[6:], placement.control) as source:
            ways[f"the kernel, routing from {LEFT} to {RIGHT}"] = port_today.kernel_rate(
                veths, source, settings.seconds
            )
    return port_today.rows("port af_packet", ours, ways)


__all__ = ["rows", "today"]
