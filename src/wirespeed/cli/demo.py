"""``wirespeed demo``: the first minute."""

import dataclasses
import json as json_text
import threading
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

_REFRESH_S = 0.5
_SAMPLE_S = 0.005


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
    with Interruptible() as signals:
        engine.start()
        try:
            arrived = _first_packet(engine, signals.event)
            first = arrived - started
            console.print(f"first packet {first:.2f} s after the start")
            profiler = threading.Thread(target=engine.prepare_profile, daemon=True)
            if profile:
                profiler.start()
            rate = _watch(engine, console, seconds, json, signals.event)
            if profile:
                _sample_at_last(engine, profiler, console, signals.event)
        finally:
            costs, why = _costs(engine)
            report = engine.stop()
    router.close()
    _conclude(console, report, rate, costs, why, json, (first, arrived), built)


def _first_packet(engine: Any, interrupted: threading.Event) -> float:
    """Wait for it; returns when that was, on the monotonic clock, or when it was clear that none would come."""
    while not engine.first_packet_cycles() and not engine.ended and not interrupted.is_set():
        time.sleep(0.001)
    return time.monotonic()


def _watch(engine: Any, console: Console, seconds: float, json: bool, interrupted: threading.Event) -> float:
    """Refresh the table until time is up; returns the rate over all of it."""
    from wirespeed.telemetry.live import table
    from wirespeed.telemetry.profile import places

    begun = time.perf_counter()
    before = engine.report()
    last, last_at = before, begun
    sampled = 0.0
    live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and not json else None
    if live:
        live.start()
    try:
        while (left := begun + seconds - time.perf_counter()) > 0 and not interrupted.wait(min(left, _REFRESH_S)):
            now, report = time.perf_counter(), engine.report()
            if live:
                rate = (report.packets - last.packets) / (now - last_at)
                live.update(table(report, rate, places(engine), "wirespeed demo"))
            if engine.can_profile:
                engine.profile(_SAMPLE_S)
                sampled += _SAMPLE_S
            last, last_at = engine.report(), time.perf_counter()
    finally:
        if live:
            live.stop()
    spent = time.perf_counter() - begun - sampled
    return (engine.report().packets - before.packets) / max(spent, 1e-9)


def _sample_at_last(engine: Any, profiler: threading.Thread, console: Console, interrupted: threading.Event) -> None:
    """Make sure that there is a profile, even of a run too short to compile its loop meanwhile; unless interrupted."""
    if profiler.is_alive():
        with console.status("compiling the loop that measures each node (once; it is kept)"):
            while profiler.is_alive() and not interrupted.is_set():
                profiler.join(_REFRESH_S / 5)
    if engine.can_profile and not interrupted.is_set():
        engine.profile(4 * _SAMPLE_S)


def _costs(engine: Any) -> tuple[list[Any], str]:
    from wirespeed.telemetry.profile import places

    return places(engine), engine.why_no_counters


def _conclude(
    console: Console,
    report: Any,
    rate: float,
    costs: list[Any],
    why: str,
    json: bool,
    first: tuple[float, float],
    built: Any,
) -> None:
    from wirespeed.cli.doctor import suggestions
    from wirespeed.eal.clock import tsc_hz
    from wirespeed.telemetry.live import shares, table

    frame = report.bytes / report.packets if report.packets else 60.0
    better = suggestions()
    if json:
        nodes = [{**dataclasses.asdict(cost), "ipc": cost.ipc} for cost in costs]
        print(
            json_text.dumps(
                {
                    "packets": report.packets,
                    "packets_per_second": rate,
                    "cycles_per_packet": tsc_hz() / rate if rate else None,
                    "line_rate_share": shares(rate, frame),
                    "nodes": nodes,
                    "drops": report.drops,
                    "first_packet_seconds": first[0],
                    "first_packet_monotonic": first[1],
                    "compile_seconds": built.seconds,
                    "cached": built.cached,
                    "faster_with": better,
                    "report": report.to_dict(),
                    "why_no_counters": why,
                }
            )
        )
        return
    console.print(table(report, rate, costs, "wirespeed demo"))
    if why:
        console.print(f"cycles are time-stamp cycles and instructions are unknown: {why}")
    if not report.drops:
        console.print("no drops")
    console.print("faster here with: " + ("; ".join(better) if better else "nothing we know of"))
