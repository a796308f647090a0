"""A collector's aggregates for Prometheus: ``GET /metrics`` answers with what is known at that moment.

Counters are since the start; what a window has (top talkers, distinct hosts, percentiles) is of the last that ended.
statsd's metrics appear under their own names, with letters that Prometheus does not know replaced by ``_`` and tags as
labels.
"""

import re
from collections.abc import Iterator
from typing import Any

from wirespeed.apps.collector.collector import CollectorError
from wirespeed.apps.collector.metrics_read import Metric
from wirespeed.apps.collector.report import Reporter, Window

_PREFIX = "wirespeed_collector_"
_LANES = {
    "datagrams": "Datagrams received.", "octets_received": "Bytes of datagrams received.",
    "flows": "Flows counted.", "octets": "Bytes of flows, sampling multiplied in.",
    "packets": "Packets of flows, sampling multiplied in.", "samples": "Counter samples, options records, lines.",
    "lost": "Datagrams or records that sequence numbers say are missing.",
}  # fmt: skip
_QUANTILES = (0.5, 0.9, 0.99)


class Prometheus:
    """Serves ``http://host:port/metrics`` from a thread.

    Args:
        reporter: what is served.
        host, port: where; port 0: any that is free, see :attr:`port` and :attr:`url`.

    Raises:
        CollectorError: prometheus-client is not installed, or the port cannot be had.
    """

    def __init__(self, reporter: Reporter, host: str = "", port: int = 9100) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise CollectorError("Prometheus needs prometheus-client: pip install 'wirespeed[collector]'") from None
        self._reporter = reporter
        registry = CollectorRegistry()
        registry.register(self)  # type: ignore[arg-type]
        try:
            self._server, self._thread = start_http_server(port, host or "0.0.0.0", registry)
        except OSError as error:
            raise CollectorError(f"Prometheus at {host or '*'}:{port}: {error.strerror}; choose another port") from None
        self.port = int(self._server.server_port)
        self.url = f"http://{f'[{host}]' if ':' in host else host or 'localhost'}:{self.port}/metrics"

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def describe(self) -> list[Any]:
        """Asked by the registry; there is nothing to say before there are values."""
        return []

    def collect(self) -> Iterator[Any]:
        """The families of one answer."""
        yield from self._totals()
        yield from self._exporters()
        yield from self._interfaces()
        window = self._reporter.latest
        if window is not None:
            yield from _window(window)
            yield from _statsd(window)

    def _totals(self) -> Iterator[Any]:
        totals = self._reporter.totals()
        for what, help_text in _LANES.items():
            yield _counter(what, help_text, {("kind", lane): sums[what] for lane, sums in totals.lanes.items()})
        for what in ("flows", "octets", "packets"):
            samples = {("protocol", str(number)): sums[what] for number, sums in sorted(totals.protocols.items())}
            yield _counter(f"protocol_{what}", f"The same by IP protocol: {what}.", samples)
        refused = {("reason", reason): count for reason, count in totals.refused.items()}
        yield _counter("refused", "What was refused, by reason.", refused)
        tables = {("event", name): count for name, count in totals.tables.items()}
        yield _counter("tables", "What tables let go or took in.", tables)

    def _exporters(self) -> Iterator[Any]:
        listed = self._reporter.exporters()
        for what in ("datagrams", "records", "lost", "restarts"):
            family = _family(
                "counter", f"exporter_{what}", f"Of each exporter: {what}.", "exporter", "domain", "kind", "port"
            )
            for each in listed:
                family.add_metric([each.address, str(each.domain), each.kind, str(each.port)], getattr(each, what))
            yield family

    def _interfaces(self) -> Iterator[Any]:
        listed = self._reporter.interfaces()
        for what in ("octets", "packets", "errors", "discards"):
            family = _family(
                "counter", f"interface_{what}", f"As agents told: {what}.", "agent", "interface", "direction"
            )
            for each in listed:
                for direction in ("in", "out"):
                    labels = [each.agent, str(each.index), direction]
                    family.add_metric(labels, each.counters[f"{direction}_{what}"])
            yield family


def _family(kind: str, name: str, help_text: str, *labels: str) -> Any:
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    made = CounterMetricFamily if kind == "counter" else GaugeMetricFamily
    return made(_PREFIX + name, help_text, labels=list(labels))


def _counter(name: str, help_text: str, samples: dict[tuple[str, str], int]) -> Any:
    """A counter with one label."""
    family = _family("counter", name, help_text, next(iter(samples), ("protocol", ""))[0])
    for (_, value), count in samples.items():
        family.add_metric([value], count)
    return family


def _window(window: Window) -> Iterator[Any]:
    for side in ("sources", "destinations"):
        family = _family("gauge", f"distinct_{side}", f"Different {side} in the last window.")
        family.add_metric([], getattr(window, f"distinct_{side}"))
        yield family
        family = _family("gauge", f"top_{side}_octets", f"Bytes of the largest {side} in the last window.", "address")
        for talker in getattr(window, side):
            family.add_metric([talker.key], talker.octets)
        yield family
    labels = ("source", "source_port", "destination", "destination_port", "protocol")
    family = _family("gauge", "top_conversations_octets", "Bytes of the largest conversations.", *labels)
    for talker in window.conversations:
        family.add_metric([str(part) for part in talker.key], talker.octets)
    yield family
    family = _family("gauge", "top_services_octets", "Bytes of the largest services.", "protocol", "port")
    for talker in window.services:
        family.add_metric([str(part) for part in talker.key], talker.octets)
    yield family
    family = _family("gauge", "window_seconds", "How long the last window was.")
    family.add_metric([], window.seconds)
    yield family


def _statsd(window: Window) -> Iterator[Any]:
    """statsd's metrics; of two kinds under one name, the later in the alphabet is named after its kind too."""
    from prometheus_client.core import Metric as Family

    families: dict[str, Any] = {}
    for metric in sorted(window.metrics, key=lambda each: (each.name, each.kind)):
        kind = {"counter": "counter", "timer": "summary", "histogram": "summary"}.get(metric.kind, "gauge")
        name = family_name(metric.name)
        if name in families and families[name].type != kind:
            name = f"{name}_{metric.kind}"
        family = families.setdefault(name, Family(name, f"statsd {metric.kind}", kind))
        if family.type == kind:
            _add_metric(family, metric, window)
    yield from families.values()


def _add_metric(family: Any, metric: Metric, window: Window) -> None:
    labels = labels_of(metric.tags)
    if any(sample.labels == labels for sample in family.samples):
        return  # two names that are one in Prometheus: the first
    if family.type == "counter":
        family.add_sample(f"{family.name}_total", labels, metric.value)
    elif family.type == "gauge":
        family.add_sample(family.name, labels, metric.value)
    else:
        unit = 1e-6 if metric.kind == "timer" else 1e-3  # of a timer's histogram, to seconds; of another's, to units
        change = window.metric_changes.get((metric.name, metric.tags, metric.kind))
        if change is not None and change[2] is not None and change[2].count:
            found = change[2].percentiles([100 * quantile for quantile in _QUANTILES])
            for quantile, value in zip(_QUANTILES, found, strict=True):
                family.add_sample(family.name, {**labels, "quantile": str(quantile)}, value * unit)
        family.add_sample(f"{family.name}_sum", labels, metric.value * (1e-3 if metric.kind == "timer" else 1))
        family.add_sample(f"{family.name}_count", labels, metric.updates)


def family_name(name: str) -> str:
    """A name as Prometheus may have it."""
    made = re.sub(r"[^a-zA-Z0-9_:]", "_", name)
    made = made.removesuffix("_total") or "_"
    return f"_{made}" if made[0].isdigit() else made


def labels_of(tags: tuple[str, ...]) -> dict[str, str]:
    """Tags as labels: ``name:value``, or a name alone."""
    labels = {}
    for tag in tags:
        name, _, value = tag.partition(":")
        made = re.sub(r"[^a-zA-Z0-9_]", "_", name) or "_"
        made = f"_{made}" if made[0].isdigit() else made
        labels["tag" + made if made.startswith("__") or made == "quantile" else made] = value or "true"
    return labels


__all__ = ["Prometheus", "family_name", "labels_of"]
