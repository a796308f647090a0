"""``wirespeed echo SPEC --address PREFIX``: the echo and discard services on any port."""

from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from wirespeed.cli.serving import answer, conclude, hosts
from wirespeed.errors import ConfigError


def command(
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")],
    address: Annotated[list[str], typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    gateway: Annotated[list[str] | None, typer.Option(help="Where packets beyond those prefixes go.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of echo; 0: none.")] = 7,
    discard: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of discard; 0: none.")] = 9,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that answer.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    idle: Annotated[str, typer.Option(help="Without packets: latency (never sleep), balanced, power.")] = "balanced",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Send UDP datagrams back (RFC 862), or take them silently (RFC 863), until SIGINT or SIGTERM."""
    if not port and not discard:
        raise ConfigError("neither --port nor --discard: there is nothing to serve")
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.echo import answer_discard, answer_echo
        from wirespeed.apps.service import Service

    service = Service(spec, address, gateway=gateway or ())
    if port:
        answer_echo(service, port)
    if discard:
        answer_discard(service, discard)
    what = [f"{name} on port {number}" for name, number in (("echo", port), ("discard", discard)) if number]
    ready = f"answering: {hosts(address)}, {', '.join(what)}"
    conclude(answer(service, console, ready, workers, seconds, idle=idle), {}, console, json)
