"""pcap: packets from a capture file, or into one.

``pcap:in.pcap`` as a source reads pcap and pcapng, also in gzip, once; ``loop=yes`` keeps the packets in
memory and receives them for ever, on as many queues as there are workers. ``pcap:out.pcap`` as a sink
writes (``.pcapng`` and ``.gz`` mean what they say).

Received packets have no metadata unless ``timestamps=yes``: writing the time of each to its header line
costs a second cache line a packet. Packets that were cut to the snap length are delivered as captured. A
file is read from a mapping (:mod:`pcap_input`), so memory does not depend on its size.
"""

import contextlib
import errno
import os
import stat
import time
from dataclasses import dataclass, fields

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import CaptureError, PortError
from wirespeed.jit import tsc
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports import pcap_loop, pcap_read, pcap_write, pcapng_read
from wirespeed.ports.options import option
from wirespeed.ports.pcap_format import file_header
from wirespeed.ports.pcap_gzip import Packer
from wirespeed.ports.pcap_input import CaptureFile
from wirespeed.ports.pcap_loop import LoopQueue, Table
from wirespeed.ports.pcap_read import FAULTS, FileQueue
from wirespeed.ports.pcap_write import BUFFER, WriteQueue
from wirespeed.ports.port import Port, PortStats

_FORMATS = ("", "pcap", "pcapng")


@dataclass(frozen=True)
class PcapOptions:
    """Options of ``pcap``."""

    path: str = option(doc="the file", positional=True)
    loop: bool = option(False, "reading: keep the packets in memory and receive them over and over")
    count: int = option(-1, "reading: how many packets to receive; -1: all, or no end when looping")
    timestamps: bool = option(False, "reading: packets carry the time they were captured at")
    memory: int = option(256 << 20, "reading, loop: the most bytes the packets may take in memory")
    format: str = option("", "writing: pcap or pcapng; by default as the name ends")
    nano: bool = option(False, "writing: times in nanoseconds rather than microseconds")
    flush: bool = option(False, "writing: after each burst rather than when a buffer is full")


_READING = ("loop", "count", "timestamps", "memory")
_WRITING = ("format", "nano", "flush")


class Pcap(Port):
    """A capture file: read where the graph uses it as a source, written where as a sink."""

    Options = PcapOptions
    receive = staticmethod(pcap_read.receive)
    transmit = staticmethod(pcap_write.transmit)

    def __init__(self, spec: str, options: PcapOptions) -> None:
        super().__init__(spec, options)
        if options.format not in _FORMATS:
            raise PortError(f"port {spec!r}: format={options.format!r} must be pcap or pcapng")
        if not options.path:
            raise PortError(f"port {spec!r} lacks path: the file")
        if options.loop:
            self.rx_queues = 0
        self._path = options.path
        self._file: CaptureFile | None = None
        self._table: Table | None = None
        self._memory: Region | None = None
        self._packer: Packer | None = None
        self._fd = -1
        self._header = b""
        self._begun = self._new = False  # whether writing has begun, and in a file that was not there
        self._fault = ""
        self._stats: PortStats | None = None  # the last, once closed

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        if rx_queues and tx_queues:
            raise PortError(f"port {self.spec!r} is read and written in one graph: write to another file")
        self._refuse(_WRITING if rx_queues else _READING, "written" if rx_queues else "read")
        self._stats, self._fault, self._begun = None, "", False  # a port may be opened again
        try:
            if rx_queues:
                self._open_input(pool, rx_queues)
            elif tx_queues:
                self._open_output()
        except BaseException:
            self._release()
            raise

    def _refuse(self, names: tuple[str, ...], direction: str) -> None:
        """Options of the other direction are a misunderstanding."""
        for field in fields(PcapOptions):
            if field.name in names and getattr(self.options, field.name) != field.default:
                raise PortError(
                    f"port {self.spec!r}: {field.name} is for files that are {direction}, this one is not: leave it out"
                )

    # Reading -----------------------------------------------------------------------------------------------

    def _open_input(self, pool: Pool, rx_queues: int) -> None:
        options = self.options
        self._file = CaptureFile(self._path, options.memory if options.loop else -1)
        layout = self._file.layout
        self._memory = Region(pcapng_read.BYTES if layout.pcapng else FileQueue.SIZE, "wirespeed-pcap", huge=False)
        record = FileQueue(self._memory.address)
        record.at = self._file.address + layout.first
        record.end = self._file.address + self._file.size
        record.left = -1 if options.loop else options.count
        record.swapped = int(layout.swapped)
        record.record_header = layout.record_header
        record.tick_ns = layout.tick_ns
        record.timestamps = int(options.timestamps)
        if options.loop:
            self._open_loop(pool, rx_queues, record, layout.pcapng)
        else:
            self.receive = pcapng_read.receive if layout.pcapng else pcap_read.receive
            self.rx = [record.address]
            self._file.read_ahead(lambda: int(record.at))

    def _open_loop(self, pool: Pool, queues: int, reader: FileQueue, pcapng: bool) -> None:
        """Lay the packets out; the file itself is not needed any more."""
        if self.options.timestamps:
            raise PortError(f"port {self.spec!r}: packets that come again and again have no time: leave timestamps out")
        self._table = table = Table(self._path, reader, pcapng, pool, self.options.memory)
        fault = self._what_is_wrong()
        if fault:
            raise CaptureError(f"{fault}; it cannot be looped over: cut it there, or read it without loop")
        self._release_input()
        self._memory = Region(queues * LoopQueue.SIZE, "wirespeed-pcap", huge=False)
        self.rx = [self._memory.address + i * LoopQueue.SIZE for i in range(queues)]
        count = self.options.count
        for index, address in enumerate(self.rx):
            record = LoopQueue(address)
            record.lengths = table.lengths
            record.lines = record.next_line = table.lines
            record.packets_in_lap = table.packets
            record.left = count // queues + (index < count % queues) if count >= 0 else -1
            record.errors = table.errors if index == 0 else 0
        self.receive = pcap_loop.receive_lines if table.only_lines else pcap_loop.receive

    def _what_is_wrong(self) -> str:
        """The fault that the reader left, as a sentence."""
        if self._file is None or self._memory is None:
            return ""  # looping, writing or not open
        record = FileQueue(self._memory.address)
        if record.left == 0 or not record.ended:
            return ""
        if self._file.fault:
            return f"{self._path}: {self._file.fault}"
        if not record.fault:
            return ""
        number = record.packets + record.errors + 1
        offset = record.at - self._file.address
        return f"{self._path}: packet {number}, at byte {offset}: {FAULTS[record.fault]}"

    def _release_input(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # Writing -----------------------------------------------------------------------------------------------

    def _open_output(self) -> None:
        options = self.options
        name = self._path.removesuffix(".gz")
        pcapng = options.format == "pcapng" if options.format else name.endswith(".pcapng")
        self._header = file_header(pcapng, options.nano)
        try:
            self._new = not os.path.exists(self._path)
            self._fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._cannot_write(error) from error
        self._memory = Region(4096 + BUFFER, "wirespeed-pcap-out", huge=False)
        record = WriteQueue(self._memory.address)
        record.buffer = record.at = self._memory.address + 4096
        record.pcapng = int(pcapng)
        record.tick_ns = 1 if options.nano else 1000
        record.at_once = int(options.flush)
        record.written = len(self._header)
        record.hz = tsc_hz()
        record.anchor_cycles, record.anchor_ns = tsc(), time.time_ns()
        self.tx = [record.address]

    def begin(self) -> None:
        """Empty the file that is to be written, not before it is certain that it will be."""
        if self._fd < 0:
            return
        try:
            if stat.S_ISREG(os.fstat(self._fd).st_mode):
                os.ftruncate(self._fd, 0)
            if self._path.endswith(".gz"):
                self._packer = Packer(self._fd)
            fd = WriteQueue(self.tx[0]).fd = self._packer.fd if self._packer else self._fd
            if os.write(fd, self._header) < len(self._header):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except OSError as error:
            raise self._cannot_write(error) from error
        self._begun = True

    def _cannot_write(self, error: OSError) -> CaptureError:
        return CaptureError(f"{self._path}: cannot be written: {error.strerror}: name a file where you may write")

    def _give_up_output(self) -> None:
        """Nothing was written: leave things as they were."""
        if self._packer is not None:
            self._packer.close()
        os.close(self._fd)
        self._fd = -1
        if self._new:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _finish_output(self) -> None:
        """Write what waits in the buffer; leave a file of whole records, whatever happened."""
        if self.tx:
            pcap_write.write_rest(self.tx[0])
        failure = os.strerror(WriteQueue(self.tx[0]).failed) if self.tx and WriteQueue(self.tx[0]).failed else ""
        if self._packer is not None:
            self._packer.close()
            if self._packer.error is not None:
                failure = self._packer.error.strerror or str(self._packer.error)
        elif failure:
            with contextlib.suppress(OSError):  # a pipe or a device: what it got, it got
                os.ftruncate(self._fd, WriteQueue(self.tx[0]).written)
        try:
            os.close(self._fd)
        except OSError as error:  # NFS and quotas tell it here
            failure = failure or error.strerror or str(error)
        self._fd = -1
        if failure:
            self._fault = self._writing_failed(failure)

    def _writing_failed(self, why: str) -> str:
        return f"{self._path}: writing failed: {why}; the packets after that are not in the file"

    # -------------------------------------------------------------------------------------------------------

    def fault(self) -> str:
        if self._stats is not None:
            return self._fault
        if self.tx and (failed := WriteQueue(self.tx[0]).failed):
            return self._writing_failed(os.strerror(failed))
        return self._what_is_wrong()

    def stats(self) -> PortStats:
        """Counters now; after :meth:`close`, what they were."""
        return self._stats or super().stats()

    def close(self) -> None:
        if self._stats is None:
            self._fault = self._what_is_wrong() if self.rx else ""
            self._release()

    def _release(self) -> None:
        if self._fd >= 0 and self._begun:
            self._finish_output()
        elif self._fd >= 0:
            self._give_up_output()
        self._stats = super().stats()
        self.rx, self.tx = [], []
        self._release_input()
        if self._table is not None:
            self._table.close()
            self._table = None


__all__ = ["Pcap", "PcapOptions"]
