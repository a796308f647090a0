"""The server's state: zones loaded, exchanged and counted while workers answer.

::

    server = DnsServer([read_zone("example.zone")])
    ...                     # workers call serve(server, ...)
    server.reload([read_zone("example.zone")])

A reload builds another store beside the one that counts, shows it to each worker by one store of a word, and gives the
old one back when no worker can be reading it: no question goes unanswered meanwhile, or gets half of each.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from wirespeed.apps.dns.limit import SETS
from wirespeed.apps.dns.state import COUNTERS, DnsView
from wirespeed.apps.dns.store import Store
from wirespeed.apps.dns.zone import DnsError, Zone
from wirespeed.jit import signed64, store_release
from wirespeed.mem.region import Region
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.tables.reclaimer import Reclaimer

SIZE_MAX: int = 1232
"""Bytes of an answer that no path fragments (DNS flag day 2020)."""
RATE: float = 200
"""Equal answers to one network in a second."""
SLIP: int = 2

_SET_BYTES = 64
_CACHED_BYTES = 256 << 10


@dataclass(frozen=True)
class DnsStats:
    """What all workers counted (:data:`wirespeed.apps.dns.state.COUNTERS`), and what is loaded."""

    queries: int
    answered: int
    no_data: int
    no_name: int
    referrals: int
    refused: int
    malformed: int
    not_implemented: int
    bad_version: int
    truncated: int
    limited: int
    slipped: int
    dropped: int
    names: int
    memory_bytes: int
    loads: int


class DnsServer:
    """What workers answer from; in a handler it is the state that :func:`wirespeed.apps.dns.serve.serve` takes.

    Args:
        zones: what is answered.
        size_max: bytes of the largest answer to who takes more than 512.
        rate: equal answers to one network in a second; 0: no limit.
        slip: each so manieth answer beyond that is truncated, the others are dropped; 0: all are dropped.
        ticks_per_s: of the time that workers pass: nanoseconds, unless said.

    Raises:
        DnsError: zones that cannot be, or a setting out of range.
        ArenaError: no memory.
    """

    View = DnsView
    stride = DnsView.SIZE

    def __init__(
        self,
        zones: Sequence[Zone],
        *,
        size_max: int = SIZE_MAX,
        rate: float = RATE,
        slip: int = SLIP,
        ticks_per_s: int = 1_000_000_000,
    ) -> None:
        if not 512 <= size_max <= 65_507:
            raise DnsError(f"answers of at most {size_max} bytes are not possible: 512 to 65507")
        if not 0 <= rate <= 1e9 or 0 < rate < 1:
            raise DnsError(f"{rate:g} equal answers a second are not possible: 1 or more, or 0 for no limit")
        if not 0 <= slip <= 1000:
            raise DnsError(f"slip={slip} is not possible: 0 to 1000")
        self.reclaimer: Reclaimer | None = None
        self.loads = 1
        self._store = Store(zones)
        self._region = Region(MAX_WORKERS * self.stride, "wirespeed-dns", huge=False)
        self._rates = Region(MAX_WORKERS * SETS * _SET_BYTES, "wirespeed-dns-rates", huge=False, populate=False)
        self.address = self._region.address
        seeds = [signed64(secrets.randbits(64)) for _ in range(2)]
        for worker in range(MAX_WORKERS):
            view = self[worker]
            view.store, view.size_max = self._store.address, size_max
            view.interval = max(round(ticks_per_s / rate), 1) if rate else 0
            view.burst, view.slip = ticks_per_s, slip
            view.rates, view.rates_mask = self._rates.address + worker * SETS * _SET_BYTES, SETS - 1
            view.seed0, view.seed1 = seeds

    def __getitem__(self, worker: int) -> DnsView:
        """One worker's state."""
        return DnsView(self.address + worker * self.stride)

    @property
    def zones(self) -> list[str]:
        """Names of the zones."""
        return self._store.origins

    def outgrows_cache(self) -> bool:
        """Whether the names are so many that workers ask for them ahead: it is decided at the start."""
        return self._store.memory_bytes > _CACHED_BYTES

    def reload(self, zones: Sequence[Zone]) -> None:
        """Answer from these zones from now on. Raises as the constructor does; nothing is changed then."""
        old, self._store = self._store, Store(zones)
        for worker in range(MAX_WORKERS):
            store_release(self[worker].address, self._store.address)
        self.loads += 1
        if self.reclaimer is None:
            old.close()
        else:
            self.reclaimer.defer(old.close)

    def stats(self) -> DnsStats:
        """All workers' counters, and what is loaded."""
        views = [self[worker] for worker in range(MAX_WORKERS)]
        counted = {name: sum(getattr(view, name) for view in views) for name in COUNTERS}
        return DnsStats(**counted, names=self._store.names, memory_bytes=self._store.memory_bytes, loads=self.loads)

    def close(self) -> None:
        """Give all memory back; no graph may run with it."""
        self._store.close()
        self._region.close()
        self._rates.close()

    def __enter__(self) -> "DnsServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


__all__ = ["RATE", "SIZE_MAX", "SLIP", "DnsServer", "DnsStats"]
