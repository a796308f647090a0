"""Ports that wrap ports: what is between a graph and a driver, and neither of them knows.

In text, the wrapper stands before the port with its options in parentheses; the outermost comes first::

    capture(/tmp/eth0.pcapng,match=udp/53) af_packet:eth0
    trace(rate=10) fault(drop=0.01,seed=7) tap:ws0

A wrapper is a subclass of :class:`Wrapper` and a module of six functions for the packet path. They are joined with the
driver's ``receive`` and ``transmit`` in a small module that is written for this pair (:mod:`wirespeed.jit.generated`),
so that all of it dissolves in the worker's loop and is found compiled by the next run::

    receive:    got = inner_receive(inner, cache, arrive(queue, vector), allow(queue, room))
                return deliver(queue, cache, vector, room, got)
    transmit:   many = submit(queue, cache, vector, count)
                return settle(queue, cache, vector, count, many,
                              inner_transmit(inner, cache, outgoing(queue, vector), many))

``waits(queue)`` says 1 when a receive queue holds something that the worker must not sleep over. A wrapper that holds
packets to send back (:attr:`Wrapper.holds`) has a seventh function, and its port a ``flush``::

    flush:      many = due(queue)
                settle(queue, cache, 0, many, many, inner_transmit(inner, cache, outgoing(queue, 0), many))
                return many + waits(queue)
"""

import dataclasses
import re
from collections.abc import Callable
from importlib import import_module
from itertools import zip_longest
from types import ModuleType
from typing import Any

from wirespeed.errors import PortError
from wirespeed.jit import le64
from wirespeed.jit.generated import load_module, write_module
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import nearest, parse_options
from wirespeed.ports.port import Port, PortStats
from wirespeed.ports.port import port as make_port
from wirespeed.ports.queue import Queue
from wirespeed.ports.rss import Rss
from wirespeed.ports.rules.rules import Action, Rule, RuleCount
from wirespeed.ports.status import Link
from wirespeed.sync.rcu import Grace

WRAPPERS: dict[str, str] = {
    "capture": "wirespeed.ports.wrap.capture:CapturePort",
    "fault": "wirespeed.ports.wrap.fault:FaultPort",
    "trace": "wirespeed.ports.wrap.trace:TracePort",
}
"""Every kind of wrapper and its class."""

_SPEC = re.compile(r"\s*(\w+)\(([^()]*)\)\s*(\S.*)")

_TEXT = '''\
"""{wrapper} around a driver; written by wirespeed, do not edit."""

from wirespeed.jit import inline
from wirespeed.ports.wrap.port import WrapQueue
from {path} import allow, arrive, deliver, outgoing, settle, submit, waits

# Put here before this module runs:
#     inner_receive = {receive}
#     inner_transmit = {transmit}
#     inner_arm = {arm}
#     inner_flush = {flush}


@inline
def receive(queue, cache, vector, room):
    got = inner_receive(WrapQueue(queue).inner, cache, arrive(queue, vector), allow(queue, room))
    return deliver(queue, cache, vector, room, got)


@inline
def transmit(queue, cache, vector, count):
    many = submit(queue, cache, vector, count)
    sent = inner_transmit(WrapQueue(queue).inner, cache, outgoing(queue, vector), many)
    return settle(queue, cache, vector, count, many, sent)


@inline
def arm(queue, on):
    return waits(queue) | inner_arm(WrapQueue(queue).inner, on)


@inline
def arm_alone(queue, on):
    return waits(queue)


@inline
def flush(queue, cache):
    return inner_flush(WrapQueue(queue).inner, cache)
'''

_HOLDS = """

from {path} import due


@inline
def flush_own(queue, cache):
    many = due(queue)
    if many > 0:
        sent = inner_transmit(WrapQueue(queue).inner, cache, outgoing(queue, 0), many)
        settle(queue, cache, 0, many, many, sent)
    return many + waits(queue)


@inline
def flush_both(queue, cache):
    return flush_own(queue, cache) + inner_flush(WrapQueue(queue).inner, cache)
"""


class WrapQueue(Queue):
    """What every wrapper's record begins with, behind the counters."""

    inner = le64(64, "address of the wrapped port's record")
    SIZE = 128


class Wrapper(Port):
    """A port around ``inner``; what it does not do itself, that one does.

    Attributes:
        inner: the wrapped port.
    """

    path: ModuleType  # of its packet path
    record_bytes: int  # of a queue's record

    def __init__(self, spec: str, options: Any, inner: Port) -> None:
        self.inner = inner  # first: some of what follows is that port's
        super().__init__(spec, options)
        self.events = inner.events
        self.rx_queues, self.tx_queues, self.passive = inner.rx_queues, inner.tx_queues, inner.passive
        self.stays = inner.stays
        self.beside_kernel, self._rss, self.wishes = inner.beside_kernel, inner.rss, inner.wishes
        for rule in inner.rules:  # what its text says is for who is in the graph
            self.rules.add("|".join(map(str, rule.matches)), rule.action)
        self.rules.otherwise = inner.rules.otherwise
        self._memory: Region | None = None
        self._dropped = [(0, 0)]  # by queue, when it was closed
        self._join()

    def _join(self) -> None:
        """Write and load the functions of this wrapper around this driver."""
        inner = self.inner
        objects = {f"inner_{name}": getattr(inner, name) for name in ("receive", "transmit", "arm", "flush")}
        names = {key.removeprefix("inner_"): _named(value) for key, value in objects.items()}
        text = _TEXT.format(wrapper=type(self).__name__, path=self.path.__name__, **names)
        if self.holds:
            text += _HOLDS.format(path=self.path.__name__)
        module = load_module(write_module(text, "wrapper"), objects)
        self.receive = module.receive if inner.receive is not None else None
        self.transmit = module.transmit if inner.transmit is not None else None
        self.arm = module.arm if inner.arm is not None else module.arm_alone
        self.flush = None
        if self.holds:
            self.flush = module.flush_own if inner.flush is None else module.flush_both
        elif inner.flush is not None:
            self.flush = module.flush

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """Open the wrapped port, then lay out a record for each of its queues."""
        self.inner.open(pool, rx_queues, tx_queues)
        try:
            self._join()  # a driver chooses its functions when it is opened
            self.pool = pool
            many = max(1, len(self.inner.rx) + len(self.inner.tx))
            self._memory = Region(many * self.record_bytes, "wirespeed-wrapper", huge=False)
            places = [self._memory.address + i * self.record_bytes for i in range(many)]
            self.rx, self.tx = places[: len(self.inner.rx)], places[len(self.inner.rx) :][: len(self.inner.tx)]
            for address, inner in zip((*self.rx, *self.tx), (*self.inner.rx, *self.inner.tx), strict=True):
                WrapQueue(address).inner = inner
            self.mac, self.mtu, self.offloads = self.inner.mac, self.inner.mtu, self.inner.offloads
            self.open_wrapper()
        except BaseException:
            self.close()
            raise

    @property
    def holds(self) -> bool:
        """Whether packets to send may wait here until their time comes."""
        return False

    def open_wrapper(self) -> None:
        """The wrapper's own part of :meth:`open`: all records are there."""

    def close_wrapper(self) -> None:
        """The wrapper's own part of :meth:`close`: no worker runs, all records are still there."""

    def close(self) -> None:
        """Close both, the wrapper first."""
        if self._memory is not None:
            self.close_wrapper()
            self._dropped = self._lost()
        self.inner.close()
        if self._memory is not None:
            self._memory.close()
            self._memory = None
        self.rx, self.tx = [], []

    @property
    def kind(self) -> str:
        return f"{self.spec.partition('(')[0].strip()} {self.inner.kind}"

    @property
    def asks(self) -> Offload:
        """What the wrapped port's packets ask for: it may know better than its offloads say."""
        return super().asks | self.inner.asks

    def _lost(self) -> list[tuple[int, int]]:
        """By queue, what was dropped between the graph and the wrapped port: received, and sent."""
        if self._memory is None:
            return self._dropped
        pairs = zip_longest(self.rx, self.tx)
        return [(Queue(rx).dropped if rx else 0, Queue(tx).dropped if tx else 0) for rx, tx in pairs]

    def stats(self) -> PortStats:
        """The wrapped port's counters, and what was dropped before it or behind it."""
        lost = self._lost()
        return _with(self.inner.stats(), sum(rx for rx, _ in lost), sum(tx for _, tx in lost))

    def queue_stats(self) -> list[PortStats]:
        """The same by queue."""
        return [_with(stats, *lost) for stats, lost in zip(self.inner.queue_stats(), self._lost(), strict=False)]

    @property  # type: ignore[override]
    def grace(self) -> Grace | None:
        """Of the workers that use both."""
        return self.inner.grace

    @grace.setter
    def grace(self, grace: Grace | None) -> None:
        self.inner.grace = grace

    # What the wrapped port does --------------------------------------------------------------------------

    def begin(self) -> None:
        self.inner.begin()

    def descriptors(self, queue: int) -> list[int]:
        return self.inner.descriptors(queue)

    def refresh(self) -> None:
        self.inner.refresh()

    def fault(self) -> str:
        return self.inner.fault()

    def link(self) -> Link:
        return self.inner.link()

    def facts(self) -> dict[str, str]:
        return self.inner.facts()

    def extended(self) -> dict[str, int]:
        return self.inner.extended()

    def set_mac(self, mac: int) -> None:
        self.inner.set_mac(mac)
        self.mac = self.inner.mac

    def set_mtu(self, mtu: int) -> None:
        self.inner.set_mtu(mtu)
        self.mtu = self.inner.mtu

    def set_promiscuous(self, on: bool) -> None:
        self.inner.set_promiscuous(on)

    def install(self, rules: tuple[Rule, ...], otherwise: Action) -> bool:
        return self.inner.install(rules, otherwise)

    def rule_counts(self) -> dict[int, RuleCount]:
        return self.inner.rule_counts()

    def configure_rss(self, rss: Rss) -> bool:
        return self.inner.configure_rss(rss)


def _with(stats: PortStats, rx_dropped: int, tx_dropped: int) -> PortStats:
    return dataclasses.replace(
        stats, rx_dropped=stats.rx_dropped + rx_dropped, tx_dropped=stats.tx_dropped + tx_dropped
    )


def _named(function: Callable[..., Any] | None) -> str:
    return "None" if function is None else f"{function.__module__}.{function.__qualname__}"


def wrapped(spec: str) -> Port | None:
    """The port that ``kind(option=value,...) rest`` describes; None if the text is of another form.

    Raises:
        PortError: no such wrapper, an unknown option or a bad value.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        return None
    kind, text, rest = found.groups()
    if kind not in WRAPPERS:
        raise PortError(f"no wrapper is called {kind!r} (in {spec!r}); {nearest(kind, list(WRAPPERS))}")
    module, _, name = WRAPPERS[kind].partition(":")
    wrapper: type[Wrapper] = getattr(import_module(module), name)
    return wrapper(spec, parse_options(spec, text, wrapper.Options), make_port(rest))


__all__ = ["WRAPPERS", "WrapQueue", "Wrapper", "wrapped"]
