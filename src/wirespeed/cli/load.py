"""``wirespeed load dns|udp|memcached SPEC --to ADDRESS[:PORT] --rate R``: ask a server by schedule."""

import json as json_text
from contextlib import nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from wirespeed.errors import ConfigError
from wirespeed.ports.options import nearest, option, parse_options

_PORTS = {"udp": 7, "dns": 53, "memcached": 11211}


@dataclass(frozen=True)
class _Figures:
    """What may be written as 1M."""

    rate: int = option(0, "requests a second")
    keys: int = option(0, "keys")


def command(
    what: Annotated[str, typer.Argument(help="What to ask: dns, udp (an echo), memcached.")],
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")],
    to: Annotated[str, typer.Option(help="The server: 10.7.0.2, 10.7.0.2:5353, [fd07::2]:53.")],
    address: Annotated[str, typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    rate: Annotated[str, typer.Option(help="Requests a second: 1M.")] = "10k",
    connections: Annotated[int, typer.Option(help="Source ports, which take turns.")] = 64,
    seconds: Annotated[float, typer.Option(min=0.001, help="How long.")] = 5.0,
    timeout: Annotated[float, typer.Option(min=0.001, max=60.0, help="Seconds to wait for answers.")] = 1.0,
    gateway: Annotated[str, typer.Option(help="By which, if the server is beyond that prefix.")] = "",
    mac: Annotated[str, typer.Option(help="Ethernet address to send to, instead of asking for it.")] = "",
    first_port: Annotated[int, typer.Option(help="First source port.")] = 20000,
    size: Annotated[int, typer.Option(help="udp: bytes of a datagram.")] = 64,
    names: Annotated[Path | None, typer.Option(help="dns: file of names and types, as dnsperf has it.")] = None,
    zone: Annotated[Path | None, typer.Option(help="dns: ask for what is in this zone file instead.")] = None,
    keys: Annotated[str, typer.Option(help="memcached: how many keys; 65,536 requests draw from them.")] = "10k",
    ratio: Annotated[str, typer.Option(help="memcached: gets to sets.")] = "9:1",
    value: Annotated[int, typer.Option(help="memcached: bytes of a value.")] = 100,
    key: Annotated[int, typer.Option(help="memcached: bytes of a key.")] = 16,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a server by schedule, whatever it answers, and print how long after its time each request was answered."""
    if what not in _PORTS:
        raise ConfigError(f"{what!r} cannot be asked; {nearest(what, list(_PORTS))}")
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    figures = parse_options("--rate, --keys", f"rate={rate},keys={keys}", _Figures)
    server = _server(to, _PORTS[what])
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.load import state
        from wirespeed.apps.load.client import Client
        from wirespeed.apps.load.report import load_text
        from wirespeed.apps.load.requests import dns_requests, memcached_requests, udp_requests, zone_requests
        from wirespeed.engine.run import Interruptible

    if what == "udp":
        requests, protocol = udp_requests(size), state.UDP
    elif what == "memcached":
        gets, sets = _ratio(ratio)
        requests = memcached_requests(figures.keys, gets, sets, key, value)
        protocol = state.MEMCACHED
    elif (names is None) == (zone is None):
        raise ConfigError("which names are to be asked for? Give one of --names FILE and --zone FILE")
    else:
        requests = dns_requests(names) if names is not None else zone_requests(zone or "")
        protocol = state.DNS
    client = Client(
        spec, address, requests, server, gateway=gateway, mac=mac, first_port=first_port, connections=connections,
        protocol=protocol, timeout_s=timeout,
    )  # fmt: skip
    with Interruptible() as signals, client:
        console.print(f"asking {server[0]}, port {server[1]}", markup=False)
        found = client.run(float(figures.rate), seconds, watch=lambda _: signals.event.is_set())
    if json:
        print(json_text.dumps({"what": what, "to": to, "port": spec, **found.to_dict()}), flush=True)
    else:
        console.print(load_text(found), markup=False)


def _server(text: str, port: int) -> tuple[IPv4Address | IPv6Address, int]:
    """``10.7.0.2``, ``10.7.0.2:53``, ``fd07::2`` or ``[fd07::2]:53``."""
    host, given = text, ""
    if text.startswith("["):
        host, _, given = text[1:].partition("]")
        given = given.removeprefix(":")
    elif text.count(":") == 1:
        host, _, given = text.partition(":")
    try:
        server, number = ip_address(host), int(given) if given else port
    except ValueError:
        raise ConfigError(f"--to {text}: a server is an address and a port: 10.7.0.2:53, [fd07::2]:53") from None
    if not 1 <= number <= 65535:
        raise ConfigError(f"--to {text}: a port is 1 to 65535")
    return server, number


def _ratio(text: str) -> tuple[int, int]:
    gets, colon, sets = text.partition(":")
    if not (colon and gets.isdecimal() and sets.isdecimal()):
        raise ConfigError(f"--ratio {text}: gets to sets, 9:1")
    return int(gets), int(sets)
