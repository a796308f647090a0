"""``wirespeed ports``: the ports of running graphs, live: link, queues, counters, rules, what happened."""

import json as json_text
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wirespeed.errors import WirespeedError

if TYPE_CHECKING:
    from wirespeed.telemetry.ports import EnginePorts

_STALE_S = 2.0
_LOST = ("dropped", "errors", "no_buffer")
_EVENTS = 5


def command(
    name: Annotated[str | None, typer.Argument(help="Only of the graph of this name.")] = None,
    pid: Annotated[int | None, typer.Option(help="Only of this process.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=0.05, help="With --watch: time between two looks.")] = 0.5,
    full: Annotated[
        bool, typer.Option("--full", help="Also every queue, every counter of drivers, and rules.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="Print a list of graphs and their ports as JSON.")] = False,
) -> None:
    """Show the ports of running graphs: link, address, queues, packets, drops, rules and events.

    Graphs are seen that run under a name: wirespeed run gives one, and ws.run(graph, name="mine").
    """
    with Console(stderr=True).status("looking"):
        from wirespeed.telemetry.ports import PortsWatch

    console = Console(highlight=False)
    with PortsWatch(name, pid) as looking:
        found = looking.look()
        if name is not None and not found and not watch:
            raise WirespeedError(f"no running graph is called {name!r}; wirespeed ports lists all")
        if json:
            print(json_text.dumps([asdict(each) for each in found], indent=2))
        elif not watch:
            console.print(picture(found, full or name is not None))
        else:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(picture(found, full), refresh=True)
                    time.sleep(seconds)
                    found = looking.look()


def picture(found: "list[EnginePorts]", full: bool) -> RenderableType:
    """All of them, a table for each graph."""
    if not found:
        return Text("no graph of this user runs under a name: wirespeed run FILE, or ws.run(graph, name='mine')")
    parts: list[RenderableType] = []
    for each in found:
        old = f", as of {each.age_s:.1f} s ago" if each.age_s > _STALE_S else ""
        ended = "" if each.alive else ", has ended"
        parts.append(
            Text(f"{each.name} (process {each.pid}{ended}{old}){': ' + each.fault if each.fault else ''}", "bold")
        )
        if each.ports:
            parts.append(_table(each.ports))
        for port in each.ports:
            parts += [Text(f"  {line}") for line in (_details(port) if full else _events(port))]
    return Group(*parts)


def _table(ports: list[dict[str, Any]]) -> Table:
    table = Table(box=None, padding=(0, 1))
    for heading in ("", "port", "link", "address", "MTU"):
        table.add_column(heading, no_wrap=heading != "link", overflow="fold")
    for heading in ("in", "/s", "out", "/s", "lost"):
        table.add_column(heading, justify="right", no_wrap=True)
    for port in ports:
        stats, link = port["stats"], port["link"]
        lost = sum(stats[f"{way}_{kind}"] for way in ("rx", "tx") for kind in _LOST if f"{way}_{kind}" in stats)
        cells = [str(port["number"]), port["port"], _link(link), port["mac"] or "-", str(port["mtu"] or "-")]
        for way in ("in", "out"):
            key = {"in": "rx", "out": "tx"}[way]
            has = way in port["ways"]
            rate = port.get(f"{key}_rate")
            cells += [
                f"{stats[f'{key}_packets']:,}" if has else "-",
                f"{rate:,.0f}" if has and rate is not None else "",
            ]
        cells.append(f"{lost:,}" if lost else "-")
        table.add_row(*(Text(cell) for cell in cells), style="" if link["up"] else "red")
    return table


def _link(link: dict[str, Any]) -> str:
    from wirespeed.ports.status import Link

    return str(Link(**link))


def _details(port: dict[str, Any]) -> list[str]:
    """Everything else that a port says of itself, a thought a line."""
    lines = [f"{port['port']}:"]
    for what in ("offloads", "software"):
        if port[what]:
            lines.append(f"  {what}: {', '.join(port[what])}")
    if port["facts"]:
        lines.append("  " + ", ".join(f"{name} {value}" for name, value in port["facts"].items()))
    for number, queue in enumerate(port["queues"]):
        said = [f"{name.replace('_', ' ')} {value:,}" for name, value in queue.items() if value]
        lines.append(f"  queue {number}: {', '.join(said) or 'nothing'}")
    if port["extended"]:
        lines.append("  " + ", ".join(f"{name} {value:,}" for name, value in port["extended"].items()))
    for rule in port["rules"]:
        lines.append(
            f"  rule {rule['rule']}: {rule['packets']:,} packets, {rule['bytes']:,} bytes, by {port['rules_by']}"
        )
    return [*lines, *(f"  {line}" for line in _events(port))] if len(lines) > 1 or port["events"] else []


def _events(port: dict[str, Any]) -> list[str]:
    return [
        f"{time.strftime('%H:%M:%S', time.localtime(event['time_ns'] / 1e9))} {port['port']}: {event['kind']}"
        + (f": {event['text']}" if event["text"] else "")
        for event in port["events"][-_EVENTS:]
    ]
