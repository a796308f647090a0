"""What can be said of an af_xdp port, and what of it makes no sense."""

import re
from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.ports.af_xdp.program import possible
from wirespeed.ports.match import Match, parse_matches
from wirespeed.ports.options import nearest, option

LARGEST_RING: int = 32768
_MODES, _COPIES = ["auto", "native", "generic"], {"auto": None, "yes": True, "no": False}
_MOST_QUEUES = 64


@dataclass(frozen=True)
class AfXdpOptions:
    """Options of ``af_xdp``."""

    interface: str = option(doc="the interface's name", positional=True)
    netns: str = option("", "the network namespace it is in: a name of `ip netns`, or a path")
    queues: str = option("all", "the interface's queues to take: all, the first so many (2), or some (0-3, 1+5)")
    match: str = option("", "which packets to take (udp/53, tcp/80|tcp/443, vlan/7); the others go to the kernel")
    mode: str = option("auto", "native: in the driver; generic: behind it, where that cannot; auto: the better one")
    zero_copy: str = option("auto", "yes, no, or auto: as the driver can")
    busy_poll: int = option(0, "microseconds; more than 0: the worker fetches packets from the driver by itself")
    busy_budget: int = option(64, "packets that it fetches at once (8 to 1024)")
    rx_ring: int = option(2048, f"packets that may wait (a power of two, 64 to {LARGEST_RING})")
    tx_ring: int = option(2048, f"packets that may be on their way out (a power of two, 64 to {LARGEST_RING})")
    timestamps: bool = option(False, "give packets their time of receipt: the hardware's if it has one")
    promiscuous: bool = option(False, "receive what is for other stations too, as a bridge must")


@dataclass(frozen=True)
class Choice:
    """The options, understood. ``queues`` is None for all, a number for the first so many, or a list."""

    queues: int | tuple[int, ...] | None
    matches: tuple[Match, ...]
    zero_copy: bool | None


def understand(spec: str, options: AfXdpOptions) -> Choice:
    """Check them all.

    Raises:
        PortError: the first that is wrong, and what would be right.
    """
    for name, known in (("mode", _MODES), ("zero_copy", list(_COPIES))):
        value = getattr(options, name)
        if value not in known:
            raise PortError(f"port {spec!r}: {name}={value!r}; {nearest(value, known)}")
    if options.mode == "generic" and options.zero_copy == "yes":
        raise PortError(f"port {spec!r}: mode=generic has no zero-copy: choose one of the two")
    for name in ("rx_ring", "tx_ring"):
        size = getattr(options, name)
        if not 64 <= size <= LARGEST_RING or size & (size - 1):
            raise PortError(f"port {spec!r}: {name}={size} must be a power of two, 64 to {LARGEST_RING}")
    if not 0 <= options.busy_poll <= 1_000_000:
        raise PortError(f"port {spec!r}: busy_poll={options.busy_poll} must be 0 to 1000000 microseconds")
    if not 8 <= options.busy_budget <= 1024:
        raise PortError(f"port {spec!r}: busy_budget={options.busy_budget} must be 8 to 1024 packets")
    return Choice(_queues(spec, options.queues), _matches(spec, options.match), _COPIES[options.zero_copy])


def _queues(spec: str, text: str) -> int | tuple[int, ...] | None:
    if text == "all":
        return None
    if re.fullmatch(r"[0-9]{1,4}", text) and 1 <= int(text) <= _MOST_QUEUES:
        return int(text)
    found: list[int] = []
    for part in text.split("+"):
        ends = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", part)
        if not ends or text.isdigit():
            raise PortError(
                f"port {spec!r}: queues={text!r} must be all, a number (1 to {_MOST_QUEUES}), or queues as 0-3 or 1+5"
            )
        found += range(int(ends[1]), int(ends[2] or ends[1]) + 1)
    if not found or len(found) > _MOST_QUEUES or len(set(found)) < len(found):
        raise PortError(f"port {spec!r}: queues={text!r} must be 1 to {_MOST_QUEUES} different ones, as 0-3 or 1+5")
    return tuple(found)


def _matches(spec: str, text: str) -> tuple[Match, ...]:
    if not text:
        return ()
    try:
        found = parse_matches(text)
    except PortError as error:
        raise PortError(f"port {spec!r}: {error}") from None
    for match in found:
        if not possible(match):
            raise PortError(f"port {spec!r}: no packet is {str(match)!r}: that protocol has no such field")
    return found


__all__ = ["AfXdpOptions", "Choice", "understand"]
