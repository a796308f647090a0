"""The server's state: written by control code ten times a second, read and counted by workers.

::

    with NtpServer(Standing(local=10)) as server:
        answer_ntp(service, server)
        service.run()
"""

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass

from wirespeed.apps.dns.limit import SETS
from wirespeed.apps.ntp.clock import Standing, TimeOfDay, describe, ntp_time
from wirespeed.apps.ntp.state import COUNTERS, SHEETS, NtpView, TimeSheet
from wirespeed.eal.alarm import Alarm
from wirespeed.eal.clock import Clock, tsc_hz
from wirespeed.eal.kernel_clock import KernelClock, kernel_clock
from wirespeed.errors import ConfigError
from wirespeed.jit import signed64, store_release
from wirespeed.mem.region import Region
from wirespeed.mem.state import MAX_WORKERS

REFRESH_S: float = 0.1
INTERVAL_S: float = 2.0
"""RFC 5905 section 7.3 has clients ask every 16 s (MINPOLL), and bursts with 2 s between requests."""
BURST: int = 16
"""Hosts behind one address may well be so many."""
SLIP: int = 4

_SET_BYTES = 64


@dataclass(frozen=True)
class NtpStats:
    """What all workers counted (:class:`wirespeed.apps.ntp.state.NtpView`), and what is told of the clock."""

    answered: int
    stamped: int
    limited: int
    slipped: int
    unknown_keys: int
    refused: int
    stratum: int
    synchronised: bool
    max_error_us: int


class NtpServer:
    """What workers tell the time by; in a handler it is the state of :func:`wirespeed.apps.ntp.serve.serve`.

    Args:
        standing: stratum and reference.
        interval_s: seconds between requests of one address, on average; 0: no limit.
        burst: requests at once.
        slip: each so manieth request beyond that is told to ask less often, the others are dropped; 0: all are.
        follow: how the counter and the time of day go together now.
        kernel: what the kernel says of its clock.
        hz: of the cycle counter.

    Raises:
        ConfigError: a setting out of range.
        OSError: the kernel does not say how its clock is.
    """

    View = NtpView
    stride = NtpView.SIZE

    def __init__(
        self,
        standing: Standing | None = None,
        *,
        interval_s: float = INTERVAL_S,
        burst: int = BURST,
        slip: int = SLIP,
        follow: Callable[[], Clock] | None = None,
        kernel: Callable[[], KernelClock] = kernel_clock,
        hz: int = 0,
    ) -> None:
        if not 0 <= interval_s <= 3600:
            raise ConfigError(f"{interval_s:g} s between requests are not possible: up to 3600, or 0 for no limit")
        if not 1 <= burst <= 1000:
            raise ConfigError(f"a burst of {burst} requests is not possible: 1 to 1000")
        if not 0 <= slip <= 1000:
            raise ConfigError(f"slip={slip} is not possible: 0 to 1000")
        self.standing = standing or Standing()
        self.workers = 1
        self._follow, self._kernel = follow or TimeOfDay().follow, kernel
        self._alarm: Alarm | None = None
        self._last_error_us, self._closed = 1 << 62, False
        self._lock = threading.Lock()  # the alarm's thread, and who starts and closes
        self._region = Region(MAX_WORKERS * self.stride, "wirespeed-ntp", huge=False)
        self._rates = Region(MAX_WORKERS * SETS * _SET_BYTES, "wirespeed-ntp-rates", huge=False, populate=False)
        self.address = self._region.address
        seeds = [signed64(secrets.randbits(64)) for _ in range(2)]
        interval = round((hz or tsc_hz()) * interval_s)
        for worker in range(MAX_WORKERS):
            view = self[worker]
            view.interval, view.burst, view.slip = interval, interval * burst, slip
            view.rates, view.rates_mask = self._rates.address + worker * SETS * _SET_BYTES, SETS - 1
            view.seed0, view.seed1 = seeds
        self._set_at = 0
        self.refresh()

    def __getitem__(self, worker: int) -> NtpView:
        """One worker's state."""
        return NtpView(self.address + worker * self.stride)

    def prepare(self, workers: int) -> None:
        """The engine's word before a start: how many workers are to be told the time."""
        self.workers = workers
        self.refresh()

    def refresh(self) -> None:
        """Tell the workers how the clock is now."""
        with self._lock:
            if not self._closed:
                self._refresh()

    def _refresh(self) -> None:
        clock, kernel = self._follow(), self._kernel()
        if kernel.max_error_us < self._last_error_us or not self._set_at:  # it grows until the clock is set again
            self._set_at = ntp_time(clock.anchor_ns)
        self._last_error_us, self.known = kernel.max_error_us, kernel
        said = describe(kernel, self.standing, clock.uncertainty_ns)
        whole, rest = divmod(1 << 32, clock.hz)
        for worker in range(self.workers):
            view = self[worker]
            generation = view.generation + 1
            sheet = TimeSheet(view.address + SHEETS + (generation & 1) * TimeSheet.SIZE)
            sheet.anchor_cycles, sheet.anchor = clock.anchor_cycles, signed64(ntp_time(clock.anchor_ns))
            sheet.whole, sheet.fraction = whole, signed64((rest << 64) // clock.hz)
            sheet.head, sheet.tail = _words(said)
            sheet.reference = _words(self._set_at.to_bytes(8, "big"))[0]
            store_release(view.address, generation)

    def start(self) -> None:
        """Go on telling them, by an alarm, until :meth:`close`."""
        self._alarm = self._alarm or Alarm(REFRESH_S, self.refresh, every=REFRESH_S)

    def stats(self) -> NtpStats:
        """All workers' counters, and the clock as the kernel has it."""
        views = [self[worker] for worker in range(MAX_WORKERS)]
        counted = {name: sum(getattr(view, name) for view in views) for name in COUNTERS}
        stratum = describe(self.known, self.standing, 1)[1]
        return NtpStats(
            **counted, stratum=stratum, synchronised=self.known.synchronised, max_error_us=self.known.max_error_us
        )

    def close(self) -> None:
        """Give all memory back; no graph may run with it."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        with self._lock:
            self._closed = True
            self._region.close()
            self._rates.close()

    def __enter__(self) -> "NtpServer":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _words(data: bytes) -> list[int]:
    """Bytes as the words that a store of each puts in their place."""
    return [int.from_bytes(data[at : at + 8], "little", signed=True) for at in range(0, len(data), 8)]


__all__ = ["BURST", "INTERVAL_S", "SLIP", "NtpServer", "NtpStats"]
