"""capture: what passes a port, both ways, into a capture file. ``capture(eth0.pcapng,match=udp/53) af_packet:eth0``.

The file is pcapng unless its name says otherwise: one interface, named by the wrapped port, and the direction of each.
Capturing starts with the graph (``on=no``: not before :meth:`CapturePort.start`), and can be stopped and started, into
another file, while packets pass. It never holds them up: what the disk is too slow for is missing in the file and
counted (:mod:`wirespeed.ports.pcap.write`).
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any

from wirespeed.errors import PortError
from wirespeed.mem.region import Region
from wirespeed.ports.match import Match, parse_matches
from wirespeed.ports.options import option
from wirespeed.ports.pcap.format import MAX_CAPTURED
from wirespeed.ports.pcap.sink import BUFFER, Recipe, Sink
from wirespeed.ports.port import Port
from wirespeed.ports.port import port as make_port
from wirespeed.ports.rules.path import RULE_BYTES, TAKE
from wirespeed.ports.rules.write import write_rule
from wirespeed.ports.wrap import tee as wrap_tee
from wirespeed.ports.wrap.port import Wrapper
from wirespeed.ports.wrap.tee import RECORD_BYTES, TeeQueue

IN, OUT = 1, 2


@dataclass(frozen=True)
class CaptureOptions:
    """Options of ``capture``."""

    path: str = option(doc="the file", positional=True)
    match: str = option("", "only packets that match: udp/53, from/10.0.0.0/8|vlan/7")
    snap: int = option(MAX_CAPTURED, "bytes kept of each packet")
    on: bool = option(True, "capture from the start")
    comment: str = option("", "a comment in the file's header")
    rotate: int = option(0, "begin another file after so many bytes: 100M")
    every: float = option(0.0, "begin another file after so many seconds")
    files: int = option(0, "how many of the rotated files stay; 0: all")
    flush: bool = option(False, "write each burst at once rather than ten times a second")
    buffer: int = option(BUFFER, "bytes that may wait for the disk, for each queue and direction")


@dataclass
class Rules:
    """Matches laid out for workers, until :meth:`close`."""

    matches: tuple[Match, ...]
    region: Region | None = field(default=None, init=False)

    def lend(self, records: list[int]) -> None:
        """Let the records of :class:`TeeQueue` at these addresses use them."""
        if not self.matches:
            return
        self.region = Region(len(self.matches) * RULE_BYTES, "wirespeed-rules", huge=False)
        for number, match in enumerate(self.matches):
            write_rule(self.region.address + number * RULE_BYTES, match, TAKE, 0)
        for address in records:
            record = TeeQueue(address)
            record.rules, record.rule_count = self.region.address, len(self.matches)

    def close(self) -> None:
        """Give the memory back."""
        if self.region is not None:
            self.region.close()
            self.region = None


def rules_of(text: str) -> Rules:
    """What ``match`` says.

    Raises:
        PortError: it cannot be read.
    """
    return Rules(parse_matches(text) if text else ())


class CapturePort(Wrapper):
    """A port whose packets are captured."""

    Options = CaptureOptions
    path = wrap_tee
    record_bytes = RECORD_BYTES

    def __init__(self, spec: str, options: CaptureOptions, inner: Port) -> None:
        shared = {each.name for each in fields(Recipe)} & {each.name for each in fields(CaptureOptions)}
        self._recipe = Recipe(**{name: getattr(options, name) for name in shared})
        if not options.path.endswith((".pcap", ".pcap.gz", ".pcap.zst")):
            self._recipe = replace(self._recipe, format="pcapng")
        self._recipe.check(spec)
        self._rules = rules_of(options.match)
        self._sink: Sink | None = None
        self._fault = ""
        self._captured = self._missing = 0
        super().__init__(spec, options, inner)

    def open_wrapper(self) -> None:
        self._fault, self._captured, self._missing = "", 0, 0
        self._rules.lend([*self.rx, *self.tx])
        if self.options.on:
            self._sink = self._make_sink()

    def _make_sink(self) -> Sink:
        lanes = [(0, IN)] * len(self.rx) + [(0, OUT)] * len(self.tx)
        return Sink(self._recipe, [self.inner.spec], lanes, self.events.say)

    def begin(self) -> None:
        self.inner.begin()
        if self._sink is not None:
            self._go(self._sink)

    def _go(self, sink: Sink) -> None:
        sink.begin()
        for address, lane in zip((*self.rx, *self.tx), sink.queues, strict=True):
            TeeQueue(address).lane = lane

    def start(self, path: str = "") -> None:
        """Capture from now on, into ``path`` if one is given, else into the same file anew.

        Raises:
            PortError: it captures already, or the file cannot be written.
        """
        if self._sink is not None or not (self.rx or self.tx):
            raise PortError(f"port {self.spec!r}: it captures already, or is not open: stop it, or run its graph")
        self._recipe = replace(self._recipe, path=path or self._recipe.path)
        sink = self._make_sink()
        try:
            self._go(sink)
        except BaseException:
            sink.finish()
            sink.close()
            raise
        self._sink = sink

    def stop(self) -> str:
        """Capture no more and close the file; what went wrong with it, empty if nothing. Packets go on."""
        sink, self._sink = self._sink, None
        if sink is None:
            return ""
        for address in (*self.rx, *self.tx):
            TeeQueue(address).lane = 0
        self.quiesce()
        self._fault = sink.finish()
        self._captured, self._missing = self._count(sink)
        sink.close()
        return self._fault

    def _count(self, sink: Sink | None) -> tuple[int, int]:
        """Packets captured so far, and those that are missing in the files."""
        queues = [lane.queue for lane in sink.writer.lanes] if sink is not None else []
        captured = self._captured + sum(queue.packets for queue in queues)
        return captured, self._missing + sum(queue.dropped + queue.errors for queue in queues)

    def extended(self) -> dict[str, int]:
        """The wrapped port's, and what was captured and what was not."""
        captured, missing = self._count(self._sink)
        return {**self.inner.extended(), "captured": captured, "not_captured": missing}

    def facts(self) -> dict[str, str]:
        return {**self.inner.facts(), "capture": self._sink.files.name if self._sink is not None else "off"}

    def fault(self) -> str:
        """The wrapped port's; else the capture's."""
        return self.inner.fault() or (self._sink.writer.failing if self._sink is not None else self._fault)

    def close_wrapper(self) -> None:
        self.stop()
        self._rules.close()


def capture(port: Port | str, path: str, **options: Any) -> CapturePort:
    """``port``, its packets captured into the file ``path``; options as in text.

    Raises:
        PortError: an option with a value that cannot be.
    """
    inner = make_port(port) if isinstance(port, str) else port
    return CapturePort(f"capture({path}) {inner.spec}", CaptureOptions(path, **options), inner)


__all__ = ["CaptureOptions", "CapturePort", "Rules", "capture", "rules_of"]
