"""``wirespeed bench``: how fast, beside a peer in the same run."""

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from rich.console import Console

from wirespeed.errors import WirespeedError
from wirespeed.ports.options import nearest

BENCHES: dict[str, str] = {
    "acl": "wirespeed.bench.acl",
    "checksum": "wirespeed.bench.checksum",
    "forward": "wirespeed.bench.forward",
    "hashes": "wirespeed.bench.hashes",
    "hash": "wirespeed.bench.hash",
    "idle": "wirespeed.bench.idle",
    "locks": "wirespeed.bench.locks",
    "lpm": "wirespeed.bench.lpm",
    "lpm6": "wirespeed.bench.lpm6",
    "pcap": "wirespeed.bench.pcap",
    "polling": "wirespeed.bench.polling",
    "pool": "wirespeed.bench.pool",
    "port": "wirespeed.bench.port",
    "rcu": "wirespeed.bench.rcu",
    "ring": "wirespeed.bench.ring",
    "serve": "wirespeed.bench.serve",
    "sketches": "wirespeed.bench.sketches",
    "start": "wirespeed.bench.start",
    "timer": "wirespeed.bench.timer",
    "toeplitz": "wirespeed.bench.toeplitz",
    "traffic": "wirespeed.bench.traffic",
}
"""Each bench and the module whose ``rows(settings, tell)`` measures it."""


def command(
    name: Annotated[str | None, typer.Argument(help=f"One of {', '.join(BENCHES)}; all of them without it.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All benches, as without a name.")] = False,
    peer: Annotated[str | None, typer.Option(help="Measure beside a peer: dpdk.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print a list of rows as JSON.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print a table for a document.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="See that it works: short runs, small inputs.")] = False,
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of runs; the median is reported.")] = 5,
    captures: Annotated[str | None, typer.Option(help="Folder of captures that the pcap bench is built from.")] = None,
    routes: Annotated[str | None, typer.Option(help="Routing table of the full-table row.")] = None,
    driver: Annotated[str | None, typer.Option(help="Of bench port: which driver; all of them without it.")] = None,
) -> None:
    """Measure wirespeed, beside a peer in turns; a ratio above 1 means that wirespeed is ahead."""
    from wirespeed.bench.result import to_json, to_markdown, to_table
    from wirespeed.bench.settings import Settings

    if name is not None and name not in BENCHES:
        raise WirespeedError(f"there is no bench {name!r}; {nearest(name, list(BENCHES))}")
    if name is not None and everything:
        raise WirespeedError(f"bench {name!r} is one, --all is all of them: say one of the two")
    if driver is not None and name != "port":
        raise WirespeedError(f"--driver {driver} belongs to `wirespeed bench port`")
    if peer not in (None, "dpdk"):
        raise WirespeedError(f"there is no peer {peer!r}; known: dpdk")
    settings = Settings(peer, quick, 1 if quick else pairs, captures, routes, driver)
    console = Console(stderr=True, highlight=False)
    rows: list[Any] = []
    failed: list[str] = []
    with console.status("measuring", refresh_per_second=1) as status:  # who redraws has a core meanwhile
        for bench in [name] if name else list(BENCHES):
            measure: Callable[..., Sequence[Any]] = import_module(BENCHES[bench]).rows
            try:
                rows += measure(settings, lambda text, bench=bench: status.update(f"{bench}: {text}"))
            except WirespeedError as error:  # one that cannot run must not cost the others' hour
                if name:
                    raise
                failed.append(f"bench {bench}: {error}")
    if json:
        print(to_json(rows))
    elif markdown:
        print(to_markdown(rows))
    else:
        Console(highlight=False).print(to_table(rows, "wirespeed bench"))
    for note in settings.notes:
        console.print(note, markup=False)
    for message in failed:
        print(f"wirespeed: {message}", file=sys.stderr)
    if failed:
        raise typer.Exit(2)
