"""Templates of NetFlow version 9 and IPFIX: compiled to a program when they come, run for each record.

RFC 3954 sections 5.2, 6.1 and 9; RFC 7011 sections 3.4, 7 and 8.

::

    entry of 512 bytes
    0     tag, times, bytes of the shortest record, steps, kind        64   steps, 8 bytes each

    step
     63           48 47     40 39         32 31     24 23     16 15            0
    +---------------+---------+-------------+---------+---------+---------------+
    |    minimum    |    0    | place in row|   how   |  length |    offset     |
    +---------------+---------+-------------+---------+---------+---------------+

Only fields that a row has become steps; of the others nothing is left but the offsets of what follows them. Offsets
count from the record's start, or from the end of the last field of variable length, which is a step of its own (LEAP):
it says how long it is, so it is there that the record's length is checked again. ``minimum`` is what the shortest
record has up to and with that field.

A template belongs to an exporter's observation domain. It is replaced when it comes again, and forgotten when it did
not for ``timeout_ns``: over UDP nobody says that it is gone (RFC 7011 section 8.4).
"""

from wirespeed.apps.collector.elements import (
    ADDRESS4,
    ADDRESS6,
    DELTA_US,
    ELEMENTS,
    LEAP,
    NTP,
    NUMBER8,
    NUMBER16,
    NUMBER32,
    NUMBER64,
    SECONDS,
    SKIP,
    UPTIME,
)
from wirespeed.apps.collector.flow import FlowRow, put_ipv4
from wirespeed.apps.collector.reasons import OK, TEMPLATE, TEMPLATE_LARGE, WITHDRAWAL
from wirespeed.apps.collector.state import CollectorView, ExporterView
from wirespeed.apps.collector.ways import claim, find, tag_of
from wirespeed.jit import (
    View,
    bswap16,
    bswap32,
    bswap64,
    cold,
    copy,
    inline,
    le16,
    le32,
    le64,
    load8,
    load16,
    load32,
    load64,
    rotate_left,
    shift_right,
    store8,
    store16,
    store32,
    store64,
    u8,
)
from wirespeed.wire.netflow import (
    FIRST_DATA_SET,
    NETFLOW9,
    VARIABLE_LENGTH,
    FlowField,
    FlowOptions,
    FlowOptions9,
    FlowTemplate,
)

TEMPLATE_BYTES: int = 512
STEPS: int = 56
"""Fields of a template that a row has, and fields of variable length, together."""
_LONGEST = 0xFFFF
_SALT = 0x7465_6D70 << 16  # a template's tag is never an exporter's
_EPOCH_NTP = 2_208_988_800  # 1970 in seconds since 1900, RFC 5905 section 6
_WRAP = 1 << 32
_SAMPLING = (305, 306)


class TemplateView(View):
    """One template."""

    tag = le64(0)
    used_ns = le64(8, "when records last came")
    defined_ns = le64(16, "when it last came itself")
    minimum = le32(24, "bytes of the shortest record, 1 at least")
    steps = le16(28)
    options = u8(30, "1: its records are about the exporter, not of flows")
    leaps = u8(31, "1: it has fields of variable length")
    records = le64(32)
    id = le16(40)
    fields_seen = le16(42)
    exporter = le64(48, "the exporter's tag")
    SIZE = 64


_HEAD: int = TemplateView.SIZE
_START: int = FlowRow.start_ms.offset


@inline
def template_tag(state: CollectorView, exporter: ExporterView, number: int) -> int:
    """The tag of an exporter's template."""
    return tag_of(state, exporter.tag, number, _SALT)


# A template comes ---------------------------------------------------------------------------------------------


@cold
def define_all(state: CollectorView, exporter: ExporterView, at: int, end: int, options: int) -> int:
    """A set of templates, or of options templates: OK, or the first reason why something of it is refused."""
    nine = exporter.kind == NETFLOW9
    head = 6 if options != 0 else 4
    first = OK
    while end - at >= 4:
        number, count = FlowTemplate(at).id, FlowTemplate(at).count
        if number == 0:  # padding
            break
        if count == 0 and not nine:
            first = state.note(first, WITHDRAWAL)
            at += 4
            continue
        if number < FIRST_DATA_SET or end - at < head:
            return state.note(first, TEMPLATE)
        scopes = 0
        if options != 0 and nine:
            record = FlowOptions9(at)
            scopes, count = record.scope_bytes >> 2, (record.scope_bytes + record.option_bytes) >> 2
            if (record.scope_bytes | record.option_bytes) & 3 != 0 or count == 0:
                return state.note(first, TEMPLATE)
        elif options != 0:
            scopes = FlowOptions(at).scope_count
            if scopes == 0 or scopes > count:  # RFC 7011 section 3.4.2.2
                return state.note(first, TEMPLATE)
        at, reason = define(state, exporter, number, at + head, end, count, scopes if nine else 0, options)
        if reason != OK:
            first = state.note(first, reason)
        if at == 0:
            break
    return first


@cold
def define(
    state: CollectorView, exporter: ExporterView, number: int, at: int, end: int, count: int, scopes: int, options: int
) -> tuple[int, int]:
    """Compile a template; where its fields end (0: nobody knows), and OK or why it is refused.

    ``scopes``: so many of its first fields are numbered by version 9's kinds of scope, not as elements.
    """
    nine = exporter.kind == NETFLOW9
    tag = template_tag(state, exporter, number)
    place = find(state.templates, state.template_mask, TEMPLATE_BYTES, tag)
    if place != 0:
        store64(place, 0)  # nobody finds it while it changes
    end_of_fields, _, _, _, reason = walk(state, 0, at, end, count, scopes, options, nine)
    if reason != OK:
        return end_of_fields, reason
    if place == 0:
        place, evicted = claim(state.templates, state.template_mask, TEMPLATE_BYTES, tag)
        state.templates_evicted += evicted
    template = TemplateView(place)
    _, steps, minimum, leaps, _ = walk(state, place + _HEAD, at, end, count, scopes, options, nine)
    template.minimum, template.steps, template.options, template.leaps = minimum, steps, options, leaps
    template.id, template.fields_seen, template.exporter = number, min(count, _LONGEST), exporter.tag
    template.defined_ns = state.now_ns
    store64(place, tag)
    state.templates_defined += 1
    return end_of_fields, OK


@cold
def walk(
    state: CollectorView, out: int, at: int, end: int, count: int, scopes: int, options: int, nine: bool
) -> tuple[int, int, int, int, int]:
    """Go through field specifiers, and write their steps to ``out`` unless it is 0.

    Returns (where they end, steps, bytes of the shortest record, whether fields have variable lengths, reason).
    """
    offset = minimum = steps = leaps = 0
    reason = OK
    for index in range(count):
        if end - at < 4:
            return 0, 0, 0, 0, TEMPLATE
        field = FlowField(at)
        element, length, enterprise = field.type, field.length, 0
        at += 4
        if not nine and field.enterprise != 0:
            enterprise = 1
            if end - at < 4:
                return 0, 0, 0, 0, TEMPLATE
            at += 4
        how = place = 0
        if enterprise == 0 and index >= scopes and element < ELEMENTS:
            meaning = load16(state.elements + 2 * element)
            how, place = meaning & 0xFF, meaning >> 8
        if element in _SAMPLING and options == 0:
            how = SKIP
        if not nine and length == VARIABLE_LENGTH:
            how, length = LEAP, 1
            leaps = 1
        elif not fits(how, length):
            how = SKIP
        minimum += length
        if minimum > _LONGEST:
            reason = TEMPLATE
        if how != SKIP:
            if steps == STEPS:
                reason = reason or TEMPLATE_LARGE
            elif reason == OK:
                if out != 0:
                    word = offset | (length & 0xFF) << 16 | how << 24 | place << 32
                    store64(out + 8 * steps, word | rotate_left(minimum, 48))
                steps += 1
        offset = 0 if how == LEAP else offset + length
    if minimum == 0:
        reason = TEMPLATE
    return at, steps, minimum, leaps, reason


@inline
def fits(how: int, length: int) -> bool:
    """Whether a field of this length can be taken in this way."""
    if how >= NUMBER8 and how <= NUMBER64:
        return 1 <= length <= 8
    if how == ADDRESS6:
        return length == 16
    if how == NTP:
        return length == 8
    return length == 4  # ADDRESS4 and the other times


# Records come -------------------------------------------------------------------------------------------------


@inline
def template_of(state: CollectorView, exporter: ExporterView, number: int) -> int:
    """Address of the template that a set's records follow, 0 if there is none any more."""
    tag = template_tag(state, exporter, number)
    at = find(state.templates, state.template_mask, TEMPLATE_BYTES, tag)
    if at != 0:
        template = TemplateView(at)
        if state.now_ns - template.defined_ns > state.timeout_ns:
            template.tag = 0
            state.templates_expired += 1
            return 0
        template.used_ns = state.now_ns
    return at


@inline
def number_at(at: int, length: int) -> int:
    """An unsigned number of 1 to 8 bytes in network order."""
    if length == 4:
        return bswap32(load32(at))
    if length == 8:
        return bswap64(load64(at))
    if length == 2:
        return bswap16(load16(at))
    value = 0
    for i in range(length):
        value = value << 8 | load8(at + i)
    return value


@inline
def milliseconds(how: int, at: int, export_ms: int) -> int:
    """A time as milliseconds since 1970; those of uptime are not yet that."""
    if how == SECONDS:
        return bswap32(load32(at)) * 1000
    if how == DELTA_US:
        return export_ms - bswap32(load32(at)) // 1000
    if how == NTP:
        return (bswap32(load32(at)) - _EPOCH_NTP) * 1000 + (bswap32(load32(at + 4)) * 1000 >> 32)
    return bswap32(load32(at))


@cold
def run(program: int, at: int, end: int, row: int, export_ms: int) -> int:
    """Take the fields of the record at ``at`` into a row; where the next record is, 0 if this one has no end.

    The caller has seen that there are ``minimum`` bytes.
    """
    template = TemplateView(program)
    steps = program + _HEAD
    minimum = template.minimum
    base, tail = at, minimum
    for i in range(template.steps):
        word = load64(steps + 8 * i)
        field = base + (word & 0xFFFF)
        length, how, place = word >> 16 & 0xFF, word >> 24 & 0xFF, row + (word >> 32 & 0xFF)
        if how == NUMBER64:
            store64(place, number_at(field, length))
        elif how == NUMBER32:
            store32(place, number_at(field, length))
        elif how == NUMBER16:
            store16(place, number_at(field, length))
        elif how == NUMBER8:
            store8(place, number_at(field, length))
        elif how == ADDRESS4:
            put_ipv4(place, load32(field))
        elif how == ADDRESS6:
            copy(place, field, 16)
        elif how == LEAP:
            size, skipped = load8(field), 1
            tail = minimum - shift_right(word, 48)
            if size == 255:  # RFC 7011 section 7: the length is in the two bytes that follow
                if end - field - 3 < tail:
                    return 0
                size, skipped = bswap16(load16(field + 1)), 3
            base = field + skipped + size
            if end - base < tail:
                return 0
        else:
            store64(place, milliseconds(how, field, export_ms))
            if how == UPTIME:
                flow = FlowRow(row)
                flow.relative |= 1 if place == row + _START else 2
    return base + tail


@inline
def settle_times(row: FlowRow, boot_ms: int, export_ms: int) -> None:
    """Make times of uptime times since 1970; 0 if nobody said when uptime began."""
    relative = row.relative
    if relative & 1 != 0:
        row.start_ms = since_1970(row.start_ms, boot_ms, export_ms)
    if relative & 2 != 0:
        row.end_ms = since_1970(row.end_ms, boot_ms, export_ms)


@inline
def since_1970(uptime_ms: int, boot_ms: int, export_ms: int) -> int:
    """Uptime has 32 bits and starts again every 49.7 days: what would be far ahead was before it did."""
    if boot_ms == 0:
        return 0
    time_ms = boot_ms + uptime_ms
    return time_ms - _WRAP if time_ms - export_ms > _WRAP >> 1 else time_ms


@inline
def learn(exporter: ExporterView, row: FlowRow) -> None:
    """What an options record says of its exporter: how it samples, when it started."""
    sampling = row.sampling
    interval, space = row.src_as, row.dst_as  # samplingPacketInterval of each interval + space are looked at
    if interval != 0:
        sampling = (interval + space) // interval
    if sampling != 0:
        exporter.sampling = sampling
    if row.boot_ms > 0:
        exporter.boot_ms = row.boot_ms


__all__ = [
    "STEPS", "TEMPLATE_BYTES", "TemplateView", "define_all", "learn", "run", "settle_times", "template_of",
]  # fmt: skip
