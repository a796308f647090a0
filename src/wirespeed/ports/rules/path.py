"""What workers do with a port's rules when its device cannot: compare, drop, mark, count, steer. One pass over a burst.

::

    Table, replaced as a whole (control code publishes the new one and frees the old after a grace period)
    0      how many rules, what becomes of a packet that none of them ends
    64     the rules, RULE_BYTES each, in order

    RuleState, one for each worker
    0      addresses of the table, the worker's counters, its targets
    64     the fields of the packet that is looked at
    192    targets: for each packet of the burst the queue a rule chose, or -1
           dropped: descriptors to free together
           counters: packets and bytes, by the rule's slot

Every packet's fields are read once, then compared with each rule until one ends it: seven masked words and two ranges a
rule. A field that a packet does not have holds ABSENT, which no rule asks for. What a rule means is said, in plain
Python, by :func:`wirespeed.ports.match.matches`; the two are tested against each other.
"""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import View, bswap16, bswap32, bswap64, cold, inline, le64, load8, load16, load32, load64, store64
from wirespeed.mem.buffer import bytes_of_packet, describe_meta
from wirespeed.mem.descriptor import META, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool_cache import MAX_BURST, Cache, release

MAX_RULES: int = 1024
"""Rules of one port: each packet is compared with them one after the other."""

TAKE, DROP, QUEUE, MARK, COUNT, KERNEL = range(6)
"""Actions. TAKE, DROP, QUEUE and KERNEL end a packet's way through the rules; after MARK and COUNT it goes on. KERNEL
is DROP here: there is such a rule only where the kernel has seen the packet already."""

ABSENT: int = 1 << 40
WORDS: int = 7
RULE_BYTES: int = 192
TABLE_HEAD: int = 64
_FIELDS = 64
_TARGETS = 192
_DROPPED = _TARGETS + 8 * MAX_BURST
_COUNTERS = _DROPPED + 8 * MAX_BURST
STATE_BYTES: int = _COUNTERS + 16 * MAX_RULES

_IPV4, _IPV6, _TAG, _TAG_OUTER = 0x0800, 0x86DD, 0x8100, 0x88A8
_TCP, _UDP, _SCTP = 6, 17, 132
_G_PDU = 255  # 3GPP TS 29.281 section 6.1
VLAN_SHIFT: int = 20
PROTOCOL_SHIFT: int = 36
IP_SHIFT: int = 48
"""Fields of the first word: EtherType, VLAN with a bit that says none, protocol, and a bit that says that it is IP."""
NO_VLAN: int = 1 << 12


class Fields(View):
    """What a packet has that rules ask for."""

    kind = le64(0, "EtherType, VLAN, protocol, whether it is IP")
    source_high = le64(8)
    source_low = le64(16)
    destination_high = le64(24)
    destination_low = le64(32)
    teid = le64(40)
    vni = le64(48)
    sport = le64(56)
    dport = le64(64)


class RuleRecord(View):
    """One rule: seven masks, seven values, two ranges, and what to do."""

    sport_low = le64(112)
    sport_high = le64(120)
    dport_low = le64(128)
    dport_high = le64(136)
    action = le64(144)
    argument = le64(152)
    slot = le64(160, "where it counts")
    SIZE = RULE_BYTES


class Table(View):
    """The rules of a port."""

    count = le64(0)
    otherwise = le64(8, "TAKE, DROP or KERNEL")
    SIZE = TABLE_HEAD


class RuleState(View):
    """A worker's part."""

    table = le64(0, "address of the table")
    dropped = le64(8, "packets that rules dropped")
    unmatched = le64(16, "of them, those that no rule wanted")
    SIZE = _TARGETS


@inline
def counters_of(state):
    """Address of a worker's counters: packets and bytes by slot."""
    return state + _COUNTERS


@inline
def targets_of(state):
    """Address of the queues that rules chose for the burst."""
    return state + _TARGETS


@inline
def _read4(fields, at, end):
    """An IPv4 header at ``at``; returns where the transport header is if ports may be looked at, else 0."""
    header = (load8(at) & 15) << 2 if end - at >= 20 else 0
    transport = 0
    protocol = 0
    if header >= 20 and end - at >= header and load8(at) >> 4 == 4:
        fields.source_high = 0
        fields.source_low = bswap32(load32(at + 12))
        fields.destination_high = 0
        fields.destination_low = bswap32(load32(at + 16))
        protocol = load8(at + 9)
        fields.kind |= (1 << IP_SHIFT) | (protocol << PROTOCOL_SHIFT)
        if bswap16(load16(at + 6)) & 0x1FFF == 0:
            transport = at + header
    return transport, protocol


@inline
def _read6(fields, at, end):
    """The same for IPv6."""
    transport = 0
    protocol = 0
    if end - at >= 40 and load8(at) >> 4 == 6:
        fields.source_high = bswap64(load64(at + 8))
        fields.source_low = bswap64(load64(at + 16))
        fields.destination_high = bswap64(load64(at + 24))
        fields.destination_low = bswap64(load64(at + 32))
        protocol = load8(at + 6)
        fields.kind |= (1 << IP_SHIFT) | (protocol << PROTOCOL_SHIFT)
        transport = at + 40
    return transport, protocol


@cold
def read_fields(address, start, end, tci):
    """Find what rules ask for in the frame from ``start`` to ``end``; it is at ``address`` then.

    ``tci`` is of a tag that was taken off, 0 for none.
    """
    fields = Fields(address)
    vlan = tci & 0xFFF if tci != 0 else NO_VLAN
    at = start + 12
    for _ in range(2):
        if end - at >= 6:
            tag = bswap16(load16(at))
            if (tag == _TAG) | (tag == _TAG_OUTER):
                if vlan == NO_VLAN:
                    vlan = bswap16(load16(at + 2)) & 0xFFF
                at += 4
    ethertype = 1 << 16
    if end - at >= 2:
        ethertype = bswap16(load16(at))
    fields.kind = ethertype | (vlan << VLAN_SHIFT)
    fields.source_high = fields.source_low = fields.destination_high = fields.destination_low = 0
    transport, protocol = 0, 0
    if ethertype == _IPV4:
        transport, protocol = _read4(fields, at + 2, end)
    elif ethertype == _IPV6:
        transport, protocol = _read6(fields, at + 2, end)
    teid, vni, sport, dport = ABSENT, ABSENT, -1, -1
    has_ports = (protocol == _TCP) | (protocol == _UDP) | (protocol == _SCTP)
    if has_ports and transport != 0 and end - transport >= 4:
        sport, dport = bswap16(load16(transport)), bswap16(load16(transport + 2))
        if end - transport >= 16:
            if load8(transport + 9) == _G_PDU:
                teid = bswap32(load32(transport + 12))
            if load8(transport + 8) & 8 != 0:
                vni = bswap32(load32(transport + 12)) >> 8
    fields.teid, fields.vni, fields.sport, fields.dport = teid, vni, sport, dport


@inline
def fits(fields, rule):
    """Whether the packet whose fields were read is one of the rule's."""
    different = 0
    for word in range(WORDS):
        different |= (load64(fields + (word << 3)) ^ load64(rule + 56 + (word << 3))) & load64(rule + (word << 3))
    found, wanted = Fields(fields), RuleRecord(rule)
    sport, dport = found.sport, found.dport
    inside = sport >= wanted.sport_low and sport <= wanted.sport_high
    inside &= dport >= wanted.dport_low and dport <= wanted.dport_high
    return different == 0 and inside


@cold
def apply_rules(address, cache_address, vector, count):
    """Take a received burst through the rules; returns how many packets stay, now at the front of ``vector``.

    Afterwards ``targets_of(address)`` has, for each of them, the queue that a rule chose, or -1.
    """
    state = RuleState(address)
    cache = Cache(cache_address)
    cells = cache.cells
    table = Table(state.table)
    rules, otherwise = table.count, table.otherwise
    first = table.address + TABLE_HEAD
    kept, dropped = 0, 0
    for i in range(count):
        desc = load64(vector + (i << 3))
        start = address_of(cells, desc)
        tci = CellHeader(header_of(cells, desc)).vlan_tci if desc & META != 0 else 0
        read_fields(address + _FIELDS, start, start + length_of(desc), tci)
        size = bytes_of_packet(cells, desc)
        ending, target = otherwise, -1
        unmatched = 1
        for number in range(rules):
            rule = RuleRecord(first + number * RULE_BYTES)
            if fits(address + _FIELDS, rule.address):
                counter = address + _COUNTERS + (rule.slot << 4)
                store64(counter, load64(counter) + 1)
                store64(counter + 8, load64(counter + 8) + size)
                action = rule.action
                if action == MARK:
                    desc = describe_meta(cells, desc)
                    CellHeader(header_of(cells, desc)).mark = rule.argument
                elif action != COUNT:
                    unmatched = 0
                    ending = action
                    if action == QUEUE:
                        target = rule.argument
                    break
        if (ending == DROP) | (ending == KERNEL):
            store64(address + _DROPPED + (dropped << 3), desc)
            dropped += 1
            state.unmatched += unmatched
        else:
            store64(vector + (kept << 3), desc)
            store64(address + _TARGETS + (kept << 3), target)
            kept += 1
    if dropped > 0:
        release(cache, address + _DROPPED, dropped)
        state.dropped += dropped
    return kept


__all__ = [
    "ABSENT", "COUNT", "DROP", "KERNEL", "MARK", "MAX_RULES", "QUEUE", "TAKE", "RuleRecord", "RuleState", "Table",
    "apply_rules", "counters_of", "fits", "read_fields", "targets_of",
]  # fmt: skip
