"""``wirespeed load dns|udp|memcached SPEC --to ADDRESS[:PORT] --rate R``: ask a server by schedule."""

import json as json_text
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from wirespeed.errors import ConfigError
from wirespeed.ports.options import nearest, option, parse_options

if TYPE_CHECKING:
    from wirespeed.apps.load.client import Client
    from wirespeed.apps.load.load import Load
    from wirespeed.apps.load.requests import KeyedRequests
    from wirespeed.apps.load.result import LoadResult

_FILL_RATE = 100_000
_FILLS = 4
_PORTS = {"udp": 7, "dns": 53, "memcached": 11211}

_NO_SOCKETS = (
    "a load leaves by a port of wirespeed's, with an address of its own, not by the kernel's sockets. To ask a server "
    "on this machine, give it one end of a pair of devices:\n"
    "  ip link add ws0 type veth peer name server0\n"
    "  ip address add 10.7.0.2/24 dev server0\n"
    "  ip link set ws0 up; ip link set server0 up\n"
    "  wirespeed load {what} af_packet:ws0 --address 10.7.0.1/24 --to 10.7.0.2"
)


@dataclass(frozen=True)
class _Figures:
    """What may be written as 1M."""

    rate: int = option(0, "requests a second")
    keys: int = option(0, "keys")
    fill: int = option(0, "sets a second that store them")


def command(
    what: Annotated[str, typer.Argument(help="What to ask: dns, udp (an echo), memcached.")],
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")] = "",
    to: Annotated[str, typer.Option(help="The server: 10.7.0.2, 10.7.0.2:5353, [fd07::2]:53.")] = "",
    address: Annotated[str, typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")] = "",
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
    keys: Annotated[str, typer.Option(help="memcached: how many keys, up to 1000M.")] = "10k",
    ratio: Annotated[str, typer.Option(help="memcached: gets to sets.")] = "9:1",
    value: Annotated[int, typer.Option(help="memcached: bytes of a value.")] = 100,
    key: Annotated[int, typer.Option(help="memcached: bytes of a key.")] = 16,
    fill: Annotated[bool, typer.Option(help="memcached: store every key before.")] = True,
    fill_rate: Annotated[str, typer.Option(help="memcached: sets a second that do; --rate, 100k at most.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that ask, each its share.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Ask a server by schedule, whatever it answers, and print how long after its time each request was answered."""
    if what not in _PORTS:
        raise ConfigError(f"{what!r} cannot be asked; {nearest(what, list(_PORTS))}")
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    if not spec or _socket(spec) or _looped(to):
        raise ConfigError(_NO_SOCKETS.format(what=what))
    if not to or not address:
        raise ConfigError("whom to ask, and from which address? Give --to 10.7.0.2 and --address 10.7.0.1/24")
    text = f"rate={rate},keys={keys}" + (f",fill={fill_rate}" if fill_rate else "")
    figures = parse_options("--rate, --keys, --fill-rate", text, _Figures)
    storing = float(figures.fill if fill_rate else min(figures.rate, _FILL_RATE))
    server = _server(to, _PORTS[what])
    with console.status("loading the compiler, and what is to be asked") if console.is_terminal else nullcontext():
        from wirespeed.apps.load import state
        from wirespeed.apps.load.client import Client
        from wirespeed.apps.load.report import load_text
        from wirespeed.apps.load.requests import dns_requests, memcached_requests, udp_requests, zone_requests
        from wirespeed.eal.sysfs import bytes_text
        from wirespeed.engine.run import Interruptible

        requests: list[bytes] | KeyedRequests
        if what == "udp":
            requests, protocol = udp_requests(size), state.UDP
            said = f"datagrams of {size} bytes"
        elif what == "memcached":
            requests, protocol = memcached_requests(figures.keys, *_ratio(ratio), key, value), state.MEMCACHED
            said = f"{figures.keys:,} keys"
        elif (names is None) == (zone is None):
            raise ConfigError("which names are to be asked for? Give one of --names FILE and --zone FILE")
        else:
            questions = dns_requests(names) if names is not None else zone_requests(zone or "")
            requests, protocol, said = questions, state.DNS, f"{len(questions):,} questions"
        client = Client(
            spec, address, requests, server, gateway=gateway, mac=mac, first_port=first_port, connections=connections,
            protocol=protocol, timeout_s=timeout, workers=workers,
        )  # fmt: skip
    stored = None
    with Interruptible() as signals, client:
        memory = bytes_text(client.load.memory_bytes)
        console.print(f"asking {server[0]}, port {server[1]}: {said} ({memory} of memory)", markup=False)
        if what == "memcached" and fill:
            stored = _fill(client, storing, console, signals.event.is_set)
        found = client.run(float(figures.rate), seconds, watch=lambda _: signals.event.is_set())
    if json:
        facts = {"what": what, "to": to, "port": spec, "workers": workers, **found.to_dict()}
        print(json_text.dumps({**facts, "fill": stored.to_dict() if stored else None}), flush=True)
    else:
        console.print(load_text(found), markup=False)


def _fill(client: "Client", rate: float, console: Console, over: Callable[[], bool]) -> "LoadResult":
    """Store every key, and say how far that is; what was lost, with all others, again at half the rate."""
    keys = client.load.keyed.keys if client.load.keyed else 0
    with console.status("storing") if console.is_terminal else nullcontext() as status:

        def watch(load: "Load") -> bool:
            if status is not None:
                status.update(f"storing: {load.sent:,} of {keys:,} keys, {load.sent - load.answered:,} not answered")
            return over()

        stored = client.fill(rate, watch)
        for _ in range(_FILLS - 1):
            if not stored.lost or over():
                break
            rate /= 2
            stored = client.fill(rate, watch)
    kept = stored.kinds.get("stored", 0)
    rest = ", ".join(f"{name} {count:,}" for name, count in stored.kinds.items() if name != "stored")
    console.print(
        f"stored {kept:,} of {keys:,} keys at {stored.offered:,.0f} requests/s; {stored.lost:,} not answered"
        + (f"; answers {rest}" if rest else ""), markup=False,
    )  # fmt: skip
    if kept < keys and not over():
        console.print("gets of the others are misses: a lower --fill-rate may store them", markup=False)
    return stored


def _socket(spec: str) -> bool:
    """Whether a port's text seems to mean one of the kernel's sockets: ``udp:...``, or an address."""
    kind = spec.strip("[").partition(":")[0].lower()
    return kind in ("udp", "socket", "kernel", "localhost") or kind.replace(".", "").isdecimal()


def _looped(to: str) -> bool:
    """Whether a server is on the kernel's loopback, which no port leads to."""
    host = to[1:].partition("]")[0] if to.startswith("[") else to if to.count(":") > 1 else to.partition(":")[0]
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


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
