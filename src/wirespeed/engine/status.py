"""What an engine says of its ports to other processes: ``wirespeed ports`` reads it, and disturbs nobody.

Links, facts and names are plain Python in the engine's process, so control code writes all of it down now and then as
JSON, in memory that anybody of the same user can attach by the engine's name and ``.ports``::

    0     a number: odd while it is written, another one afterwards (a sequence lock, Documentation/locking/seqlock.rst)
    8     bytes of text
    16    when it was written, nanoseconds since 1970
    64    the text
"""

import dataclasses
import time
from typing import TYPE_CHECKING, Any

import msgspec

from wirespeed.errors import ArenaError
from wirespeed.jit import load64, load_acquire, read_bytes, store64, store_release, write_bytes
from wirespeed.mem.shared import Shared

if TYPE_CHECKING:
    from wirespeed.ports.port import Port

_TEXT = 64
_SIZE = 256 * 1024
_EVENTS = 20
_TRIES = 1000


@dataclasses.dataclass(frozen=True)
class PortsSaid:
    """How many ports there are, of which so many have a link, their packets, and how old that is."""

    ports: int
    up: int
    rx_packets: int
    tx_packets: int
    age_s: float


class PortsStatus(Shared):
    """The ports of an engine, as text. ``name``: the engine's, with ``.ports`` behind it."""

    KIND = "ports"

    def __init__(self, name: str | None = None) -> None:
        self._create(_SIZE, name)

    def write(self, ports: "list[Port]", numbers: list[int]) -> None:
        """Write down how the ports are now."""
        said = [describe(port, number) for port, number in zip(ports, numbers, strict=True)]
        text = msgspec.json.encode(said)
        while len(text) > _SIZE - _TEXT and any(each["events"] or each["extended"] for each in said):
            for each in said:
                each["events"], each["extended"] = each["events"][1:], {}
            text = msgspec.json.encode(said)
        text = text if len(text) <= _SIZE - _TEXT else b"[]"
        at = self.address
        number = load64(at)
        store_release(at, number + 1)
        store64(at + 8, len(text))
        store64(at + 16, time.time_ns())
        write_bytes(at + _TEXT, text)
        store_release(at, number + 2)

    def read(self) -> tuple[float, list[dict[str, Any]]]:
        """How old it is, in seconds, and the ports, as :func:`describe` says them.

        Raises:
            ArenaError: nothing was written yet, or its owner died while it wrote.
        """
        at = self.address
        for _ in range(_TRIES):
            number = load_acquire(at)
            text = read_bytes(at + _TEXT, min(load64(at + 8), _SIZE - _TEXT))
            written_ns = load64(at + 16)
            if number and number % 2 == 0 and load_acquire(at) == number:
                return (time.time_ns() - written_ns) / 1e9, msgspec.json.decode(text)
            time.sleep(0.0005)
        raise ArenaError(f"{self.name}: process {self.owner} has said nothing about its ports yet; look again")

    def stats(self) -> PortsSaid:
        """In short, for ``wirespeed inspect``."""
        age_s, ports = self.read()
        counts = [port["stats"] for port in ports]
        return PortsSaid(
            len(ports), sum(port["link"]["up"] for port in ports), sum(each["rx_packets"] for each in counts),
            sum(each["tx_packets"] for each in counts), round(age_s, 3),
        )  # fmt: skip


def describe(port: "Port", number: int) -> dict[str, Any]:
    """Everything about an open port, as plain values."""
    link, extended, facts = port.link(), port.extended(), port.facts()
    software = port.software
    ways = [name for name, queues in (("in", port.rx), ("out", port.tx)) if queues]
    return {
        "port": port.spec,
        "number": number,
        "ways": ways,
        "link": dataclasses.asdict(link),
        "mac": ":".join(f"{port.mac:012x}"[i : i + 2] for i in range(0, 12, 2)) if port.mac else "",
        "mtu": port.mtu,
        "facts": facts,
        "offloads": port.offloads.names,
        "software": [stage.name for stage in software.stages] if software else [],
        "stats": dataclasses.asdict(port.stats()),
        "queues": [dataclasses.asdict(each) for each in port.queue_stats()],
        "rx_queues": len(port.rx),
        "tx_queues": len(port.tx),
        "extended": extended | (software.counters() if software else {}),
        "rules": [
            {"rule": str(rule), "packets": count.packets, "bytes": count.bytes}
            for rule, count in port.rules.counts().items()
        ],
        "rules_by": "device" if port.rules.by_device else "software",
        "events": [
            {"time_ns": event.time_ns, "kind": event.kind, "text": event.text}
            for event in port.events.since()[-_EVENTS:]
        ],
    }


__all__ = ["PortsSaid", "PortsStatus", "describe"]
