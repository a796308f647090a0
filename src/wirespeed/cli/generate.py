"""``wirespeed generate PORT``: send made-up traffic."""

import json as json_text
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

if TYPE_CHECKING:
    from wirespeed.engine.engine import Engine
    from wirespeed.engine.report import Report
    from wirespeed.ports.generator.port import Generator, Pace

_REFRESH_S = 0.5


def traffic(more: str = "", **options: Any) -> "Generator":
    """A generator from a command's options and, behind them, whatever else its text takes.

    Raises:
        PortError: an option is wrong.
    """
    from wirespeed.ports.generator.port import Generator
    from wirespeed.ports.options import parse_options

    words = {True: "yes", False: "no"}
    given = [
        f"{name}={words[value] if isinstance(value, bool) else value}"
        for name, value in options.items()
        if value not in (None, "", False)
    ]
    text = ",".join([*given, *([more] if more else [])])
    spec = f"generator:{text}"
    return Generator(spec, parse_options(spec, text, Generator.Options))


def command(
    port: Annotated[str, typer.Argument(help="Where to: a port, such as af_packet:eth0, pcap:out.pcap or sink:.")],
    size: Annotated[int | None, typer.Option(help="Bytes of a frame, FCS included.")] = None,
    rate: Annotated[str, typer.Option(help="Packets a second: 1M; as fast as possible without it.")] = "",
    bits: Annotated[str, typer.Option(help="Bits a second on the wire instead: 10G.")] = "",
    flows: Annotated[int | None, typer.Option(help="Different flows.")] = None,
    seconds: Annotated[float | None, typer.Option(min=0.0, help="How long; until a signal comes without it.")] = None,
    count: Annotated[str, typer.Option(help="How many packets.")] = "",
    imix: Annotated[bool, typer.Option("--imix", help="Sizes 64, 594 and 1518 seven to four to one.")] = False,
    sizes: Annotated[str, typer.Option(help="Sizes and their weights: 64:7/1518:1.")] = "",
    burst: Annotated[int | None, typer.Option(help="Packets that leave back to back.")] = None,
    src: Annotated[str, typer.Option(help="Source: address, prefix or range.")] = "",
    dst: Annotated[str, typer.Option(help="Destination: address, prefix or range.")] = "",
    routes: Annotated[str, typer.Option(help="Routing table to draw destinations from.")] = "",
    proto: Annotated[str, typer.Option(help="udp, tcp or icmp.")] = "",
    smac: Annotated[str, typer.Option(help="Source MAC address.")] = "",
    dmac: Annotated[str, typer.Option(help="Destination MAC address.")] = "",
    vlan: Annotated[int | None, typer.Option(help="VLAN identifier.")] = None,
    stamp: Annotated[bool, typer.Option("--stamp", help="Number packets and time them, for a meter.")] = False,
    more: Annotated[str, typer.Option(help="Further options of the generator: dst_mode=random,seed=7.")] = "",
    workers: Annotated[int, typer.Option(min=1, max=64, help="Cores that send.")] = 1,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Send made-up traffic to PORT, until it is enough or SIGINT or SIGTERM comes."""
    console = Console(stderr=json, highlight=False, soft_wrap=True)
    with console.status("loading the compiler") if console.is_terminal else nullcontext():
        from wirespeed.engine.engine import Engine
        from wirespeed.engine.run import Interruptible
        from wirespeed.graph.graph import Graph
        from wirespeed.ports.port import port as make_port

        source = traffic(
            more, size=size, rate=rate, rate_bits=bits, flows=flows, count=count, imix=imix, sizes=sizes, burst=burst,
            src=src, dst=dst, routes=routes, proto=proto, smac=smac, dmac=dmac, vlan=vlan, stamp=stamp,
        )  # fmt: skip
        graph = Graph()
        graph.add(source >> make_port(port))
        engine = Engine(graph, workers)
    shown = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal and not json else None
    with Interruptible() as signals:
        engine.start()
        try:
            with engine.aside(), shown or nullcontext():
                begun = last_s = time.monotonic()
                last = engine.report()
                while not engine.ended and not signals.event.is_set():
                    now_s = time.monotonic()
                    if seconds is not None and now_s - begun >= seconds:
                        break
                    if now_s - last_s >= _REFRESH_S:
                        engine.refresh()
                        report = engine.report()
                        if shown:
                            shown.update(_table(report, last, now_s - last_s))
                        last, last_s = report, now_s
                    left_s = _REFRESH_S / 10 if seconds is None else min(_REFRESH_S / 10, begun + seconds - now_s)
                    signals.event.wait(max(left_s, 0.0))
        finally:
            report, pace = end(source, engine)
    told = facts(report, pace, sum(source.mix) / len(source.mix) + 24)
    if json:
        print(json_text.dumps({**told, "report": report.to_dict()}), flush=True)
    else:
        console.print(_text(told, report), markup=False)
    if report.faults:
        raise typer.Exit(2)


def end(source: "Generator", engine: "Engine") -> "tuple[Report, Pace]":
    """Stop both. The pace is asked for last: a burst may have been on its way."""
    source.halt()
    report = engine.stop()
    return report, source.pace()


def facts(report: "Report", pace: "Pace", wire_bytes: float) -> dict[str, Any]:
    """What was sent, and how exactly."""
    lost = pace.packets - report.sent
    return {
        "packets": report.sent,
        "refused": lost,
        "target_rate": pace.target or None,
        "achieved_rate": pace.achieved,
        "error_ppm": pace.error_ppm if pace.target else None,
        "missed": pace.missed,
        "sent_rate": report.sent / pace.packets * pace.achieved if pace.packets else 0.0,
        "wire_bits_per_second": pace.achieved * wire_bytes * 8,
    }


def _table(report: "Report", last: "Report", seconds: float) -> Any:
    from wirespeed.telemetry.live import table

    return table(report, (report.sent - last.sent) / seconds, [], "wirespeed generate")


def _text(told: dict[str, Any], report: "Report") -> str:
    lines = [
        f"{told['packets']:,} packets sent, {told['achieved_rate']:,.0f} packets/s, "
        f"{told['wire_bits_per_second'] / 1e9:.3f} Gb/s on a wire"
    ]
    if told["target_rate"]:
        lines.append(f"  asked for {told['target_rate']:,.0f} packets/s: off by {told['error_ppm']:+,.0f} ppm")
    if told["missed"]:
        lines.append(f"  {told['missed']:,} packets not made up for: something else had the core")
    if told["refused"]:
        lines.append(f"  {told['refused']:,} packets that the port had no room for")
    return "\n".join([*lines, *(f"  {fault}" for fault in report.faults)])
