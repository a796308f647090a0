"""The collector on a port of a host, and what control code does for it.

::

    service = ws.Service("tap:ws0", address="10.7.0.1/24")
    collector = Collector()
    collect_flows(service, collector, [2055, 4739, 6343])
    collect_statsd(service, collector)
    keeper = Keeper(Reporter(collector), prometheus=Prometheus(...))
    service.start()
    while ...:
        service.poll(0.1)
        keeper.step()
"""

import time
from collections.abc import Iterable
from typing import Any

from wirespeed.apps.collector.collector import Collector, CollectorError
from wirespeed.apps.collector.messages import serve_flows
from wirespeed.apps.collector.parquet import Parquet
from wirespeed.apps.collector.prometheus import Prometheus
from wirespeed.apps.collector.report import Reporter, Window
from wirespeed.apps.collector.statsd import serve_statsd
from wirespeed.apps.service import Service
from wirespeed.jit import inline, load32, load64, rotate_left

STATSD_PORT: int = 8125

COLLECTED = "collected"
"""Door of datagrams that were read: telemetry has no answers."""
REFUSED = "refused"
"""Door of those in which something was refused; the collector counts what, by reason."""

_MAPPED = 0xFFFF_0000  # bytes 00 00 ff ff: what is in front of an IPv4 address in IPv6


@inline
def sender(request: Any) -> tuple[int, int]:
    """Who sent a datagram, as rows have addresses."""
    if request.six == 0:
        return 0, rotate_left(load32(request.ip + 12), 32) | _MAPPED
    return load64(request.ip + 8), load64(request.ip + 16)


def collect_flows(service: Service, collector: Collector, ports: Iterable[int]) -> None:
    """Take NetFlow, IPFIX and sFlow, whichever comes, at some ports: a datagram says itself what it is.

    Args:
        service: the host.
        collector: what counts them.
        ports: UDP ports.

    Raises:
        ServiceError: a port is taken.
    """

    def flows(request: Any, reply: Any) -> Any:
        """NetFlow 5 and 9 (RFC 3954), IPFIX (RFC 7011), sFlow 5."""
        high, low = sender(request)
        at, length = request.payload.start, request.length
        if serve_flows(collector.address, high, low, request.source_port, at, length) != 0:
            return "refused"
        return "collected"

    for port in ports:
        service.udp(port=port, drops=(COLLECTED, REFUSED))(flows)


def collect_statsd(service: Service, collector: Collector, port: int = STATSD_PORT) -> None:
    """Take statsd's metrics at a port; the rest is as of :func:`collect_flows`."""

    @service.udp(port=port, drops=(COLLECTED, REFUSED))
    def statsd(request: Any, reply: Any) -> Any:
        """Lines of statsd."""
        high, low = sender(request)
        if serve_statsd(collector.address, high, low, request.payload.start, request.length) != 0:
            return "refused"
        return "collected"


class Keeper:
    """What a collector needs several times a second: the time, ends of windows, what goes to files.

    Args:
        reporter: of the collector.
        window_s: how long a window is.
        prometheus, parquet: where windows go; closed with this.
        now_ns: when it begins; ``time.monotonic_ns()`` unless given.

    Raises:
        CollectorError: a window of no length.
    """

    def __init__(
        self,
        reporter: Reporter,
        window_s: float = 10.0,
        prometheus: Prometheus | None = None,
        parquet: Parquet | None = None,
        now_ns: int | None = None,
    ) -> None:
        if not window_s > 0:
            raise CollectorError(f"a window of {window_s} s must be more than 0")
        self.reporter, self.prometheus, self.parquet = reporter, prometheus, parquet
        self._window_ns = round(window_s * 1e9)
        self._end_ns = (time.monotonic_ns() if now_ns is None else now_ns) + self._window_ns

    def step(self, now_ns: int | None = None) -> Window | None:
        """Call it some ten times a second: the window that ended just now, if one did.

        Args:
            now_ns: a steady clock; ``time.monotonic_ns()`` unless given.
        """
        collector = self.reporter.collector
        now_ns = time.monotonic_ns() if now_ns is None else now_ns
        collector.tick(now_ns)
        if self.parquet is not None:
            self.parquet.write_flows(collector.take_rows())
            self.parquet.rotate()
        if now_ns < self._end_ns:
            return None
        self._end_ns += self._window_ns
        if self._end_ns <= now_ns:  # after a pause: no windows of no length
            self._end_ns = now_ns + self._window_ns
        return self._end()

    def _end(self) -> Window:
        window = self.reporter.end_window()
        if self.parquet is not None:
            self.parquet.write_window(window)
        return window

    def close(self) -> Window:
        """End the window that runs, close files, stop serving; what the window was."""
        collector = self.reporter.collector
        collector.tick()
        if self.parquet is not None:
            self.parquet.write_flows(collector.take_rows())
        window = self._end()
        if self.parquet is not None:
            self.parquet.close()
        if self.prometheus is not None:
            self.prometheus.close()
        return window


__all__ = ["COLLECTED", "REFUSED", "STATSD_PORT", "Keeper", "collect_flows", "collect_statsd", "sender"]
