"""generator: packets of flows that are written down before the first one leaves.

``generator:size=64,flows=1024,dst=10.0.0.0/8,rate=1M``. All headers and checksums are right; a packet costs
a copy of one cache line and one descriptor. Each queue has every Nth flow, so that a flow stays with its
worker. ``size`` counts the FCS, as the field does; the cell then holds four bytes less.

One region holds it all::

    queue records | templates, queue after queue | a length for each | the body of longer frames
"""

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.eal.clock import tsc_hz
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports import generator_frames as frames
from wirespeed.ports.generator_flows import Column, choose
from wirespeed.ports.generator_path import (
    FRACTION,
    TEMPLATE,
    GeneratorQueue,
    receive_long,
    receive_random,
    receive_short,
)
from wirespeed.ports.generator_plan import GeneratorOptions, per_packet, plan, read_destinations
from wirespeed.ports.options import parse_options
from wirespeed.ports.port import Port

_RECORD = 384  # three pairs of cache lines a queue: no other worker writes next to it
_DEPTH_S = 0.004  # a worker that comes back within this time catches up
_HUGE = 1 << 20


class Generator(Port):
    """Packets of precomputed flows in, nothing out.

    Args:
        spec, options: the text and what it says.
        destinations: IPv4 addresses, uint32 in host order, instead of ``dst``: taken in turn, or drawn if
            ``dst_mode=random``.

    Raises:
        PortError: an option is wrong.
    """

    Options = GeneratorOptions
    receive = staticmethod(receive_short)
    rx_queues = 0
    tx_queues = 0

    def __init__(self, spec: str, options: GeneratorOptions, destinations: NDArray[np.uint32] | None = None) -> None:
        super().__init__(spec, options)
        if destinations is None and options.destinations:
            destinations = read_destinations(spec, options.destinations)
        self.destinations = destinations
        self.plan = plan(spec, options, destinations)
        self._drawn = {field.name: per_packet(spec, field) for field in self.plan.fields if self.plan.redraw}
        if self.plan.redraw:
            self.receive = receive_random
        elif len(self.plan.lengths) > 1 or self.plan.longest > TEMPLATE or self.plan.template > TEMPLATE:
            self.receive = receive_long

    @classmethod
    def from_options(cls, destinations: NDArray[np.uint32] | None = None, **options: Any) -> "Generator":
        """A generator from Python: ``Generator.from_options(size=64, flows=65536, destinations=array)``.

        Args:
            destinations: IPv4 addresses, uint32 in host order.
            options: as in the text; see :class:`GeneratorOptions`.

        Raises:
            PortError: an option is wrong.
        """
        words = {True: "yes", False: "no"}
        text = ",".join(
            f"{name}={words[value] if isinstance(value, bool) else value}" for name, value in options.items()
        )
        spec = f"generator:{text}"
        return cls(spec, parse_options(spec, text, cls.Options), destinations)

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        plan = self.plan
        columns = self._columns()
        shares = [np.arange(queue, plan.flows, rx_queues) for queue in range(rx_queues)]
        entries = [len(share) * len(plan.lengths) for share in shares]
        templates = -(-rx_queues * _RECORD // 128) * 128
        lengths = templates + sum(entries) * plan.template
        body = lengths + sum(entries) * 8
        rest = -(-max(0, plan.longest - plan.template) // 64) * 64  # read in whole cache lines
        size = body + rest
        self._memory = Region(max(size, 1), "wirespeed-generator", huge=size >= _HUGE)
        base = self._memory.address
        _array(base + body, rest)[:] = frames.body(plan.template + rest)[plan.template :]
        self.rx = [base + queue * _RECORD for queue in range(rx_queues)]
        active = sum(1 for share in shares if len(share))
        for queue, share in enumerate(shares):
            record = GeneratorQueue(self.rx[queue])
            record.first = record.next = base + templates
            record.end = record.first + entries[queue] * plan.template
            record.lengths = base + lengths
            record.body = base + body
            self._write(record, share, columns)
            self._limit(record, queue, active)
            self._describe(record, queue)
            templates += entries[queue] * plan.template
            lengths += entries[queue] * 8

    def close(self) -> None:
        self._memory.close()

    # ---------------------------------------------------------------------------------------------------

    def _columns(self) -> dict[str, Column]:
        plan, seed = self.plan, self.options.seed
        distinct = not plan.redraw and self.destinations is None
        columns = choose(plan.fields, plan.flows, seed, distinct)
        if self.destinations is not None:
            known = len(self.destinations)
            numbers = np.arange(plan.flows) % known
            if self.options.dst_mode == "random":
                numbers = np.random.default_rng(seed).integers(0, known, plan.flows)
            columns["dst"].low = self.destinations[numbers].astype(np.uint64)
        return columns

    def _write(self, record: GeneratorQueue, share: NDArray[np.int64], columns: dict[str, Column]) -> None:
        """The templates of one queue: its flows go by once for each length, each time with the next one."""
        plan = self.plan
        numbers = np.arange(len(share) * len(plan.lengths))
        turn, local = np.divmod(numbers, max(1, len(share)))
        rows = share[local]
        lengths = np.array(plan.lengths, np.int64)[(local + turn) % len(plan.lengths)]
        shown = {name: Column(column.high[rows], column.low[rows]) for name, column in columns.items()}
        memory = _array(record.first, len(numbers) * plan.template).reshape(-1, plan.template)
        frames.fill(memory, plan.shape, plan.macs, shown, lengths)
        _array(record.lengths, len(numbers) * 8).view(np.int64)[:] = lengths

    def _limit(self, record: GeneratorQueue, queue: int, active: int) -> None:
        """How many packets, and how fast: what the port was told, shared among the queues that have flows."""
        count = self.options.count
        if queue >= active:
            record.left = 0
        elif count < 0:
            record.left = -1
        else:
            record.left = count // active + (queue < count % active)
        if self.plan.rate:
            hz = tsc_hz()
            record.cost = max(1, int((hz << FRACTION) * active / self.plan.rate))
            record.depth = max(record.cost, int((hz << FRACTION) * _DEPTH_S))

    def _describe(self, record: GeneratorQueue, queue: int) -> None:
        """What frames look like, for those who cut, chain and redraw them."""
        plan, shape = self.plan, self.plan.shape
        record.frame, record.template = plan.longest, plan.template
        record.cells = plan.cells
        record.state = (self.options.seed * 0x9E3779B97F4A7C15 + (queue + 1) * 0xBF58476D1CE4E5B9) | 1
        record.ip_sum = shape.network + 10 if shape.version == 4 else 0
        record.sum = shape.sum
        record.covers = int(shape.covers_addresses)
        record.udp = int(shape.proto == "udp")
        last = shape.address_size - 4
        places = {
            "src": shape.source + last,
            "dst": shape.destination + last,
            "sport": shape.ports,
            "dport": shape.ports + 2,
        }
        for name, at in places.items():
            low, span = self._drawn.get(name, (0, 0))
            setattr(record, f"{name}_at", at)
            setattr(record, f"{name}_low", low)
            setattr(record, f"{name}_span", span)


def _array(address: int, size: int) -> NDArray[np.uint8]:
    """``size`` bytes at ``address``, to write with NumPy."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))
