"""tap beside testpmd's net_tap, each with an interface of its own in one namespace.

See :mod:`wirespeed.bench.port_rows` for the rows. The host is the source: an XDP program that redirects into the
interface's queue. Our port has offloads (a virtio-net header in front of every frame), which net_tap has not; rows
without them follow.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from wirespeed.bench.port_rows import Side, Stand
from wirespeed.bench.port_rows import rows as measure
from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.bench.veths import Veths
from wirespeed.bench.xdp_traffic import Source


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure every row."""
    found: list[Row] = []
    with Veths() as veths:
        netns = veths.left
        for name, more in (("tap", ""), ("tap, no offloads", ",offloads=no")):
            stand = Stand(
                name,
                f"tap:ours0,netns={netns}{more}",
                "net_tap0,iface=theirs0",
                netns,
                Side(netns, "ours0"),
                Side(netns, "theirs0"),
                Source,
            )
            found += measure(stand, settings, tell)
    return found


__all__ = ["rows"]
