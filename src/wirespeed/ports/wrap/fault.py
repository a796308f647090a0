"""fault: a port that loses, spoils, doubles, shuffles and delays packets. ``fault(drop=0.01,seed=7) af_packet:eth0``.

Probabilities are from 0 to 1, each packet's for itself; the same seed and the same packets give the same faults.
Packets that are to be sent later are looked at in each turn of the worker, which does not sleep meanwhile; a graph
whose inputs are over ends when they have left, one that is stopped frees them.
"""

from dataclasses import dataclass
from typing import Any

from wirespeed.eal.clock import tsc_hz
from wirespeed.errors import PortError
from wirespeed.jit import signed64, store64
from wirespeed.mem.pool import MAX_BURST
from wirespeed.mem.region import Region
from wirespeed.ports.options import option
from wirespeed.ports.port import Port
from wirespeed.ports.port import port as make_port
from wirespeed.ports.wrap import fault_path as wrap_fault_path
from wirespeed.ports.wrap.fault_path import RECORD_BYTES, FaultQueue, waiting
from wirespeed.ports.wrap.port import Wrapper

_QUIET_S = 0.001
_LONGEST_US = 10_000_000
_PROBABILITIES = ("drop", "duplicate", "reorder", "corrupt")
_DIRECTIONS = ("both", "rx", "tx")


@dataclass(frozen=True)
class FaultOptions:
    """Options of ``fault``."""

    drop: float = option(0.0, "how many of the packets are lost (0 to 1)")
    duplicate: float = option(0.0, "how many come twice")
    reorder: float = option(0.0, "how many are overtaken by one to eight others")
    corrupt: float = option(0.0, "how many have one bit changed")
    delay_us: float = option(0.0, "microseconds that packets come and go later")
    jitter_us: float = option(0.0, "and by how many more at most, at random")
    seed: int = option(1, "of the random generator")
    direction: str = option("both", "rx, tx or both")


class FaultPort(Wrapper):
    """A port with faults."""

    Options = FaultOptions
    path = wrap_fault_path
    record_bytes = RECORD_BYTES

    def __init__(self, spec: str, options: FaultOptions, inner: Port) -> None:
        for name in _PROBABILITIES:
            if not 0 <= getattr(options, name) <= 1:
                raise PortError(f"port {spec!r}: {name}={getattr(options, name)} must be a probability, 0 to 1")
        for name in ("delay_us", "jitter_us"):
            if not 0 <= getattr(options, name) <= _LONGEST_US:
                raise PortError(f"port {spec!r}: {name}={getattr(options, name)} must be 0 to {_LONGEST_US}")
        if options.direction not in _DIRECTIONS:
            raise PortError(f"port {spec!r}: direction={options.direction!r} must be one of {', '.join(_DIRECTIONS)}")
        super().__init__(spec, options, inner)

    @property
    def holds(self) -> bool:
        options = self.options
        return options.direction != "rx" and bool(options.delay_us or options.jitter_us or options.reorder)

    def open_wrapper(self) -> None:
        for direction, addresses in (("rx", self.rx), ("tx", self.tx)):
            for number, address in enumerate(addresses):
                record = FaultQueue(address)
                seed = (self.options.seed * 256 + number) * 2 + (direction == "tx")
                record.state = signed64(seed * 0x9E3779B97F4A7C15 & ((1 << 64) - 1))
                record.quiet = int(_QUIET_S * tsc_hz())
                if self.options.direction in ("both", direction):
                    self._set(record)

    def _set(self, record: FaultQueue) -> None:
        for name in _PROBABILITIES:
            setattr(record, name, int(getattr(self.options, name) * (1 << 32)))
        record.delay = int(self.options.delay_us * tsc_hz() / 1e6)
        record.jitter = int(self.options.jitter_us * tsc_hz() / 1e6)

    def _sums(self) -> dict[str, int]:
        records = [FaultQueue(address) for address in (*self.rx, *self.tx)]
        names = ("lost", "duplicated", "reordered", "corrupted")
        return {f"fault_{name}": sum(getattr(record, name) for record in records) for name in names}

    def extended(self) -> dict[str, int]:
        """The wrapped port's, and how many packets had which fault."""
        return {**self.inner.extended(), **self._sums()}

    def close_wrapper(self) -> None:
        """Free what is on its way."""
        left = [desc for address in (*self.rx, *self.tx) for desc in waiting(address)]
        with Region(8 * MAX_BURST, "wirespeed-fault", huge=False) as vector:
            for start in range(0, len(left), MAX_BURST):
                part = left[start : start + MAX_BURST]
                for number, desc in enumerate(part):
                    store64(vector.address + 8 * number, desc)
                self.pool.release(vector.address, len(part))


def faults(port: Port | str, **options: Any) -> FaultPort:
    """``port`` with faults; options as in text: ``faults(port, drop=0.01, delay_us=100, seed=7)``.

    Raises:
        PortError: an option with a value that cannot be.
    """
    inner = make_port(port) if isinstance(port, str) else port
    text = ",".join(f"{name}={value}" for name, value in options.items())
    return FaultPort(f"fault({text}) {inner.spec}", FaultOptions(**options), inner)


__all__ = ["FaultOptions", "FaultPort", "faults"]
