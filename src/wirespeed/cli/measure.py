"""``wirespeed measure TXPORT RXPORT``: what a device between two ports loses and how long it takes."""

import dataclasses
import functools
import json as json_text
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from wirespeed.cli.generate import traffic
from wirespeed.errors import ConfigError
from wirespeed.ports.options import nearest

if TYPE_CHECKING:
    from wirespeed.apps.measure import Trial
    from wirespeed.apps.rfc2544 import Settings, SizeResult

_LATE_US = 1000  # a tester that stood still must not make up for more than this in one burst


def command(
    tx: Annotated[str, typer.Argument(help="The port that sends: af_packet:left.")],
    rx: Annotated[str, typer.Argument(help="The port that receives; the same where the device sends back.")],
    rate: Annotated[str, typer.Option(help="Packets a second: 1M; as fast as possible without it.")] = "",
    bits: Annotated[str, typer.Option(help="Bits a second on the wire instead: 10G.")] = "",
    size: Annotated[int | None, typer.Option(help="Bytes of a frame, FCS included.")] = None,
    flows: Annotated[int | None, typer.Option(help="Different flows.")] = None,
    seconds: Annotated[float, typer.Option(min=0.001, help="Of a trial.")] = 2.0,
    src: Annotated[str, typer.Option(help="Source: address, prefix or range.")] = "",
    dst: Annotated[str, typer.Option(help="Destination: address, prefix or range.")] = "",
    smac: Annotated[str, typer.Option(help="Source MAC address.")] = "",
    dmac: Annotated[str, typer.Option(help="Destination MAC address: the device's, if it routes.")] = "",
    more: Annotated[str, typer.Option(help="Further options of the generator: proto=tcp,vlan=7.")] = "",
    settle: Annotated[float, typer.Option(min=0.0, help="Seconds to wait for the last packets.")] = 2.0,
    workers: Annotated[int, typer.Option(min=1, max=2, help="1: sends and receives in turns; 2: a core each.")] = 1,
    rfc2544: Annotated[bool, typer.Option("--rfc2544", help="Search for the throughput, at each frame size.")] = False,
    sizes: Annotated[str, typer.Option(help="Frame sizes of --rfc2544; 64,128,256,512,1024,1280,1518.")] = "",
    tests: Annotated[str, typer.Option(help="Tests of --rfc2544: throughput,latency,loss,back_to_back.")] = "",
    resolution: Annotated[float, typer.Option(min=1e-5, max=0.5, help="How near --rfc2544 comes, as a share.")] = 0.005,
    tolerance: Annotated[float, typer.Option(min=0.0, max=0.5, help="Share of frames that may be lost.")] = 0.0,
    confirm: Annotated[float, typer.Option(min=0.0, help="Seconds of the trial that confirms a throughput.")] = 10.0,
    search: Annotated[str, typer.Option(help="For the throughput: binary, or mlr (MLRsearch).")] = "binary",
    plot: Annotated[Path | None, typer.Option(help="File for a plot of --rfc2544, SVG.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Send stamped packets by TX, read them at RX: loss, order, latency; with --rfc2544 search for the throughput."""
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.apps.measure_report import CAVEAT, sizes_dict, sizes_text, trial_text
        from wirespeed.apps.rfc2544 import SIZES, TESTS, Settings, measure_size

    def sender(frame: int | None) -> Any:
        return traffic(
            more, size=frame, rate=rate, rate_bits=bits, flows=flows, src=src, dst=dst, smac=smac, dmac=dmac,
            stamp=True, late=_LATE_US,
        )  # fmt: skip

    if not rfc2544:
        if plot:
            raise ConfigError("--plot is for --rfc2544: a single trial has no curve")
        trial = _one(sender(size), tx, rx, workers, seconds, settle, console)
        if json:
            print(json_text.dumps({"tx": tx, "rx": rx, "caveat": CAVEAT, **trial.to_dict()}), flush=True)
        else:
            console.print(f"{trial_text(trial)}\n{CAVEAT}", markup=False)
        if not trial.received:
            _hint(console, trial.plain)
        return
    chosen = tuple(part.strip() for part in tests.split(",")) if tests else TESTS
    for test in chosen:
        if test not in TESTS:
            raise ConfigError(f"--tests: there is no test {test!r}; {nearest(test, list(TESTS))}")
    wanted = [size] if size is not None else _sizes(sizes) if sizes else list(SIZES)
    if search not in ("binary", "mlr"):
        raise ConfigError(f"--search: there is no search {search!r}; {nearest(search, ['binary', 'mlr'])}")
    if search == "mlr":
        from wirespeed.apps import rfc2544_mlr

        measure_size = functools.partial(measure_size, search=rfc2544_mlr.find_throughput)
    if plot and not plot.parent.is_dir():
        raise ConfigError(f"--plot {plot}: there is no folder {plot.parent}")
    settings = Settings(seconds, confirm, resolution, tolerance, tests=chosen)
    results = []
    for frame in wanted:
        results.append(_search(sender, frame, tx, rx, workers, settle, settings, measure_size, console))
        console.print(sizes_text(results[-1:]).splitlines()[1], markup=False)
    if plot:
        from wirespeed.apps.measure_svg import plot as draw

        plot.write_text(draw(results))
    if json:
        about = {"tx": tx, "rx": rx, "settings": dataclasses.asdict(settings)}
        print(json_text.dumps(sizes_dict(results, **about)), flush=True)
    else:
        console.print(sizes_text(results), markup=False)
    if not any(trial.received for each in results if each.throughput for trial in each.throughput.trials):
        _hint(console, 0)


def _sizes(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--sizes {text}: must be frame sizes with commas between, as 64,512,1518") from None


def _hint(console: Console, plain: int) -> None:
    """Why nothing of ours may have come."""
    other = f"; {plain:,} other packets came" if plain else ""
    console.print(
        f"nothing of what was sent came back{other}: does the device forward it? a router wants its own Ethernet "
        "address in --dmac, a --dst that it has a route and a neighbour for, and --src it may come from",
        markup=False,
    )


def _one(sender: Any, tx: str, rx: str, workers: int, seconds: float, settle: float, console: Console) -> "Trial":
    from wirespeed.apps.measure import Tester

    with _status(console) as status, Tester(sender, tx, rx, workers, progress=_teller(status, "compiling ")) as tester:
        return tester.trial(_asked(sender), seconds, settle=settle, burst=sender.options.burst, watch=_watcher(status))


def _search(
    sender: Callable[[int], Any], frame: int, tx: str, rx: str, workers: int, settle: float, settings: "Settings",
    measure_size: Callable[..., "SizeResult"], console: Console,
) -> "SizeResult":  # fmt: skip
    from wirespeed.apps.measure import Tester

    made = sender(frame)
    settings = dataclasses.replace(settings, top=_asked(made))
    told = f"{frame} B: compiling "
    with _status(console) as status, Tester(made, tx, rx, workers, progress=_teller(status, told)) as tester:
        settings = dataclasses.replace(settings, line_bits=max(0, tester.tx.link().speed_mbps) * 1e6)
        return measure_size(functools.partial(tester.trial, settle=settle), frame, settings, _teller(status, ""))


def _asked(sender: Any) -> float:
    """Packets a second that the options say; 0: as fast as possible."""
    from wirespeed.ports.generator.plan import mean_wire_bytes

    return float(sender.options.rate or sender.options.rate_bits / 8 / mean_wire_bytes(sender.mix))


def _status(console: Console) -> Any:
    return console.status("compiling") if console.is_terminal else nullcontext()


def _teller(status: Any, before: str) -> Callable[[str], None]:
    return lambda text: status.update(before + text) if status is not None else None


def _watcher(status: Any) -> Callable[[Any], None]:
    def watch(tester: Any) -> None:
        if status is not None:
            counts = tester.meter.counts()
            received = sum(reading.received for reading in counts)
            lost = sum(reading.lost for reading in counts)
            status.update(f"{received:,} received, {lost:,} missing")

    return watch
