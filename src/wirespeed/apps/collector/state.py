"""What a worker of the collector has: counters, tables of exporters and templates, sketches, a ring of flows.

::

    0      what control code writes: time, window, template timeout; the seed
    64     where the tables are, which nobody writes later
    192    how far control code has read the ring of flows
    256    how far this worker has written it; the window it counts for
    384    sketches, of two windows: six addresses each, and the number of the window they are of
    512    totals by kind of datagram: a line of counters each
    1024   refusals by reason
    2048   totals by IP protocol: flows, bytes, packets
    10240  exporters, templates, interfaces, then the ring's rows

Only its worker writes it, but for the lines that control code writes; Python reads it at any time.

Windows: control code raises ``window``; a worker that sees that, with its next datagram, clears the sketches of the
window before last and goes on with them. So the sketches of a window that ended stay as they are until the next ends.
"""

from wirespeed.jit import View, le64, load64, store64

LANES: tuple[str, ...] = ("netflow5", "netflow9", "ipfix", "sflow", "statsd")
"""Kinds of datagrams, each with totals of its own."""
LANE_NETFLOW5, LANE_NETFLOW9, LANE_IPFIX, LANE_SFLOW, LANE_STATSD = range(5)

LINE: int = 64
TOTALS: int = 512
REFUSALS: int = 1024
PROTOCOLS: int = 2048
TABLES: int = 10240
SKETCHES: int = 384


class CollectorView(View):
    """One worker's record."""

    now_ns = le64(0, "a steady clock, as control code saw it last")
    now_ms = le64(8, "milliseconds since 1970, the same")
    window = le64(16, "the window to count for")
    timeout_ns = le64(24, "how long a template holds")
    seed0 = le64(32)
    seed1 = le64(40)
    seed2 = le64(48)
    allow = le64(56, "1: only exporters that are listed")
    elements = le64(64, "address of what information elements mean")
    exporters = le64(72)
    exporter_mask = le64(80, "sets - 1")
    templates = le64(88)
    template_mask = le64(96)
    interfaces = le64(104)
    interface_mask = le64(112)
    rows = le64(120, "address of the ring of flows")
    row_mask = le64(128, "rows - 1; -1: flows are not kept")
    scratch = le64(136, "a row that is in no ring")
    metrics = le64(144, "address of statsd's tables")
    allowed = le64(152, "address of prefixes: high, low, mask high, mask low")
    allowed_count = le64(160)
    row_tail = le64(192, "flows that control code has taken")
    row_head = le64(256, "flows that were put in the ring")
    rows_lost = le64(264, "flows that found the ring full")
    epoch = le64(272, "the window that this worker counts for")
    active = le64(280, "which of the two sets of sketches, 0 or 1")
    exporters_evicted = le64(288)
    templates_evicted = le64(296)
    templates_expired = le64(304)
    templates_defined = le64(312)
    interfaces_evicted = le64(320)
    SIZE = TABLES

    def refuse(self, reason: int) -> int:
        """Count a refusal; the answer is what a handler's caller gets: minus the reason's number."""
        at = self.address + REFUSALS + (reason << 3)
        store64(at, load64(at) + 1)
        return -reason

    def note(self, first: int, reason: int) -> int:
        """Count a refusal after others: the first reason of a datagram is what it is dropped for."""
        self.refuse(reason)
        return first if first != 0 else reason


class SketchesView(View):
    """The sketches of one window."""

    sources = le64(0)
    destinations = le64(8)
    conversations = le64(16)
    services = le64(24)
    source_count = le64(32)
    destination_count = le64(40)
    epoch = le64(48, "the window; 0: none yet")
    SIZE = 64


class TotalsView(View):
    """What came of one kind."""

    datagrams = le64(0)
    octets_received = le64(8, "bytes of datagrams")
    flows = le64(16)
    octets = le64(24, "bytes of flows, sampling multiplied in")
    packets = le64(32)
    samples = le64(40, "counter samples of sFlow, options records of the others; lines of statsd")
    lost = le64(48, "datagrams or records that sequence numbers say are missing")
    SIZE = 64


class ProtocolView(View):
    """Totals of one IP protocol."""

    flows = le64(0)
    octets = le64(8)
    packets = le64(16)
    SIZE = 32


class ExporterView(View):
    """Who sends: one exporter's observation domain (RFC 7011 section 2)."""

    tag = le64(0)
    used_ns = le64(8)
    high = le64(16, "its address, as it lies in memory")
    low = le64(24)
    domain = le64(32)
    kind = le64(40, "5, 9, 10 or SFLOW")
    sequence = le64(48, "the number that the next datagram has if none is lost")
    boot_ms = le64(56, "when it started, ms since 1970; 0: not told")
    sampling = le64(64, "packets of which one is looked at; 0: not told")
    datagrams = le64(72)
    records = le64(80)
    lost = le64(88)
    restarts = le64(96, "sequence numbers that went back, or far ahead")
    used_ms = le64(104, "when it last sent, ms since 1970")
    port = le64(112, "its UDP port")
    SIZE = 128


class InterfaceView(View):
    """The counters of one interface, as its exporter last told them (sFlow version 5, generic interface counters)."""

    tag = le64(0)
    used_ns = le64(8)
    high = le64(16, "address of the agent")
    low = le64(24)
    index = le64(32)
    speed = le64(40, "bits a second")
    status = le64(48, "bit 0: ifAdminStatus, bit 1: ifOperStatus")
    in_octets = le64(56)
    in_packets = le64(64)
    in_errors = le64(72)
    in_discards = le64(80)
    out_octets = le64(88)
    out_packets = le64(96)
    out_errors = le64(104)
    out_discards = le64(112)
    SIZE = 128


__all__ = [
    "LANES", "LANE_IPFIX", "LANE_NETFLOW5", "LANE_NETFLOW9", "LANE_SFLOW", "LANE_STATSD", "LINE", "PROTOCOLS",
    "REFUSALS", "SKETCHES", "TABLES", "TOTALS", "CollectorView", "ExporterView", "InterfaceView", "ProtocolView",
    "SketchesView", "TotalsView",
]  # fmt: skip
