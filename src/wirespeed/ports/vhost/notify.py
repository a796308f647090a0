"""Telling the guest that its buffers were used, when it wants to be told; and asking it to tell us, before sleep.

References: virtio 1.2 sections 2.7.7 and 2.7.10 (split), 2.8.10 and 2.8.14 (packed).
"""

from wirespeed.jit import cold, fence, inline, load16, load32, store16
from wirespeed.jit.libc import write
from wirespeed.ports.vhost.ring import EVENT_IDX, ONE, PACKED, SPLIT, VhostRing
from wirespeed.ports.virtio.vring import AVAIL, EVENTS_AT, EVENTS_OFF, EVENTS_ON, NO_NOTIFY, USED, crossed


@inline
def notify_split(record, before, after):  # type: ignore[no-untyped-def]
    """Buffers were used and published, the counter went from ``before`` to ``after``."""
    if record.call >= 0:
        fence()  # published first, then looked whether the guest sleeps
        wanted = load16(record.driver) & NO_NOTIFY == 0
        if record.mode & EVENT_IDX != 0:
            wanted = crossed(load16(record.driver + 4 + (record.size << 1)), after, before)
        if wanted:
            _call(record)


@inline
def notify_packed(record, before, after):  # type: ignore[no-untyped-def]
    """The same for a packed ring; ``before`` and ``after`` are positions."""
    if record.call >= 0:
        fence()
        event = load32(record.driver)
        flags = (event >> 16) & 3
        wanted = flags != EVENTS_OFF
        if flags == EVENTS_AT:
            if after <= before:
                before -= record.size
            offset = event & 0x7FFF
            if (event >> 15) & 1 != record.wrap:
                offset -= record.size
            wanted = crossed(offset, after, before)
        if wanted:
            _call(record)


@cold
def _call(record):  # type: ignore[no-untyped-def]
    record.calls += 1
    write(record.call, record.address + ONE, 8)


@cold
def ask(ring, on):  # type: ignore[no-untyped-def]
    """Ask the guest to tell us of new buffers, or not to; 1 if there are some already."""
    record = VhostRing(ring)
    live = record.live
    ready = 0
    if live == SPLIT:
        if record.mode & EVENT_IDX == 0:
            store16(record.device, 0 if on != 0 else NO_NOTIFY)
        elif on != 0:
            store16(record.device + 4 + (record.size << 3), record.next)
        fence()
        if on != 0 and load16(record.driver + 2) != record.next:
            ready = 1
    elif live == PACKED:
        store16(record.device + 2, EVENTS_ON if on != 0 else EVENTS_OFF)
        fence()
        flags = load16(record.descriptors + (record.next << 4) + 14) & (AVAIL | USED)
        if on != 0 and flags == (AVAIL if record.wrap != 0 else USED):
            ready = 1
    return ready


__all__ = ["ask", "notify_packed", "notify_split"]
