"""Software where the device has none: what one open port lacks of what is wanted, and the records workers need for it.

Chosen when the port is open and says what its device does (:class:`wirespeed.ports.offloads.Offload`). The functions
are :mod:`wirespeed.ports.software.path`'s; the loop that is generated calls them around the driver's own.
"""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from wirespeed.mem.region import Region
from wirespeed.ports import spread
from wirespeed.ports.offloads import Offload
from wirespeed.ports.rss import Rss, Spreading
from wirespeed.ports.rules import path as rules_path
from wirespeed.ports.software import path as software_path
from wirespeed.ports.software.path import (
    CUTS_TCP,
    CUTS_UDP,
    PREPARE_BYTES,
    SUMS,
    TAGS,
    Coalesce,
    Prepare,
    Strip,
    Verify,
)
from wirespeed.tables.toeplitz import Toeplitz
from wirespeed.traffic.gro import Gro

_ABLE = {
    Offload.TX_CHECKSUM: SUMS,
    Offload.TX_TCP_SEGMENTATION: CUTS_TCP,
    Offload.TX_UDP_SEGMENTATION: CUTS_UDP,
    Offload.VLAN_INSERT: TAGS,
}
_LINE = 64


@dataclass(frozen=True)
class Stage:
    """A function of the packet path and its record: worker 0's, and bytes to the next worker's."""

    name: str
    function: Callable[..., Any]
    address: int
    stride: int


class Software:
    """What the workers do for one open port.

    Args:
        port: open; its rules are opened here.
        workers: how many there are.
        hash: the RSS hash of a port without a key of its own.

    Attributes:
        rx: stages behind ``receive``, in their order.
        tx: the stage before ``transmit``; None if the device does all of it.
        spreading: where received packets go; None if the port gives none.
        known: by name, all stages that a loop for this port may have. The record of rules is there without any, for
            loops that were made when there were some.
    """

    def __init__(self, port: Any, workers: int, hash: Toeplitz) -> None:
        self._port, self._workers = port, workers
        self.rx: list[Stage] = []
        self.tx: Stage | None = None
        self.spreading: Spreading | None = None
        self.known: dict[str, Stage] = {}
        self._respreading = threading.Lock()
        self._tables: list[Gro] = []
        self._verify = self._strip = 0
        size = 64 + workers * (3 * _LINE + PREPARE_BYTES)
        self._memory = Region(size, "wirespeed-software", huge=False)
        self._next = self._memory.address
        try:
            if port.rx:
                self._behind_receive(hash)
            if port.tx:
                self._before_transmit()
            self.known |= {stage.name: stage for stage in self.stages}
        except BaseException:
            self.close()
            raise

    def _record(self, size: int) -> int:
        """Room for a record of each worker."""
        at = self._next
        self._next += size * self._workers
        return at

    def _behind_receive(self, hash: Toeplitz) -> None:
        port, workers = self._port, self._workers
        wishes, device = port.wishes, port.offloads
        self.spreading = Spreading(self._record(0), port.spec, port.rss, workers, hash)
        self._next += _LINE
        if wishes.checksum:
            self._verify = self._add("verify", software_path.verify, _LINE)
            for worker in range(workers):
                Verify(self._verify + worker * _LINE).drop = int(wishes.checksum == "drop")
        if wishes.vlan_strip and Offload.VLAN_STRIP not in device:
            self._strip = self._add("strip", software_path.strip, _LINE)
        if wishes.rss_hash and Offload.RX_HASH not in device:
            self.rx.append(Stage("stamp_hash", spread.stamp_hash, self.spreading.record.address, 0))
        if wishes.coalesce and Offload.RX_COALESCING not in device:
            records = self._add("coalesce", software_path.coalesce, _LINE)
            for worker in range(workers):
                self._tables.append(Gro(256))
                Coalesce(records + worker * _LINE).table = self._tables[-1].address
        port.rules.open(workers, workers)
        self.known["rules"] = Stage("rules", rules_path.apply_rules, port.rules.address, rules_path.STATE_BYTES)
        self.retake()
        self._spread(port.rss)

    def _spread(self, rss: Rss | None) -> None:
        port, workers = self._port, self._workers
        assert self.spreading is not None
        spreads = len(port.rx) < workers
        if not spreads and rss is not None:
            spreads = workers > 1 and not port.configure_rss(rss)
        steers = port.rules.steers
        if steers:
            self.spreading.steer(rules_path.targets_of(port.rules.address), rules_path.STATE_BYTES)
        self.spreading.set(spreads, steers)

    def _before_transmit(self) -> None:
        able = sum(bit for offload, bit in _ABLE.items() if offload in self._port.offloads)
        if able == SUMS | CUTS_TCP | CUTS_UDP | TAGS:
            return
        records = self._record(PREPARE_BYTES)
        for worker in range(self._workers):
            Prepare(records + worker * PREPARE_BYTES).able = able
        self.tx = Stage("prepare", software_path.prepare, records, PREPARE_BYTES)

    def _add(self, name: str, function: Callable[..., Any], size: int) -> int:
        records = self._record(size)
        self.rx.append(Stage(name, function, records, size))
        return records

    @property
    def stages(self) -> list[Stage]:
        """All of them: the loop is made for these."""
        return [*self.rx, *([self.tx] if self.tx else [])]

    def retake(self) -> None:
        """Rules came or went while the port was open: choose the stages anew, for the next loop."""
        self.rx = [stage for stage in self.rx if stage.name != "rules"]
        if self._port.rules.in_software:
            self.rx.append(self.known["rules"])

    def steer(self) -> None:
        """The loop that applies the rules runs everywhere: let them say where packets go, if they do."""
        if self.spreading is not None:
            if not self._port.rules.steers:
                self.spreading.steer(0, 0)
            self._spread(self._port.rss)

    def respread(self, rss: Rss | None) -> None:
        """RSS is configured anew while the port is open; None: as if it never had been.

        Raises:
            PortError: a queue that is not there. Nothing has changed.
        """
        if self.spreading is None:
            return
        with self._respreading:
            port = self._port
            retired = self.spreading.configure(rss)
            if rss is None and port.rss is not None:
                port.configure_rss(Rss())  # a device that was told once must be told
            self._spread(rss)
            if retired is not None:
                if port.grace is None:
                    retired.close()
                else:
                    port.grace.defer(retired.close)

    def counters(self) -> dict[str, int]:
        """What was done, by name; what did not happen is left out."""
        workers = range(self._workers)
        found: dict[str, int] = {}

        def add(name: str, value: int) -> None:
            if value:
                found[name] = found.get(name, 0) + value

        for worker in workers:
            if self.tx is not None:
                made = Prepare(self.tx.address + worker * PREPARE_BYTES)
                for name in ("summed", "cut", "segments", "tagged", "refused"):
                    add(f"software-tx-{name}", getattr(made, name))
            if self._verify:
                verified = Verify(self._verify + worker * _LINE)
                add("software-rx-checksum-good", verified.good)
                add("software-rx-checksum-bad", verified.bad)
            if self._strip:
                add("software-rx-stripped", Strip(self._strip + worker * _LINE).stripped)
        for table in self._tables:
            add("software-rx-coalesced", table.stats().merged)
        add("rules-dropped", self._port.rules.dropped)
        return found

    def close(self) -> None:
        """Free everything; no worker runs any more."""
        self._port.rules.close()
        if self.spreading is not None:
            self.spreading.close()
        for table in self._tables:
            table.close()
        self._memory.close()
        self.rx, self.tx, self.spreading, self._tables = [], None, None, []


__all__ = ["Software", "Stage"]
