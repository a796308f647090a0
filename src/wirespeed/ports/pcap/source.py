"""A capture that is being read: the file or stream, the records of its queues, and which kernels read them."""

from collections.abc import Callable
from typing import Any

from wirespeed.errors import CaptureError, PortError
from wirespeed.jit.entry import entry
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.pcap import read as pcap_read
from wirespeed.ports.pcap.input import open_capture
from wirespeed.ports.pcap.loop import LoopQueue, Table, read_lines, read_table
from wirespeed.ports.pcap.ng_read import BYTES, read_blocks
from wirespeed.ports.pcap.options import PcapOptions
from wirespeed.ports.pcap.pace import RECORD_BYTES, PacedQueue, read_paced, set_rate, set_speed
from wirespeed.ports.pcap.read import FAULTS, FileQueue, read_records

_STASH = PacedQueue.SIZE


class Source:
    """The capture that ``options`` name, for ``queues`` workers, until :meth:`close`.

    Attributes:
        queues: addresses of the queue records.
        arm: the function of the packet path, for an idle worker; None: it polls.
        facts: what it found.

    Raises:
        CaptureError: it cannot be read.
    """

    def __init__(self, spec: str, options: PcapOptions, pool: Pool, queues: int) -> None:
        self.spec, self.options, self._pool = spec, options, pool
        self.queues: list[int] = []
        self.arm: Callable[..., Any] | None = None
        self._regions: list[Region] = []
        self._table: Table | None = None
        self._paced: list[PacedQueue] = []
        self._file = open_capture(options.path)
        try:
            self._open(queues)
        except BaseException:
            self.close()
            raise

    def _open(self, queues: int) -> None:
        options, layout = self.options, self._file.layout
        self.facts = {"format": "pcapng" if layout.pcapng else "pcap"}
        if options.interfaces and not layout.pcapng:
            raise PortError(f"port {self.spec!r}: a pcap has no interfaces: leave interfaces out")
        self._record = record = FileQueue(self._region(BYTES if layout.pcapng else FileQueue.SIZE))
        record.left = -1 if options.loop else options.count
        record.swapped = int(layout.swapped)
        record.record_header = layout.record_header
        record.tick_ns = layout.tick_ns
        record.timestamps = int(options.timestamps or bool(options.speed))
        record.marks = int(options.interfaces)
        readers = self._loop(queues) if options.loop else self._once()
        self.queues = [self._pace(reader, queues) for reader in readers] if self._is_paced else readers
        if not options.loop:
            self._file.read_ahead(record)
            self.arm = pcap_read.arm if self._file.descriptors() and not self._is_paced else None

    def _region(self, size: int) -> int:
        self._regions.append(Region(size, "wirespeed-pcap", huge=False))
        return self._regions[-1].address

    @property
    def _is_paced(self) -> bool:
        return bool(self.options.speed or self.options.rate or self.options.bits)

    def _once(self) -> list[int]:
        self._record.kernel = entry(read_blocks if self._file.layout.pcapng else read_records, 4)
        self._file.attach(self._record)
        return [self._record.address]

    def _loop(self, queues: int) -> list[int]:
        """Lay the packets out; the file itself is not needed any more."""
        options, record, file = self.options, self._record, self._file
        if options.timestamps or options.interfaces:
            raise PortError(
                f"port {self.spec!r}: packets that come again and again carry no time and no mark: "
                "leave timestamps and interfaces out"
            )
        self._table = table = Table(
            options.path,
            record,
            lambda: file.attach(record),
            file.layout.pcapng,
            self._pool,
            options.memory,
            bool(options.speed),
        )
        fault = self.fault()
        if fault:
            raise CaptureError(f"{fault}; it cannot be looped over: cut it there, or read it without loop")
        self._file.close()
        first = self._region(queues * LoopQueue.SIZE)
        made = [first + i * LoopQueue.SIZE for i in range(queues)]
        for index, address in enumerate(made):
            queue = LoopQueue(address)
            queue.lengths, queue.times, queue.lap_ns = table.lengths, table.times, table.lap_ns
            queue.lines = queue.next_line = table.lines
            queue.packets_in_lap = table.packets
            count = options.count
            queue.left = count // queues + (index < count % queues) if count >= 0 else -1
            queue.errors = table.errors if index == 0 else 0
            queue.kernel = entry(read_lines if table.only_lines else read_table, 4)
        return made

    def _pace(self, reader: int, queues: int) -> int:
        options, record = self.options, PacedQueue(self._region(RECORD_BYTES))
        record.reader, record.looped, record.kernel = reader, int(options.loop), entry(read_paced, 4)
        if options.speed:
            set_speed(record, options.speed, not (options.timestamps or options.interfaces))
        else:
            set_rate(record, options.rate / queues, options.bits / queues)
        self._paced.append(record)
        return record.address

    def descriptors(self) -> list[int]:
        """What an idle worker waits for; a paced one watches the time."""
        return [] if self.options.loop or self._is_paced else self._file.descriptors()

    def fault(self) -> str:
        """What was wrong with the input, as a sentence; empty if nothing, or not yet known."""
        record, path = self._record, self.options.path
        if record.left == 0 or not record.ended:
            return ""
        if self._file.fault:
            return f"{path}: {self._file.fault}"
        if not record.fault:
            return ""
        number = record.packets + record.errors  # the broken one is among the errors
        return f"{path}: packet {number}, at byte {record.position}: {FAULTS[record.fault]}"

    def close(self) -> None:
        """Give back packets that were not due yet, the file and the memory. No worker may read any more."""
        for record in self._paced:
            self._pool.release(record.address + _STASH + 8 * record.next, record.waiting - record.next)
            record.next = record.waiting
        self._paced = []
        self._file.close()
        if self._table is not None:
            self._table.close()
            self._table = None
        for region in self._regions:
            region.close()
        self._regions, self.queues = [], []


__all__ = ["Source"]
