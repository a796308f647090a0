"""pcap: packets from a capture file, or into one.

``pcap:in.pcap`` as a source reads pcap and pcapng, also in gzip and zstd, from a file, a pipe or the standard input
(``pcap:-``), once; ``loop=yes`` keeps the packets in memory and receives them for ever, on as many queues as there are
workers. They come as fast as they are asked for, or replayed: ``speed=1``, ``rate=1M``, ``bits=10G``
(:mod:`pcap_pace`). ``pcap:out.pcap`` as a sink writes (``.pcapng``, ``.gz`` and ``.zst`` mean what they say) without
ever holding a worker up: what the disk is too slow for is dropped and counted (:mod:`pcap_write`). Files are rotated
by size and time (:mod:`pcap_files`). ``pcap:in.pcap,to=out.pcap`` is both, as an interface of a router is.

Received packets have no metadata unless ``timestamps=yes`` or ``interfaces=yes``: writing it to each header line costs
a second cache line a packet. Packets that were cut to the snap length are delivered as captured. A file is read from a
mapping (:mod:`pcap_input`), so memory does not depend on its size.
"""

import os

from wirespeed.errors import PortError
from wirespeed.mem.pool import Pool
from wirespeed.ports.pcap import write as pcap_write
from wirespeed.ports.pcap.called import call
from wirespeed.ports.pcap.options import PcapOptions, check, check_direction, recipe_of
from wirespeed.ports.pcap.sink import Sink
from wirespeed.ports.pcap.source import Source
from wirespeed.ports.port import Port, PortStats


class Pcap(Port):
    """A capture file: read where the graph uses it as a source, written where as a sink; or one for each."""

    Options = PcapOptions
    receive = staticmethod(call)
    transmit = staticmethod(pcap_write.transmit)

    def __init__(self, spec: str, options: PcapOptions) -> None:
        super().__init__(spec, options)
        check(spec, options)
        self.tx_queues = options.queues
        if options.loop and not options.speed:
            self.rx_queues = 0  # by its times, a capture is replayed once at a time
        self._source: Source | None = None
        self._sink: Sink | None = None
        self._fault = ""
        self._stats: PortStats | None = None  # the last, once closed

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        options = self.options
        check_direction(self.spec, options, bool(rx_queues), bool(tx_queues))
        if options.to and os.path.exists(options.to) and os.path.exists(options.path):
            if os.path.samefile(options.to, options.path):
                raise PortError(f"port {self.spec!r}: what is sent would overwrite what is read: write to another file")
        self._stats, self._fault = None, ""  # a port may be opened again
        if rx_queues:
            self._source = Source(self.spec, options, pool, rx_queues)
            self.arm, self.rx = self._source.arm, self._source.queues
        if tx_queues:
            names = [f"queue {number}" for number in range(tx_queues)] if tx_queues > 1 else [""]
            lanes = [(number, 0) for number in range(tx_queues)]
            try:
                self._sink = Sink(recipe_of(options), names, lanes, self.events.say)
            except BaseException:
                self.close()
                raise
            self.tx = self._sink.queues

    def begin(self) -> None:
        """Empty the file that is to be written, not before it is certain that it will be."""
        if self._sink is not None:
            self._sink.begin()

    def descriptors(self, queue: int) -> list[int]:
        """A pipe's: a file is all there."""
        return self._source.descriptors() if self._source is not None else []

    def facts(self) -> dict[str, str]:
        """The format; of a file that is written also which one it is by now."""
        read = self._source.facts if self._source is not None else {}
        if self._sink is None:
            return read
        recipe, files = self._sink.recipe, self._sink.files
        written = {
            "format": "pcapng" if recipe.pcapng else "pcap",
            "compression": files.packing or "none",
            "file": files.name,
            "buffer": f"{recipe.buffer >> 10} KiB for each queue",
        }
        return read | {f"{name} written" if read else name: value for name, value in written.items()}

    def extended(self) -> dict[str, int]:
        """Files begun, and bytes that wait for the disk."""
        if self._sink is None:
            return {}
        return {"files": self._sink.writer.files_written, "waiting_bytes": self._sink.writer.waiting}

    def fault(self) -> str:
        if self._source is not None and (found := self._source.fault()):
            return found
        if self._sink is not None:
            return self._sink.writer.failing
        return self._fault

    def stats(self) -> PortStats:
        """Counters now; after :meth:`close`, what they were."""
        return self._stats or super().stats()

    def close(self) -> None:
        self._fault = self.fault()
        if self._sink is not None:
            self._fault = self._sink.finish() or self._fault
        if self._stats is None:
            self._stats = super().stats()
        self.rx, self.tx = [], []
        for part in (self._source, self._sink):
            if part is not None:
                part.close()
        self._source = self._sink = None


__all__ = ["Pcap", "PcapOptions"]
