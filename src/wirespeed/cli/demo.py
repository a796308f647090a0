"""``wirespeed demo``: the first minute."""

import dataclasses
import json as json_text
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from wirespeed.engine.engine import Engine
    from wirespeed.engine.report import Report
    from wirespeed.telemetry.profile import Place

_REFRESH_S = 0.5
_SAMPLE_S = 0.005


@dataclass
class Outcome:
    """What a demo found.

    Attributes:
        started, first: when the command and its first forwarded packet were, on the monotonic clock.
        rate: packets a second, without the moments in which each node was measured.
        costs: of each node.
        why_no_counters: why there are no hardware counters; empty if there are.
    """

    workers: int
    started: float
    cached: bool
    compile_seconds: float
    first: float = 0.0
    rate: float = 0.0
    costs: "list[Place]" = field(default_factory=list)
    why_no_counters: str = ""


def command(
    seconds: Annotated[float, typer.Option(min=0.1, help="How long to forward.")] = 10.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object at the end instead of tables.")] = False,
    routes: Annotated[
        Path | None, typer.Option(help="Routing table, a prefix a line, plain or gzip; destinations are drawn from it.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Cores that forward.")] = 1,
    profile: Annotated[bool, typer.Option(help="Measure each node.")] = True,
    size: Annotated[int, typer.Option(min=64, max=9018, help="Bytes of a frame, FCS included.")] = 64,
) -> None:
    """Feed an IPv4 router from a traffic generator, and watch it. No root, no network card, no huge pages."""
    started = time.monotonic()
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") as status:
        from wirespeed.apps.demo import demo, make_router
        from wirespeed.eal.perf import CYCLES, INSTRUCTIONS
        from wirespeed.engine.engine import Engine
        from wirespeed.engine.run import Interruptible

        if routes:
            status.update(f"reading routes from {routes}")
        router = make_router(routes)
        graph = demo(router, size)
        told = [0, time.perf_counter()]

        def progress(name: str) -> None:
            told[0] += 1
            status.update(f"compiling {name} ({told[0]} functions, {time.perf_counter() - told[1]:.1f} s)")

        engine = Engine(graph, workers, counters=(CYCLES, INSTRUCTIONS), progress=progress)
    built = engine.built
    found = "found in the cache" if built.cached else f"compiled in {built.seconds:.1f} s"
    console.print(f"{len(router.fib):,} routes; the loop was {found}: {built.source}")
    outcome = Outcome(workers, started, built.cached, built.seconds)
    with Interruptible() as signals:
        engine.start()
        try:
            with engine.aside():
                outcome.first = _first_packet(engine, signals.event)
                console.print(f"first packet {outcome.first - started:.2f} s after the start")
                profiler = threading.Thread(target=engine.prepare_profile, daemon=True)
                if profile:
                    profiler.start()
                outcome.rate = _watch(engine, console, seconds, json, signals.event)
                if profile:
                    _sample_at_last(engine, profiler, console, signals.event)
        finally:
            outcome.costs, outcome.why_no_counters = _costs(engine)
            report = engine.stop()
    router.close()
    if json:
        print(json_text.dumps(_as_json(outcome, report)))
    else:
        _show(console, outcome, report)


def _first_packet(engine: "Engine", interrupted: threading.Event) -> float:
    """Wait for it; returns when that was, on the monotonic clock, or when it was clear that none would come."""
    while not engine.first_packet_cycles() and not engine.ended and not interrupted.is_set():
        time.sleep(0.001)
    return time.monotonic()


def _watch(engine: "Engine", console: Console, seconds: float, json: bool, interrupted: threading.Event) -> float:
    """Refresh the table until time is up; returns the rate over all of it."""
    from wirespeed.telemetry.live import table
    from wirespeed.telemetry.profile import places

    begun = last_at = time.perf_counter()
    last = engine.report()
    moved = counted = 0.0  # packets, and seconds, without the samples
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and not json else None
    if live:
        live.start()
    try:
        while (left := begun + seconds - time.perf_counter()) > 0 and not interrupted.wait(min(left, _REFRESH_S)):
            now, report = time.perf_counter(), engine.report()
            moved, counted = moved + report.packets - last.packets, counted + now - last_at
            if live:
                rate = (report.packets - last.packets) / (now - last_at)
                live.update(table(report, rate, places(engine), "wirespeed demo", engine.count))
            if engine.can_profile:
                engine.profile(_SAMPLE_S)
            last, last_at = engine.report(), time.perf_counter()
    finally:
        if live:
            live.stop()
    moved, counted = moved + engine.report().packets - last.packets, counted + time.perf_counter() - last_at
    return moved / max(counted, 1e-9)


def _sample_at_last(
    engine: "Engine", profiler: threading.Thread, console: Console, interrupted: threading.Event
) -> None:
    """Make sure that there is a profile, even of a run too short to compile its loop meanwhile; unless interrupted."""
    if profiler.is_alive():
        with console.status("compiling the loop that measures each node (once; it is kept)"):
            while profiler.is_alive() and not interrupted.is_set():
                profiler.join(_REFRESH_S / 5)
    if engine.can_profile and not interrupted.is_set():
        engine.profile(4 * _SAMPLE_S)


def _costs(engine: "Engine") -> "tuple[list[Place], str]":
    from wirespeed.telemetry.profile import places

    return places(engine), engine.why_no_counters


def _frame_bytes(report: "Report") -> float:
    return report.bytes / report.packets if report.packets else 60.0


def _as_json(outcome: Outcome, report: "Report") -> dict[str, Any]:
    from wirespeed.cli.doctor import suggestions
    from wirespeed.eal.clock import tsc_hz
    from wirespeed.telemetry.live import shares

    return {
        "packets": report.packets,
        "packets_per_second": outcome.rate,
        "cycles_per_packet": outcome.workers * tsc_hz() / outcome.rate if outcome.rate else None,
        "line_rate_share": shares(outcome.rate, _frame_bytes(report)),
        "nodes": [{**dataclasses.asdict(cost), "ipc": cost.ipc} for cost in outcome.costs],
        "why_no_counters": outcome.why_no_counters,
        "drops": report.drops,
        "first_packet_seconds": outcome.first - outcome.started,
        "first_packet_monotonic": outcome.first,
        "compile_seconds": outcome.compile_seconds,
        "cached": outcome.cached,
        "faster_with": suggestions(),
        "report": report.to_dict(),
    }


def _show(console: Console, outcome: Outcome, report: "Report") -> None:
    from wirespeed.cli.doctor import suggestions
    from wirespeed.telemetry.live import table

    console.print(table(report, outcome.rate, outcome.costs, "wirespeed demo", outcome.workers))
    if outcome.why_no_counters:
        console.print(f"cycles are time-stamp cycles and instructions are unknown: {outcome.why_no_counters}")
    if not report.drops:
        console.print("no drops")
    console.print("faster here with: " + ("; ".join(suggestions()) or "nothing we know of"))
