"""cli: the command line, one command a file. What a command imports is imported when it runs."""

import signal
import sys
from types import FrameType
from typing import Any

import typer

from wirespeed.errors import WirespeedError

app = typer.Typer(
    name="wirespeed",
    help="Write the data plane in Python, run it at wire speed.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _register() -> None:
    from wirespeed.cli import (
        bench,
        collector,
        demo,
        devices,
        dns,
        doctor,
        generate,
        inspect,
        measure,
        memcached,
        ntp,
        ports,
        run,
    )

    app.command("demo")(demo.command)
    app.command("run")(run.command)
    app.command("bench")(bench.command)
    app.command("collect")(collector.command)
    app.command("devices")(devices.command)
    app.command("dns")(dns.command)
    app.command("doctor")(doctor.command)
    app.command("generate")(generate.command)
    app.command("inspect")(inspect.command)
    app.command("measure")(measure.command)
    app.command("memcached")(memcached.command)
    app.command("ntp")(ntp.command)
    app.command("ports")(ports.command)


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def main(arguments: list[str] | None = None) -> Any:
    """Entry of ``wirespeed``: an error of ours is one message and exit code 2.

    SIGINT and SIGTERM unwind, so that peers are ended and temporary folders go, also where a shell started us with
    SIGINT ignored; what runs a graph takes both signals over meanwhile.
    """
    _register()
    before = {number: signal.signal(number, _end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return app(arguments)
    except WirespeedError as error:
        print(f"wirespeed: {error}", file=sys.stderr)
        sys.exit(2)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
