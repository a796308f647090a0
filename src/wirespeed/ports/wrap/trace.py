"""trace: a line for each packet that passes a port, as many a second as one can read. ``trace(rate=10) tap:ws0``.

::

    12:00:01.123456 tap:ws0 in  98 10.0.0.1:53 > 10.0.0.2:1024 udp
    12:00:01.223456 tap:ws0 ... 1234 more

The worker copies the first bytes of each packet into a small stream, as for a capture; a thread reads it, writes lines,
and counts those that are too many. Packets are never held up: what finds no room in the stream is among those counted.
"""

import struct
import sys
import threading
import time
from dataclasses import dataclass
from typing import IO, Any

from wirespeed.errors import PortError
from wirespeed.mem.region import Region
from wirespeed.mem.stream import Stream, consume, produced
from wirespeed.ports.options import option
from wirespeed.ports.pcap.write import LaneQueue, format_lane
from wirespeed.ports.port import Port
from wirespeed.ports.port import port as make_port
from wirespeed.ports.summary import summary
from wirespeed.ports.wrap import tee as wrap_tee
from wirespeed.ports.wrap.capture import rules_of
from wirespeed.ports.wrap.port import Wrapper
from wirespeed.ports.wrap.tee import RECORD_BYTES, TeeQueue

_SNAP = 128
_RING = 1 << 20
_LOOK_S = 0.05


@dataclass(frozen=True)
class TraceOptions:
    """Options of ``trace``."""

    rate: int = option(10, "lines a second at most")
    match: str = option("", "only packets that match: udp/53")
    file: str = option("", "where lines go; by default the standard error output")


class TracePort(Wrapper):
    """A port that tells what passes.

    Attributes:
        clock: what tells the time by which lines are rationed, in seconds.
    """

    Options = TraceOptions
    path = wrap_tee
    record_bytes = RECORD_BYTES

    def __init__(self, spec: str, options: TraceOptions, inner: Port) -> None:
        if options.rate < 1:
            raise PortError(f"port {spec!r}: rate={options.rate} must be at least 1 line a second")
        self._rules = rules_of(options.match)
        self.clock = time.monotonic
        self._streams: list[tuple[str, LaneQueue, Stream]] = []
        self._lanes: Region | None = None
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._out: IO[str] = sys.stderr
        self._second, self._lines = -1, 0
        self._more = self._printed = self._untold = 0
        super().__init__(spec, options, inner)

    def open_wrapper(self) -> None:
        self._rules.lend([*self.rx, *self.tx])
        try:
            self._out = open(self.options.file, "a") if self.options.file else sys.stderr  # noqa: SIM115
        except OSError as error:
            raise PortError(f"port {self.spec!r}: {self.options.file}: {error.strerror}: name another file") from None
        records = [("in", address) for address in self.rx] + [("out", address) for address in self.tx]
        self._lanes = Region(max(1, len(records)) * LaneQueue.SIZE, "wirespeed-trace", huge=False)
        for number, (direction, address) in enumerate(records):
            stream = Stream(_RING, "wirespeed-trace")
            lane = format_lane(self._lanes.address + number * LaneQueue.SIZE, stream.address, _SNAP, 1)
            self._streams.append((direction, lane, stream))
            TeeQueue(address).lane = lane.address
        self._stopping.clear()
        self._thread = threading.Thread(target=self._run, name="wirespeed-trace", daemon=True)
        self._thread.start()

    # The thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping.wait(_LOOK_S):
            self.tell()
        self.tell()
        self._tell_more()

    def tell(self) -> None:
        """Write lines for what has come since the last time."""
        for direction, _, stream in self._streams:
            at, end = stream.view.consumed, produced(stream.address)
            while at < end:
                with stream.between(at, at + 16) as head:
                    seconds, nanoseconds, kept, length = struct.unpack("<IIII", head)
                if self._may_tell():
                    with stream.between(at + 16, at + 16 + kept) as data:
                        self._line(seconds, nanoseconds // 1000, f"{direction:3} {length} {summary(bytes(data))}")
                at += 16 + kept
            consume(stream.address, end)
        self._out.flush()

    def _may_tell(self) -> bool:
        now = int(self.clock())
        if now != self._second:
            self._tell_more()
            self._second, self._lines = now, 0
        self._lines += 1
        if self._lines > self.options.rate:
            self._more += 1
            return False
        self._printed += 1
        return True

    def _tell_more(self) -> None:
        missed = sum(lane.dropped for _, lane, _ in self._streams)
        more, self._untold = self._more + missed - self._untold, missed
        self._more = 0
        if more:
            now = time.time_ns() // 1000
            self._line(now // 1_000_000, now % 1_000_000, f"... {more} more")

    def _line(self, seconds: int, microseconds: int, text: str) -> None:
        clock = time.strftime("%H:%M:%S", time.localtime(seconds))
        print(f"{clock}.{microseconds:06} {self.inner.spec} {text}", file=self._out)

    def close_wrapper(self) -> None:
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
        for _, _, stream in self._streams:
            stream.close()
        self._streams = []
        if self._lanes is not None:
            self._lanes.close()
            self._lanes = None
        self._rules.close()
        if self._out is not sys.stderr:
            self._out.close()


def trace(port: Port | str, **options: Any) -> TracePort:
    """``port``, a line for each packet; options as in text: ``trace(port, rate=10, match="udp/53")``.

    Raises:
        PortError: an option with a value that cannot be.
    """
    inner = make_port(port) if isinstance(port, str) else port
    return TracePort(f"trace() {inner.spec}", TraceOptions(**options), inner)


__all__ = ["TraceOptions", "TracePort", "trace"]
