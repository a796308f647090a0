"""What the commands that run a service have in common: answer until it is time to stop, then say what was done."""

import dataclasses
import json as json_text
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from wirespeed.apps.service import Service
    from wirespeed.engine.report import Report


def answer(
    service: "Service",
    console: Console,
    ready: str,
    workers: int,
    seconds: float | None,
    beside: Callable[[], None] | None = None,
    **options: Any,
) -> "Report":
    """Run a service until SIGINT or SIGTERM comes, ``seconds`` pass, or its port's input ends.

    Args:
        service: what is to run.
        console: where ``ready`` is printed once it answers.
        beside: called some times a second meanwhile.
        options: of the engine.
    """
    from wirespeed.engine.run import Interruptible

    with Interruptible() as signals:
        engine = service.start(workers, **options)
        try:
            console.print(ready, markup=False)
            until = None if seconds is None else time.monotonic() + seconds
            with engine.aside():
                while not signals.event.is_set() and not engine.ended and (until is None or time.monotonic() < until):
                    service.poll()
                    if beside is not None:
                        beside()
        finally:
            report = dataclasses.replace(service.stop(), interrupted=signals.event.is_set())
    return report


def conclude(report: "Report", facts: dict[str, dict[str, Any]], console: Console, json: bool) -> None:
    """Print the report and what a server counted, by its name; exit code 2 if a worker died."""
    if json:
        print(json_text.dumps({**report.to_dict(), **facts}), flush=True)
    else:
        console.print(str(report), markup=False)
        for name, counted in facts.items():
            said = ", ".join(f"{key.replace('_', ' ')} {value:,}" for key, value in counted.items() if value)
            console.print(f"  {name}: {said or 'nothing'}", markup=False)
    if report.faults:
        raise typer.Exit(2)


def hosts(address: list[str]) -> str:
    """Own addresses without their prefixes, for messages."""
    return " and ".join(each.partition("/")[0] for each in address)


__all__ = ["answer", "conclude", "hosts"]
