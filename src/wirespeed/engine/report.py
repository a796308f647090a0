"""What a run did: packets, bytes, rate, and every node's outputs and drops by name."""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from wirespeed.graph.node import Node
from wirespeed.graph.plan import Plan
from wirespeed.ports.port import Port, PortStats
from wirespeed.ports.status import Event

_EVENTS = 20  # shown; the report has all


@dataclass(frozen=True)
class NodeReport:
    """One node's doors: packets that left by each."""

    name: str
    outputs: dict[str, int]
    drops: dict[str, int]

    @property
    def packets(self) -> int:
        """Packets the node saw."""
        return sum(self.outputs.values()) + sum(self.drops.values())


@dataclass(frozen=True)
class Report:
    """The counters of a graph, at one time or at the end.

    Attributes:
        packets, bytes: received by all sources together.
        sent: packets taken by all sinks.
        seconds: since the first worker started.
        nodes: by name, in the order packets meet them.
        ports: counters by specification.
        departed: the same of ports that were removed while the graph ran; what they received and sent is counted.
        events: what happened to the ports, oldest first; see :class:`wirespeed.ports.status.Event`.
        refused: times a packet could not be received because the pool was empty.
        in_use: cells that hold packets; 0 after the end.
        leaks: the latter by the place that held them last, if the graph ran ``checked``.
        faults: what went wrong with an input or output, one sentence each; the command line exits with 2 then.
        interrupted: a signal ended it.
    """

    packets: int
    bytes: int
    sent: int
    seconds: float
    nodes: dict[str, NodeReport]
    ports: dict[str, PortStats]
    refused: int = 0
    in_use: int = 0
    leaks: dict[str, int] = field(default_factory=dict)
    faults: tuple[str, ...] = ()
    interrupted: bool = False
    notes: tuple[str, ...] = field(default=())
    departed: dict[str, PortStats] = field(default_factory=dict)
    events: tuple[Event, ...] = ()

    @property
    def rate(self) -> float:
        """Packets received a second."""
        return self.packets / self.seconds if self.seconds > 0 else 0.0

    @property
    def drops(self) -> dict[str, int]:
        """Drops by ``node: reason``, those that happened."""
        named = {f"{node.name}: {door}": n for node in self.nodes.values() for door, n in node.drops.items() if n}
        for spec, stats in (*self.ports.items(), *self.departed.items()):
            if stats.rx_dropped:
                named[f"{spec}: not received"] = stats.rx_dropped
            if stats.tx_dropped:
                named[f"{spec}: not sent"] = stats.tx_dropped
        return named

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        return {**asdict(self), "rate": self.rate, "drops": self.drops}

    def __str__(self) -> str:
        rate, unit = self.rate, "packets/s"
        for size, name in ((1e6, "million packets/s"), (1e3, "thousand packets/s")):
            if rate >= size:
                rate, unit = rate / size, name
                break
        lines = [
            f"{self.packets:,} packets, {self.bytes:,} bytes in {self.seconds:.3f} s ({rate:,.2f} {unit}), "
            f"{self.sent:,} sent"
        ]
        removed = [(f"{spec} (removed)", stats) for spec, stats in self.departed.items()]
        for spec, stats in (*self.ports.items(), *removed):
            parts = []
            if stats.rx_packets or stats.rx_dropped or stats.rx_errors:
                parts.append(f"in {stats.rx_packets:,} packets, {stats.rx_bytes:,} bytes")
            if stats.tx_packets or stats.tx_dropped or stats.tx_errors:
                parts.append(f"out {stats.tx_packets:,} packets, {stats.tx_bytes:,} bytes")
            lost = stats.rx_dropped + stats.tx_dropped
            bad = stats.rx_errors + stats.tx_errors
            parts += [f"dropped {lost:,}"] if lost else []
            parts += [f"errors {bad:,}"] if bad else []
            lines.append(f"  port {spec}: {'; '.join(parts) or 'nothing'}")
        for node in self.nodes.values():
            doors = [f"{door or 'default'} {count:,}" for door, count in node.outputs.items()]
            doors += [f"drop {door} {count:,}" for door, count in node.drops.items()]
            lines.append(f"  node {node.name}: {', '.join(doors)}")
        if self.refused:
            lines.append(f"  {self.refused:,} times no cell was free to receive into")
        lines += [f"  {cells:,} cells lost, last held by {place}" for place, cells in self.leaks.items()]
        earlier = len(self.events) - _EVENTS
        lines += [f"  {earlier:,} earlier events"] if earlier > 0 else []
        lines += [f"  event: {event}" for event in self.events[-_EVENTS:]]
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  fault: {fault}" for fault in self.faults]
        return "\n".join(lines)


def take_report(
    plan: Plan,
    count: Callable[[int], int],
    *,
    seconds: float,
    refused: int,
    in_use: int,
    notes: tuple[str, ...],
    departed: dict[Port, PortStats],
) -> Report:
    """Read all counters of a graph; ``count`` reads one of the plan's."""
    stats = {port: port.stats() for port in plan.graph.ports}
    every = [*stats.values(), *departed.values()]
    events = [event for port in {**stats, **departed} for event in port.events.since()]  # one may be in both
    return Report(
        packets=sum(each.rx_packets for each in every),
        bytes=sum(each.rx_bytes for each in every),
        sent=sum(each.tx_packets for each in every),
        seconds=seconds,
        nodes={node.name: _node(plan, node, count) for node in plan.order},
        ports=_by_name(stats),
        refused=refused,
        in_use=in_use,
        notes=notes,
        departed=_by_name(departed),
        events=tuple(sorted(events, key=lambda event: event.time_ns)),
    )


def _node(plan: Plan, node: Node, count: Callable[[int], int]) -> NodeReport:
    outputs = {exit_.door: count(exit_.counter) for exit_ in plan.outputs(node)}
    return NodeReport(node.name, outputs, {exit_.door: count(exit_.counter) for exit_ in plan.drops(node)})


def _by_name(stats: dict[Port, PortStats]) -> dict[str, PortStats]:
    """By specification; the second port of one specification gets a number."""
    named: dict[str, PortStats] = {}
    for port, each in stats.items():
        name, number = port.spec, 1
        while name in named:
            number += 1
            name = f"{port.spec} ({number})"
        named[name] = each
    return named
