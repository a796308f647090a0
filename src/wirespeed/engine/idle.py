"""What a worker does that has nothing to do: spin, pause, block.

==========  ===========================================================================================
latency     it never blocks: the core is busy at any load, and a packet is seen at once
balanced    it spins for 50 microseconds at the most, then blocks; how long depends on what came last time
power       it blocks as soon as it has looked at its ports a few times
==========  ===========================================================================================

Blocking costs a system call and, for the packet that ends it, the time the kernel takes to put the worker back on its
core: tens of microseconds. So a worker spins as long as packets come sooner than that and not at all in a long
silence (:func:`wirespeed.graph.support.block`). What arrives meanwhile waits in the port's ring.
A worker one of whose ports cannot rouse it never blocks.
"""

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import WirespeedError
from wirespeed.ports.options import nearest

LATENCY, BALANCED, POWER = "latency", "balanced", "power"

_SPIN_US = {BALANCED: 50, POWER: 0}

POLICIES: tuple[str, ...] = (LATENCY, BALANCED, POWER)
"""What ``idle`` may be."""


def spin_cycles(policy: str) -> int:
    """Time-stamp cycles that a worker spins at the most; negative: for ever.

    Raises:
        WirespeedError: there is no such policy.
    """
    if policy == LATENCY:
        return -1
    if policy not in _SPIN_US:
        raise WirespeedError(f"there is no idle policy {policy!r}; {nearest(policy, list(POLICIES))}")
    return int(_SPIN_US[policy] * tsc_hz() / 1_000_000)


__all__ = ["BALANCED", "LATENCY", "POLICIES", "POWER", "spin_cycles"]
