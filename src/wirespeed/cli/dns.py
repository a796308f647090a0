"""``wirespeed dns SPEC --address PREFIX --zone FILE``: an authoritative name server on any port."""

import dataclasses
import json as json_text
import signal
import threading
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from wirespeed.apps.dns.server import DnsServer
    from wirespeed.apps.dns.zone import Zone
    from wirespeed.apps.service import Service
    from wirespeed.engine.engine import Engine

_POLL_S = 0.1


def command(
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")],
    address: Annotated[list[str], typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    zone: Annotated[list[str], typer.Option(help="Zone file; ORIGIN=FILE if the file does not say its origin.")],
    gateway: Annotated[list[str] | None, typer.Option(help="Where packets beyond those prefixes go.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port.")] = 53,
    rate: Annotated[float, typer.Option(min=0.0, help="Equal answers to one network in a second; 0: no limit.")] = 200,
    slip: Annotated[int, typer.Option(min=0, max=1000, help="Of answers beyond the rate each so manieth is sent "
                                      "truncated, the others are dropped; 0: none is sent.")] = 2,
    size: Annotated[int, typer.Option(min=512, max=4096, help="Bytes of the largest answer.")] = 1232,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that answer.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    idle: Annotated[str, typer.Option(help="Without packets: latency (never sleep), balanced, power.")] = "balanced",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Answer DNS questions from zone files until SIGINT or SIGTERM; SIGHUP reads the files anew."""
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("reading zones") if console.is_terminal else nullcontext():
        zones = _read(zone)
    from wirespeed.apps.dns.server import DnsServer
    from wirespeed.apps.dns.service import answer_dns
    from wirespeed.apps.service import Service
    from wirespeed.eal.clock import tsc_hz
    from wirespeed.engine.run import Interruptible

    service = Service(spec, address, gateway=gateway or ())
    with DnsServer(zones, size_max=size, rate=rate, slip=slip, ticks_per_s=tsc_hz()) as server:
        answer_dns(service, server, port)
        loader = _Loader(server, zone, console)
        with Interruptible() as signals:
            before = signal.signal(signal.SIGHUP, lambda *_: loader.wanted.set())
            try:
                engine = service.start(workers, idle=idle)
                try:
                    console.print(_ready(server, address, port), markup=False)
                    _serve(service, engine, loader, seconds, signals.event)
                finally:
                    loader.wait()
                    report = dataclasses.replace(service.stop(), interrupted=signals.event.is_set())
            finally:
                signal.signal(signal.SIGHUP, before)
        facts: dict[str, Any] = dataclasses.asdict(server.stats())
    if json:
        print(json_text.dumps({**report.to_dict(), "dns": facts}), flush=True)
    else:
        console.print(str(report), markup=False)
        said = ", ".join(f"{name.replace('_', ' ')} {value:,}" for name, value in facts.items() if value)
        console.print(f"  dns: {said}", markup=False)
    if report.faults:
        raise typer.Exit(2)


def _serve(
    service: "Service", engine: "Engine", loader: "_Loader", seconds: float | None, stop: threading.Event
) -> None:
    """Let the service answer until it is told to stop; see to its zones."""
    until = None if seconds is None else time.monotonic() + seconds
    while not stop.is_set() and not engine.ended and (until is None or time.monotonic() < until):
        service.poll(_POLL_S)
        loader.look()


def _read(files: list[str]) -> "list[Zone]":
    from wirespeed.apps.dns.zone import read_zone

    found = []
    for given in files:
        origin, equals, file = given.partition("=")
        found.append(read_zone(file, origin) if equals and not Path(given).exists() else read_zone(given))
    return found


def _ready(server: "DnsServer", address: list[str], port: int) -> str:
    stats, where = server.stats(), " and ".join(each.partition("/")[0] for each in address)
    return f"answering: {', '.join(server.zones)} at {where}, port {port} ({stats.names:,} names)"


class _Loader:
    """Reads the zone files anew, in a thread of its own: who asks meanwhile gets answers from the old ones."""

    def __init__(self, server: "DnsServer", files: list[str], console: Console) -> None:
        self.server, self.files, self.console = server, files, console
        self.wanted = threading.Event()
        self._thread: threading.Thread | None = None

    def look(self) -> None:
        """Begin, if that is wanted and not happening."""
        if self.wanted.is_set() and (self._thread is None or not self._thread.is_alive()):
            self.wanted.clear()
            self._thread = threading.Thread(target=self._load, name="zones")
            self._thread.start()

    def wait(self) -> None:
        """Let what has begun end."""
        if self._thread is not None:
            self._thread.join()

    def _load(self) -> None:
        from wirespeed.errors import WirespeedError

        try:
            self.server.reload(_read(self.files))
        except WirespeedError as error:
            self.console.print(f"not reloaded, the old zones stay: {error}", markup=False)
        else:
            self.console.print(f"reloaded: {self.server.stats().names:,} names", markup=False)
