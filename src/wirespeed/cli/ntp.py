"""``wirespeed ntp SPEC --address PREFIX``: tell the time on any port."""

import dataclasses
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from wirespeed.cli.serving import answer, conclude, hosts


def command(
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_packet:eth0, see 'wirespeed ports'.")],
    address: Annotated[list[str], typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    gateway: Annotated[list[str] | None, typer.Option(help="Where packets beyond those prefixes go.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port.")] = 123,
    stratum: Annotated[int, typer.Option(help="While the kernel's clock is synchronised: one more than that of the "
                                         "clock it follows.")] = 3,
    local: Annotated[int, typer.Option(help="Stratum while it is not; 0: say that it is not to be followed.")] = 0,
    reference: Annotated[str, typer.Option(help="The clock it follows: IPv4 address, or letters: GPS, PTP.")] = "",
    interval: Annotated[float, typer.Option(help="Seconds between requests of one address, on average; 0: no "
                                            "limit.")] = 2.0,
    burst: Annotated[int, typer.Option(help="Requests of one address at once.")] = 16,
    slip: Annotated[int, typer.Option(help="Of requests beyond that each so manieth is told to ask less often, the "
                                      "others are dropped; 0: all are.")] = 4,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that answer.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    idle: Annotated[str, typer.Option(help="Without packets: latency (never sleep), balanced, power.")] = "balanced",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Tell the kernel's time to NTP clients (RFC 5905) until SIGINT or SIGTERM."""
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.ntp.clock import Standing
        from wirespeed.apps.ntp.server import NtpServer
        from wirespeed.apps.ntp.service import answer_ntp
        from wirespeed.apps.service import Service

    standing = Standing(stratum, local, reference)
    service = Service(spec, address, gateway=gateway or ())
    with NtpServer(standing, interval_s=interval, burst=burst, slip=slip) as server:
        answer_ntp(service, server, port)
        stats = server.stats()
        how = f"stratum {stats.stratum}" if stats.stratum else "not synchronised: clients will not follow; see --local"
        ready = f"telling the time: {hosts(address)}, port {port} ({how})"
        report = answer(service, console, ready, workers, seconds, idle=idle)
        facts = {"ntp": dataclasses.asdict(server.stats())}
    conclude(report, facts, console, json)
