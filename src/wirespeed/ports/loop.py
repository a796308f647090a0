"""loop: what is sent to it is received from it again, as by a cable from a port to itself. ``loop:size=1024``.

A ring that nobody else knows (:mod:`wirespeed.ports.ring`). It has no packets of its own, so it keeps no graph running:
when the other inputs are over, the graph ends, and what is still in the loop is freed.
"""

import itertools
from dataclasses import dataclass

from wirespeed.ports.options import option
from wirespeed.ports.ring import RingOptions, RingPort, check_size

_numbers = itertools.count(1)


@dataclass(frozen=True)
class LoopOptions:
    """Options of ``loop``."""

    size: int = option(1024, "packets it holds, a power of two")


class Loop(RingPort):
    """Both ends of a ring of its own."""

    Options = LoopOptions
    passive = True

    def __init__(self, spec: str, options: LoopOptions) -> None:
        check_size(spec, options.size)
        super().__init__(spec, RingOptions(f"loop-{next(_numbers)}", options.size))
        self.name = spec


__all__ = ["Loop", "LoopOptions"]
