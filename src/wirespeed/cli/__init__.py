"""cli: the command line, one command a file. What a command imports is imported when it runs."""

import signal
import sys
from importlib import import_module
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


COMMANDS: dict[str, str] = {
    "bench": "wirespeed.cli.bench",
    "collect": "wirespeed.cli.collector",
    "demo": "wirespeed.cli.demo",
    "devices": "wirespeed.cli.devices",
    "dns": "wirespeed.cli.dns",
    "doctor": "wirespeed.cli.doctor",
    "echo": "wirespeed.cli.echo",
    "generate": "wirespeed.cli.generate",
    "inspect": "wirespeed.cli.inspect",
    "load": "wirespeed.cli.load",
    "measure": "wirespeed.cli.measure",
    "memcached": "wirespeed.cli.memcached",
    "ntp": "wirespeed.cli.ntp",
    "ports": "wirespeed.cli.ports",
    "run": "wirespeed.cli.run",
}
"""Each command, and the module whose ``command`` it is."""


def _register() -> None:
    for name, module in COMMANDS.items():
        app.command(name)(import_module(module).command)


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
