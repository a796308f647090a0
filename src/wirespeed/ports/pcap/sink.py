"""A capture that is being written: queue records for workers, streams, and the thread behind them.

What the pcap port and the capture wrapper have in common. Each *lane* is for one worker: it has a stream of its own
and belongs to one interface of the file, so that several workers write one pcapng without meeting. A pcap file knows
no interfaces and has one lane.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from wirespeed.errors import CaptureError
from wirespeed.mem.region import Region
from wirespeed.mem.stream import Stream
from wirespeed.ports.pcap.files import Files
from wirespeed.ports.pcap.format import MAX_CAPTURED
from wirespeed.ports.pcap.headers import pcap_header, pcapng_header
from wirespeed.ports.pcap.packing import without_packing
from wirespeed.ports.pcap.write import LaneQueue, format_lane
from wirespeed.ports.pcap.writer import Lane, Writer

BUFFER: int = 32 << 20
"""Bytes between each worker and the disk, unless said otherwise: 10 ms at 25 Gb/s."""

_LEAST_BUFFER, _MOST_BUFFER = 1 << 20, 1 << 32
_STRIDE = 256  # a queue record and two words for the writer


@dataclass(frozen=True)
class Recipe:
    """How a capture is written; see :class:`wirespeed.ports.pcap.port.PcapOptions`."""

    path: str
    format: str = ""
    nano: bool = False
    snap: int = MAX_CAPTURED
    comment: str = ""
    flush: bool = False
    rotate: int = 0
    every: float = 0.0
    files: int = 0
    buffer: int = BUFFER

    @property
    def pcapng(self) -> bool:
        """Whether it is written in blocks rather than records: as told, else by the name."""
        if self.format:
            return self.format == "pcapng"
        return without_packing(self.path).endswith(".pcapng")

    def check(self, spec: str) -> None:
        """Raise a CaptureError for what cannot be."""
        found = ""
        if not self.path:
            found = "lacks path: the file"
        elif self.format not in ("", "pcap", "pcapng"):
            found = f"format={self.format!r} must be pcap or pcapng"
        elif not 1 <= self.snap <= MAX_CAPTURED:
            found = f"snap={self.snap} must be 1 to {MAX_CAPTURED} bytes"
        elif self.rotate and self.rotate < 1000:
            found = f"rotate={self.rotate} must be at least 1000 bytes (rotate=100M)"
        elif self.rotate < 0 or self.every < 0:
            found = "rotate and every cannot be negative"
        elif self.files < 0 or (self.files and not (self.rotate or self.every)):
            found = f"files={self.files} says how many of the rotated files stay: give rotate or every too"
        elif not _LEAST_BUFFER <= self.buffer <= _MOST_BUFFER:
            found = f"buffer={self.buffer} must be {_LEAST_BUFFER} to {_MOST_BUFFER} bytes (buffer=64Mi)"
        elif self.comment and not self.pcapng:
            found = "a comment needs pcapng: name the file .pcapng, or say format=pcapng"
        if found:
            raise CaptureError(f"port {spec!r}: {found}" if found[:5] != "lacks" else f"port {spec!r} {found}")

    def header(self, names: Sequence[str]) -> bytes:
        """What every file begins with, for interfaces of these names."""
        if self.pcapng:
            return pcapng_header(names, self.snap, self.comment)
        return pcap_header(self.nano, self.snap)


class Sink:
    """A capture file open for writing, until :meth:`close`.

    Args:
        recipe: how; checked by the caller.
        names: of the file's interfaces.
        lanes: for each worker's queue the number of its interface, and the direction to write down (0, 1: in, 2: out).
        say: told what happens to the disk: a kind and a text.

    Attributes:
        queues: addresses of the lanes' records.

    Raises:
        CaptureError: the file cannot be written.
        ArenaError: there is not enough memory.
    """

    def __init__(
        self,
        recipe: Recipe,
        names: Sequence[str],
        lanes: Sequence[tuple[int, int]],
        say: Callable[[str, str], object],
    ) -> None:
        self.recipe = recipe
        self.queues: list[int] = []
        self._streams: list[Stream] = []
        self._memory: Region | None = None
        self.files = Files(recipe.path, recipe.rotate, recipe.every, recipe.files)
        try:
            self._memory = Region(len(lanes) * _STRIDE, "wirespeed-pcap-out", huge=False)
            made = [self._lane(self._memory.address + i * _STRIDE, *lane) for i, lane in enumerate(lanes)]
        except BaseException:
            self.files.give_up()
            self._give_back()
            raise
        self.writer = Writer(self.files, made, recipe.header(names), recipe.pcapng, recipe.flush, say)

    def _lane(self, address: int, interface: int, direction: int) -> Lane:
        recipe = self.recipe
        stream = Stream(1 << (recipe.buffer - 1).bit_length(), "wirespeed-pcap-lane")
        self._streams.append(stream)
        self.queues.append(address)
        queue = format_lane(address, stream.address, recipe.snap, 1 if recipe.nano else 1000)
        queue.interface, queue.direction, queue.pcapng = interface, direction, int(recipe.pcapng)
        return Lane(queue, stream, address + LaneQueue.SIZE)

    def begin(self) -> None:
        """Empty the file and start to write it.

        Raises:
            CaptureError: the disk refuses.
        """
        try:
            self.writer.begin()
        except OSError as error:
            raise self.files.refusal(error) from error

    def finish(self) -> str:
        """Write what is left and close the file; what went wrong, empty if nothing. Counters can still be read."""
        fault = self.writer.close()
        for lane in self.writer.lanes:  # what was laid out and never written was not sent after all
            lane.queue.packets -= lane.lost
            lane.queue.bytes -= lane.lost_bytes
            lane.queue.errors += lane.lost
        return fault

    def close(self) -> None:
        """Give the memory back; after :meth:`finish`."""
        self.queues = []
        self._give_back()

    def _give_back(self) -> None:
        for stream in self._streams:
            stream.close()
        self._streams = []
        if self._memory is not None:
            self._memory.close()


__all__ = ["BUFFER", "Recipe", "Sink"]
