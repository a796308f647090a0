"""``wirespeed dns SPEC --address PREFIX --zone FILE``: an authoritative name server on any port."""

import dataclasses
import signal
import threading
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wirespeed.cli.serving import answer, conclude, hosts

if TYPE_CHECKING:
    from wirespeed.apps.dns.server import DnsServer
    from wirespeed.apps.dns.zone import Zone


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

    service = Service(spec, address, gateway=gateway or ())
    with DnsServer(zones, size_max=size, rate=rate, slip=slip, ticks_per_s=tsc_hz()) as server:
        answer_dns(service, server, port)
        loader = _Loader(server, zone, console)
        names = f"{', '.join(server.zones)} at {hosts(address)}, port {port} ({server.stats().names:,} names)"
        before = signal.signal(signal.SIGHUP, lambda *_: loader.wanted.set())
        try:
            report = answer(service, console, f"answering: {names}", workers, seconds, loader.look, idle=idle)
        finally:
            loader.wait()
            signal.signal(signal.SIGHUP, before)
        facts = {"dns": dataclasses.asdict(server.stats())}
    conclude(report, facts, console, json)


def _read(files: list[str]) -> "list[Zone]":
    from wirespeed.apps.dns.zone import read_zone

    found = []
    for given in files:
        origin, equals, file = given.partition("=")
        found.append(read_zone(file, origin) if equals and not Path(given).exists() else read_zone(given))
    return found


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
