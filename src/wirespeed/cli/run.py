"""``wirespeed run FILE``: run the application that a file describes, until it is told to stop."""

import dataclasses
import json as json_text
import re
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from wirespeed.apps.router import RouterApp
    from wirespeed.engine.engine import Engine

_REFRESH_S = 0.5
_SAYS = 4  # of so many, one is said to other processes


def command(
    file: Annotated[Path, typer.Argument(help="What to run: a TOML file, such as examples/router.toml.")],
    workers: Annotated[int | None, typer.Option(min=1, max=64, help="Cores that forward: not the file's.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    symmetric: Annotated[
        bool | None, typer.Option("--symmetric/--asymmetric", help="Both directions of a flow on one worker.")
    ] = None,
    idle: Annotated[
        str | None, typer.Option(help="Without packets: latency (never sleep), balanced, power: not the file's.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Run what FILE describes until SIGINT or SIGTERM, then print what it did."""
    from wirespeed.control.config import read

    config = read(file)
    chosen = {"workers": workers, "symmetric": symmetric, "idle": idle}
    engine_config = msgspec.structs.replace(config.engine, **{k: v for k, v in chosen.items() if v is not None})
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.router import build
        from wirespeed.engine.engine import Engine
        from wirespeed.engine.run import Interruptible

        app = build(config)
        engine = Engine(
            app.graph,
            engine_config.workers,
            symmetric=engine_config.symmetric,
            burst=engine_config.burst,
            cells=engine_config.cells,
            idle=engine_config.idle,
            name=_name(file),
            on_event=lambda event: console.print(f"event: {event}", markup=False),
        )
    with Interruptible() as signals:
        app.attach(engine)
        engine.start()
        try:
            console.print(_ready(app, engine))
            with engine.aside():
                _serve(app, engine, console, seconds, signals.event, live=console.is_terminal and not json)
        finally:
            facts = _facts(app)
            report = dataclasses.replace(engine.stop(), interrupted=signals.event.is_set())
            app.close()
    if json:
        print(json_text.dumps({**report.to_dict(), **facts}), flush=True)
    else:
        console.print(str(report), markup=False)
        console.print(_told(facts), markup=False)
    if report.faults:
        raise typer.Exit(2)


def _name(file: Path) -> str:
    """What other processes find it by: the file's name, in letters that a name can have."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", file.stem).strip("-._")[:48] or "graph"


def _ready(app: "RouterApp", engine: "Engine") -> str:
    """The line that says that packets are forwarded from now on."""
    where = ", ".join(f"{each.name} {' '.join(map(str, each.addresses))}" for each in app.config.ports)
    built = engine.built
    compiled = "from the cache" if built.cached else f"compiled in {built.seconds:.1f} s"
    many = f"{engine.count} workers" if engine.count > 1 else "1 worker"
    notes = "".join(f"; {note}" for note in engine.notes)
    return f"forwarding: {where} ({many}, loop {compiled}){notes}".replace("[", "\\[")


def _serve(
    app: "RouterApp", engine: "Engine", console: Console, seconds: float | None, stop: threading.Event, live: bool
) -> None:
    """The control plane: answer, keep house, show; until the end."""
    begun = time.monotonic()
    next_s, turn = begun + _REFRESH_S, 0
    shown = Live(console=console, refresh_per_second=4, transient=True) if live else None
    last = engine.report()
    with shown or nullcontext():
        while not stop.is_set() and not engine.ended:
            now_s = time.monotonic()
            if seconds is not None and now_s - begun >= seconds:
                return
            if now_s >= next_s:
                engine.refresh(say=turn % _SAYS == 0)  # which asks each device how it is
                if shown:
                    report = engine.report()
                    shown.update(_table(report, (report.packets - last.packets) / (now_s - next_s + _REFRESH_S)))
                    last = report
                next_s, turn = now_s + _REFRESH_S, turn + 1
            left_s = next_s - now_s if seconds is None else min(next_s - now_s, begun + seconds - now_s)
            app.poll(max(left_s, 0.0))


def _table(report: Any, rate: float) -> Any:
    from wirespeed.telemetry.live import table

    return table(report, rate, [], "wirespeed run")


def _facts(app: "RouterApp") -> dict[str, Any]:
    """What the control plane did."""
    host = app.host
    return {
        "neighbours": {"now": len(host.neighbours), **dataclasses.asdict(host.neighbours.stats)},
        "host": {**dataclasses.asdict(host.stats), "icmp_suppressed": host.errors.refused},
    }


def _told(facts: dict[str, Any]) -> str:
    lines = []
    for name, values in facts.items():
        said = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in values.items() if value)
        lines.append(f"  {name}: {said or 'nothing'}")
    return "\n".join(lines)
