"""``wirespeed inspect``: what running processes have in shared memory, live."""

import json as json_text
import time
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from wirespeed.errors import WirespeedError

if TYPE_CHECKING:
    from wirespeed.telemetry.inspect import Found

_SHOWN = 7  # figures of an object in the overview


def command(
    name: Annotated[str | None, typer.Argument(help="Only this object and what is called NAME.something.")] = None,
    pid: Annotated[int | None, typer.Option(help="Only of this process.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Look again and again, until Ctrl-C.")] = False,
    seconds: Annotated[float, typer.Option(min=0.05, help="With --watch: time between two looks.")] = 0.5,
    json: Annotated[bool, typer.Option("--json", help="Print a list of objects as JSON.")] = False,
) -> None:
    """Show the tables, rings, pools, counters and graphs of running processes, without disturbing them.

    Objects that were given a name are listed, of this user's processes (root: its own; others with WIRESPEED_RUN).
    """
    with Console(stderr=True).status("looking"):
        from wirespeed.telemetry.inspect import Inspection

    console = Console(highlight=False)
    with Inspection(name, pid) as inspection:
        found = inspection.look()
        if name is not None and not found and not watch:
            raise WirespeedError(f"no running process has an object called {name!r}; wirespeed inspect lists all")
        if json:
            print(json_text.dumps([each.to_dict() for each in found], indent=2))
        elif not watch:
            console.print(_picture(found, in_full=name is not None))
        else:
            with Live(console=console, auto_refresh=False) as live:
                while True:
                    live.update(_picture(found, in_full=name is not None), refresh=True)
                    time.sleep(seconds)
                    found = inspection.look()


def _picture(found: "list[Found]", in_full: bool) -> RenderableType:
    if not found:
        return Text("nothing is listed: no process of this user has given an object a name, ws.counter('packets')")
    tables: dict[int, Table] = {}
    for each in found:
        entry = each.entry
        if entry.pid not in tables:
            ended = "" if each.alive or each.fault else " has ended; the last figures:"
            tables[entry.pid] = _table(f"process {entry.pid} {each.command}{ended}")
        says = Text(each.fault or _says(each.stats, None if in_full else _SHOWN))
        style = "" if each.alive else "dim"
        tables[entry.pid].add_row(entry.name, entry.kind, _bytes(entry.size), entry.pages, says, style=style)
    return Group(*tables.values())


def _table(title: str) -> Table:
    table = Table(title=Text(title), title_justify="left", title_style="bold")
    for heading in ("name", "kind", "memory", "pages"):
        table.add_column(heading, justify="right" if heading == "memory" else "left", no_wrap=True)
    table.add_column("says")
    return table


def _says(stats: dict[str, Any], most: int | None) -> str:
    from wirespeed.telemetry.inspect import figures

    said = [f"{name} {_value(value)}" for name, value in figures(stats) if value not in (None, "", (), [])]
    more = f", {len(said) - most} more" if most is not None and len(said) > most else ""
    return ", ".join(said[:most]) + more


def _value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return str(value)
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _bytes(size: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} GiB"
