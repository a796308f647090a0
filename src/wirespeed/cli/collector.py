"""``wirespeed collect SPEC --address PREFIX``: flows and metrics in, aggregates out, on any port."""

import dataclasses
import json as json_text
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

if TYPE_CHECKING:
    from wirespeed.apps.collector.report import Reporter

_POLL_S = 0.1
_SHOWN = 10


def command(
    spec: Annotated[str, typer.Argument(help="The port: tap:ws0, af_xdp:eth0, memif:..., see 'wirespeed ports'.")],
    address: Annotated[list[str], typer.Option(help="Own address with its prefix, 10.7.0.1/24 or fd07::1/64.")],
    gateway: Annotated[list[str] | None, typer.Option(help="Where packets beyond those prefixes go.")] = None,
    netflow: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of NetFlow; 0: none.")] = 2055,
    ipfix: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of IPFIX; 0: none.")] = 4739,
    sflow: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of sFlow; 0: none.")] = 6343,
    statsd: Annotated[int, typer.Option(min=0, max=65535, help="UDP port of statsd; 0: none.")] = 8125,
    exporters: Annotated[list[str] | None, typer.Option(help="Prefix of who may send; anybody unless given.")] = None,
    prometheus: Annotated[str | None, typer.Option(help="Serve /metrics at [HOST]:PORT, such as :9100.")] = None,
    parquet: Annotated[Path | None, typer.Option(help="Write Parquet files to this folder.")] = None,
    flows: Annotated[bool, typer.Option("--flows", help="Write each flow to Parquet, not only aggregates.")] = False,
    rotate: Annotated[float, typer.Option(min=1.0, help="Seconds after which a Parquet file is closed.")] = 300.0,
    window: Annotated[float, typer.Option(min=0.1, help="Seconds that top talkers and rates are of.")] = 10.0,
    talkers: Annotated[int, typer.Option(min=1, max=1 << 20, help="Keys counted for each list of talkers.")] = 1000,
    top: Annotated[int, typer.Option(min=1, max=10000, help="Talkers of each list that are exported.")] = 100,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that collect.")] = 1,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="Stop by itself after so long.")] = None,
    idle: Annotated[str, typer.Option(help="Without packets: latency (never sleep), balanced, power.")] = "balanced",
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Collect NetFlow 5 and 9, IPFIX, sFlow and statsd until SIGINT or SIGTERM."""
    from wirespeed.apps.collector.collector import Collector, CollectorError
    from wirespeed.apps.collector.parquet import Parquet
    from wirespeed.apps.collector.prometheus import Prometheus
    from wirespeed.apps.collector.report import Reporter
    from wirespeed.apps.collector.service import Keeper, collect_flows, collect_statsd
    from wirespeed.apps.service import Service
    from wirespeed.engine.run import Interruptible

    if flows and parquet is None:
        raise CollectorError("--flows writes to Parquet files: say where with --parquet DIR")
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    service = Service(spec, address, gateway=gateway or ())
    collector = Collector(workers, talkers=talkers, allow=exporters or (), rows=1 << 16 if flows else 0)
    listening = {name: port for name, port in (("netflow", netflow), ("ipfix", ipfix), ("sflow", sflow)) if port}
    collect_flows(service, collector, listening.values())
    if statsd:
        collect_statsd(service, collector, statsd)
        listening["statsd"] = statsd
    reporter = Reporter(collector, top)
    files = Parquet(parquet, rotate, flows=flows) if parquet is not None else None
    served = Prometheus(reporter, *_host_port(prometheus)) if prometheus is not None else None
    keeper = Keeper(reporter, window, served, files)
    with Interruptible() as signals:
        engine = service.start(workers, idle=idle)
        try:
            where = " and ".join(each.partition("/")[0] for each in address)
            said = ", ".join(f"{name} {port}" for name, port in listening.items())
            built = "from the cache" if engine.built.cached else f"compiled in {engine.built.seconds:.1f} s"
            shown = f"; {served.url}" if served is not None else ""
            console.print(f"collecting: {said} at {where} (loop {built}){shown}", markup=False)
            until = None if seconds is None else time.monotonic() + seconds
            with engine.aside():
                while not signals.event.is_set() and not engine.ended and (until is None or time.monotonic() < until):
                    service.poll(_POLL_S)
                    keeper.step()
        finally:
            report = dataclasses.replace(service.stop(), interrupted=signals.event.is_set())
            keeper.close()
    facts = _facts(reporter)
    if files is not None:
        facts["parquet_failures"] = files.failures
    if json:
        print(json_text.dumps({**report.to_dict(), "collector": facts}), flush=True)
    else:
        console.print(str(report), markup=False)
        console.print(_told(facts), markup=False)
        if files is not None and files.failures:
            console.print(
                f"  {files.failures} batches could not be written, the last: {files.last_failure}", markup=False
            )
    collector.close()
    if report.faults:
        raise typer.Exit(2)


def _host_port(text: str) -> tuple[str, int]:
    from wirespeed.apps.collector.collector import CollectorError

    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise CollectorError(f"--prometheus {text!r} must be [HOST]:PORT, such as :9100 or 127.0.0.1:9100")
    return host.strip("[]"), int(port)


def _facts(reporter: "Reporter") -> dict[str, Any]:
    """What was collected since the start, and the last window's largest."""
    totals, window = reporter.totals(), reporter.latest
    return {
        "received": {name: sums for name, sums in totals.lanes.items() if sums["datagrams"]},
        "refused": {reason: count for reason, count in totals.refused.items() if count},
        "tables": {name: count for name, count in totals.tables.items() if count},
        "exporters": [dataclasses.asdict(each) for each in reporter.exporters()],
        "sources": [] if window is None else [dataclasses.asdict(each) for each in window.sources[:_SHOWN]],
        "metrics": 0 if window is None else len(window.metrics),
    }


def _told(facts: dict[str, Any]) -> str:
    lines = []
    for name, sums in facts["received"].items():
        said = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in sums.items() if count)
        lines.append(f"  {name}: {said}")
    for title in ("refused", "tables"):
        if facts[title]:
            said = ", ".join(f"{what.replace('_', ' ')} {count:,}" for what, count in facts[title].items())
            lines.append(f"  {title}: {said}")
    lines.append(f"  exporters: {len(facts['exporters'])}, metrics: {facts['metrics']}")
    return "\n".join(lines)
