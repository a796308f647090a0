"""``wirespeed memcached SPEC --address PREFIX --memory 64M``: a key-value server on any port."""

import dataclasses
import re
from contextlib import nullcontext
from typing import Annotated

import typer
from rich.console import Console

from wirespeed.cli.serving import answer, conclude, hosts

_SHARDS_A_WORKER = 8  # so that two workers rarely want the same
_SHARD_LEAST = 1 << 20
_UNITS = {"": 20, "K": 10, "M": 20, "G": 30}


def command(
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")],
    address: Annotated[list[str], typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    memory: Annotated[str, typer.Option(help="For items: 512K, 64M, 2G; a number alone is in MiB.")] = "64M",
    gateway: Annotated[list[str] | None, typer.Option(help="Where packets beyond those prefixes go.")] = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="UDP port.")] = 11211,
    answer_max: Annotated[int, typer.Option(help="Bytes of the longest answer; more is refused.")] = 65536,
    amplification: Annotated[
        int | None, typer.Option(min=1, help="Answers are at most so many times as long as requests; not limited.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that answer.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    idle: Annotated[str, typer.Option(help="Without packets: latency (never sleep), balanced, power.")] = "balanced",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:  # fmt: skip
    """Store and answer as memcached does, by its text protocol over UDP, until SIGINT or SIGTERM."""
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.memcached.server import MemcachedServer
        from wirespeed.apps.memcached.service import answer_memcached
        from wirespeed.apps.service import Service
        from wirespeed.eal.sysfs import bytes_text

    size = memory_bytes(memory)
    service = Service(spec, address, gateway=gateway or ())
    with MemcachedServer(size, shards=shards_for(workers, size), answer_max=answer_max) as server:
        answer_memcached(service, server, port, amplification)
        ready = f"storing: {bytes_text(server.memory_bytes)} at {hosts(address)}, port {port} ({server.pages} pages)"
        report = answer(service, console, ready, workers, seconds, idle=idle)
        facts = {"memcached": dataclasses.asdict(server.stats())}
    conclude(report, facts, console, json)


def memory_bytes(text: str) -> int:
    """Bytes of a size: ``64M``; a number alone is in MiB, as memcached's. Raises MemcachedError: it is none."""
    from wirespeed.apps.memcached.server import MemcachedError

    found = re.fullmatch(r"(\d{1,9})([KMG]?)(?:i?B)?", text, re.IGNORECASE)
    if found is None:
        raise MemcachedError(f"--memory {text}: that is no size; say 512K, 64M or 2G")
    return int(found[1]) << _UNITS[found[2].upper()]


def shards_for(workers: int, size: int) -> int:
    """Shards of a store of ``size`` bytes for so many workers."""
    wanted = 1 if workers == 1 else 1 << (workers * _SHARDS_A_WORKER - 1).bit_length()
    return max(min(wanted, 1 << max((size // _SHARD_LEAST).bit_length() - 1, 0)), 1)
