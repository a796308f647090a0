"""What a worker does to a port's packets as its device does not: stages behind ``receive``, one before ``transmit``.

A stage is a function of a burst, ``stage(record, cache, vector, count) -> count``: it changes packets where they are
and may leave fewer of them, at the front of the vector. Before ``transmit`` stands one that may make more:
:func:`prepare` takes packets from the front of the burst until its own vector is full of packets that the device can
send as they are. Each worker has a record of its own for each stage of each port::

    0     counters and, for prepare, what the device does by itself
    64    prepare's vector of MAX_BURST descriptors

The header line of a cell says what is asked for (:class:`wirespeed.mem.descriptor.CellHeader`): a checksum still to be
summed, segments to cut, a tag to put in. A packet that cannot be finished is dropped and counted, never sent wrong.

References: virtio 1.2 section 5.1.6; IEEE 802.1Q; RFC 1071, 1122 section 3.2.1.2.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import View, cold, inline, le64, load64, store64
from wirespeed.mem.buffer import copy_packet, describe_meta, is_own
from wirespeed.mem.descriptor import CHECKSUM_VALID, META, NEEDS_CHECKSUM, CellHeader, header_of
from wirespeed.mem.pool_cache import MAX_BURST, Cache, release_one
from wirespeed.traffic import gro
from wirespeed.traffic.gso import MOST_SEGMENTS, segment
from wirespeed.traffic.sums import complete
from wirespeed.wire.checksum import ipv4_header_valid, transport_valid
from wirespeed.wire.ethernet import ETHERTYPE_VLAN, Ethernet
from wirespeed.wire.ipv4 import Ipv4
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_link, parse_transport
from wirespeed.wire.vlan import Vlan

SUMS, CUTS_TCP, CUTS_UDP, TAGS = 1, 2, 4, 8
"""What a device does by itself with packets to send."""

_OUT = 64
_GSO_UDP = 5  # VIRTIO_NET_HDR_GSO_UDP_L4
_EVER = 1 << 62

PREPARE_BYTES: int = _OUT + 8 * MAX_BURST


class Prepare(View):
    """What is done to packets before they are sent."""

    able = le64(0, "what the device does by itself: SUMS, CUTS_TCP, CUTS_UDP, TAGS")
    made = le64(8, "packets in the vector")
    summed = le64(16, "packets whose checksum was completed")
    cut = le64(24, "super-packets that were cut")
    segments = le64(32, "segments they became")
    tagged = le64(40, "packets that got their VLAN tag")
    refused = le64(48, "packets that could not be finished: dropped")
    SIZE = _OUT


class Verify(View):
    """What was verified."""

    drop = le64(0, "1: packets with a wrong checksum are dropped")
    good = le64(8, "packets whose checksum is right")
    bad = le64(16, "packets whose checksum is wrong")
    SIZE = 64


class Strip(View):
    """What was taken off."""

    stripped = le64(0, "tags taken off")
    SIZE = 64


class Coalesce(View):
    """Where streams are put together."""

    table = le64(0, "address of the Gro table")
    SIZE = 64


# Before transmit -------------------------------------------------------------------------------------------


@inline
def is_plain(vector, count):
    """Whether no packet of a burst asks for anything: one look at each descriptor."""
    seen = 0
    for i in range(count):
        seen |= load64(vector + (i << 3))
    return seen & META == 0


@inline
def made_at(record):
    """Address of the vector that :func:`prepare` fills."""
    return record + _OUT


@cold
def prepare(record, cache_address, vector, at, count):
    """Finish packets from number ``at`` of the burst on, until all are or the vector is full; returns how far it came.

    ``Prepare(record).made`` packets are at ``made_at(record)`` then.
    """
    state = Prepare(record)
    cache = Cache(cache_address)
    cells = cache.cells
    out = record + _OUT
    made = 0
    while at < count and made < MAX_BURST:
        desc = load64(vector + (at << 3))
        if desc & META != 0:
            line = CellHeader(header_of(cells, desc))
            size = line.gso_size
            bit = CUTS_UDP if line.gso_type == _GSO_UDP else CUTS_TCP
            if size != 0 and state.able & bit == 0:
                if made > MAX_BURST - MOST_SEGMENTS:
                    break
                made += _cut(state, cache, desc, out + (made << 3))
                at += 1
                continue
            desc = _finish(state, cache, desc)
        if desc != 0:
            store64(out + (made << 3), desc)
            made += 1
        at += 1
    state.made = made
    return at


@cold
def _cut(state, cache, desc, out):
    """The segments of a super-packet, finished; how many there are at ``out``."""
    found = segment(cache, desc, 0, out, MOST_SEGMENTS)
    if found == 0:
        state.refused += 1
        release_one(cache, desc)
        return 0
    state.cut += 1
    kept = 0
    for i in range(found):
        part = load64(out + (i << 3))
        line = CellHeader(header_of(cache.cells, part))
        if found == 1:  # it fits one segment, and is as it was
            line.gso_size = 0
            line.gso_type = 0
        part = _finish(state, cache, part)
        if part != 0:
            store64(out + (kept << 3), part)
            kept += 1
    state.segments += kept
    return kept


@cold
def _finish(state, cache, desc):
    """Do what a packet with META asks for beside cutting; its descriptor, or 0: it was dropped."""
    line = CellHeader(header_of(cache.cells, desc))
    sums = line.checksum_state == NEEDS_CHECKSUM and state.able & SUMS == 0
    tags = line.vlan_tci != 0 and state.able & TAGS == 0
    if not sums and not tags:
        return desc
    if not is_own(cache.cells, desc):  # others read these bytes
        made = copy_packet(cache, desc)
        release_one(cache, desc)
        if made == 0:
            state.refused += 1
            return 0
        desc = made
        line = CellHeader(header_of(cache.cells, desc))
    if sums:
        complete(cache.cells, desc)
        if line.checksum_state == NEEDS_CHECKSUM:
            state.refused += 1
            release_one(cache, desc)
            return 0
        state.summed += 1
    if tags:
        pkt = Packet()
        pkt.cells, pkt.cache, pkt.desc = cache.cells, cache.address, desc
        parse_link(pkt)
        if pkt.push_vlan(ETHERTYPE_VLAN, line.vlan_tci) == 0:
            state.refused += 1
            release_one(cache, desc)
            return 0
        line.vlan_tci = 0
        state.tagged += 1
        desc = pkt.desc
    return desc


# Behind receive --------------------------------------------------------------------------------------------


@cold
def verify(record, cache_address, vector, count):
    """Sum what the device did not: right ones are marked CHECKSUM_VALID, wrong ones counted, and dropped if told."""
    state = Verify(record)
    cache = Cache(cache_address)
    pkt = Packet()
    pkt.cells = cache.cells
    kept = 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        pkt.desc = desc
        parse_transport(pkt)
        known = 0
        if pkt.meta:
            known = pkt.meta.checksum_state
        verdict = 0  # nothing to say
        if known == 0 and pkt.ipv4 and not ipv4_header_valid(Ipv4(pkt.l3)):
            verdict = -1
        elif known == 0 and (pkt.udp or pkt.tcp or pkt.icmp or pkt.icmp6):
            if pkt.l3 + pkt.ip_bytes <= pkt.end and not pkt.ipv4.is_fragment:
                verdict = 1 if transport_valid(pkt) else -1
        if verdict > 0:
            desc = describe_meta(cache.cells, desc)
            CellHeader(header_of(cache.cells, desc)).checksum_state = CHECKSUM_VALID
            state.good += 1
        elif verdict < 0:
            state.bad += 1
        if verdict < 0 and state.drop != 0:
            release_one(cache, desc)
        else:
            store64(vector + (kept << 3), desc)
            kept += 1
    return kept


@cold
def strip(record, cache_address, vector, count):
    """Take the outer tag (of TPID 0x8100) off into the header line."""
    state = Strip(record)
    cache = Cache(cache_address)
    pkt = Packet()
    pkt.cells, pkt.cache = cache.cells, cache.address
    for i in range(count):
        pkt.desc = load64(vector + (i << 3))
        parse_link(pkt)
        if pkt.vlan and Ethernet(pkt.start).ethertype == ETHERTYPE_VLAN:
            tci = Vlan(pkt.start + 14).tci
            if tci != 0 and is_own(cache.cells, pkt.desc):
                pkt.desc = describe_meta(cache.cells, pkt.desc)
                pkt.pop_vlan()
                CellHeader(header_of(cache.cells, pkt.desc)).vlan_tci = tci
                state.stripped += 1
                store64(vector + (i << 3), pkt.desc)
    return count


@cold
def coalesce(record, cache_address, vector, count):
    """Put segments of one stream that came in this burst together.

    What is passed on never outnumbers what was looked at, so the vector is written where it was read already.
    """
    table = gro.GroView(Coalesce(record).table)
    cache = Cache(cache_address)
    kept = 0
    for i in range(count):
        kept += gro.add(table, cache, load64(vector + (i << 3)), 0, vector + (kept << 3))
    if table.held > 0:
        kept += gro.flush(table, cache.cells, _EVER, vector + (kept << 3), MAX_BURST)
    return kept


__all__ = [
    "CUTS_TCP", "CUTS_UDP", "PREPARE_BYTES", "SUMS", "TAGS", "Coalesce", "Prepare", "Strip", "Verify", "coalesce",
    "is_plain", "made_at", "prepare", "strip", "verify",
]  # fmt: skip
