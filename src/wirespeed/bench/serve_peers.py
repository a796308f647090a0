"""Who echoes on a veth, by name, and a table's rows of what each of them did turn by turn.

=============  ====================================================================================================
``ours``       a service with ``af_xdp``
``mmsg``       a kernel socket, recvmmsg and sendmmsg in compiled code
``asyncio``    and ``uvloop``: the same in Python's event loops
``busy``       a kernel socket that is polled without end, with SO_BUSY_POLL
``testpmd``    DPDK's, with its driver ``net_af_xdp``, which only swaps Ethernet addresses: what C can do at our place
``awake``      ours, whose worker never sleeps
``asleep``     ours, whose worker falls asleep after each request (``idle="power"``): what polling gains
``fetching``   ours, awake, and the worker has the driver look for frames (``busy_poll=50``)
``mirror``     the veth's driver itself (XDP_TX): no process sees the request, so none can be quicker
``clock``      a core that only reads the clock: what it is stopped for, no server on it can go below
=============  ====================================================================================================
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from wirespeed.bench.result import Row, lower_is_better, ratio
from wirespeed.bench.testpmd import version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_SAID = {
    "mmsg": "kernel socket, recvmmsg",
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    "busy": "kernel socket, busy polling",
    "asleep": "without polling",
    "mirror": "the veth's driver, XDP_TX",
    "clock": "a core that reads the clock",
}


def rows(metric: str, unit: str, figures: Mapping[str, Sequence[float]]) -> list[Row]:
    """A row of ``ours`` beside each of the others, medians of all turns; ours alone if there is none."""
    mine = figures["ours"]
    found = []
    for kind, theirs in figures.items():
        if kind == "ours":
            continue
        said = f"{version()} net_af_xdp" if kind == "testpmd" else _SAID[kind]
        ratios = [ratio(a, b, lower_is_better=lower_is_better(unit)) for a, b in zip(mine, theirs, strict=True)]
        found.append(Row("serve", metric, unit, median(mine), said, median(theirs), median(ratios)))
    return found or [Row("serve", metric, unit, median(mine))]


__all__ = ["rows"]
