"""tap's packet path: readv straight into cells, writev straight out of them. One call a packet.

A TAP device has no call for several packets, and a read says how long a packet is only afterwards; so each
read offers cells for the largest there is (:mod:`wirespeed.ports.scatter`). What the host sends with its
checksum or its segmentation left to hardware is one read, and one write the other way.

References: Documentation/networking/tuntap.rst; drivers/net/tun.c (tun_put_user, tun_get_user).
"""

from wirespeed.jit import cold, inline, le64, load64, store64
from wirespeed.jit.libc import errno, readv, writev
from wirespeed.mem.descriptor import address_of, header_of, length_of
from wirespeed.mem.pool import MAX_BURST, Cache, release, take, taken, untake
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import SEGMENTS, VECTORS, aim, arm, assemble, cells_for, gather
from wirespeed.ports.virtio_net import HEADER_BYTES, HOSTILE, load_offloads

_ETHERNET = 14
_EIO, _EAGAIN, _EBADFD, _ENOBUFS = 5, 11, 77, 105


class TapQueue(Queue):
    """A queue of a TAP device, of either direction. Its vector follows the record (:func:`format_queue`)."""

    fd = le64(64)
    header = le64(72, "a virtio-net header: of the packet just read, or of one with offloads to write")
    blank = le64(80, "a virtio-net header of zeros")
    vector = le64(88)
    SIZE = 128


QUEUE_BYTES: int = 256 + VECTORS * 16


def format_queue(address: int, fd: int) -> None:
    """Lay out a queue in QUEUE_BYTES of zeros."""
    queue = TapQueue(address)
    queue.fd = fd
    queue.header, queue.blank, queue.vector = address + 128, address + 192, address + 256


@inline
def receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    """What the host sent, as much as is there."""
    return _receive(queue, cache, vector, room)


@cold
def _receive(queue, cache, vector, room):  # type: ignore[no-untyped-def]
    record = TapQueue(queue)
    stack = Cache(cache)
    cells = stack.cells
    got = take(stack, min(MAX_BURST, room + SEGMENTS))
    window = taken(stack, got)
    used, armed, packets, total = 0, 0, 0, 0
    for _ in range(room):
        if used + SEGMENTS > got:
            break
        arm(record.vector, window, cells, max(armed, used), used + SEGMENTS)
        armed = used + SEGMENTS
        length = readv(record.fd, aim(record.vector, used, record.header), SEGMENTS + 1) - HEADER_BYTES
        if length < 0:  # nothing there, or the device is gone
            break
        if length < _ETHERNET:
            record.errors += 1
        else:
            desc = assemble(window, cells, used, length)
            line = header_of(cells, desc)
            meta = load_offloads(record.header, line, address_of(cells, desc), length_of(desc), 0)
            if meta == HOSTILE:
                record.errors += 1
            else:
                store64(vector + (packets << 3), desc | meta)
                packets += 1
                total += length
                used += cells_for(length)
    untake(stack, got - used)
    if packets:
        record.packets += packets
        record.bytes += total
        record.calls += 1
    return packets


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Give packets to the host; what it has no room for is left to the caller."""
    if count == 0:
        return 0
    return _transmit(queue, cache, vector, count)


@cold
def _transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TapQueue(queue)
    cells = Cache(cache).cells
    done = 0
    sent = 0
    for i in range(count):
        entries = gather(record.vector, cells, load64(vector + (i << 3)), record.header, record.blank)
        written = -1
        reason = 0
        if entries:
            written = writev(record.fd, record.vector, entries)
            if written < 0:
                reason = errno()
        if reason == _EAGAIN:
            break
        done += 1
        if written >= 0:
            sent += 1
            record.bytes += written - HEADER_BYTES
        elif reason in (_EIO, _EBADFD, _ENOBUFS):  # the interface is down or gone, or full
            record.dropped += 1
        else:  # EINVAL: no frame, or offloads that make no sense
            record.errors += 1
    release(Cache(cache), vector, done)
    if sent:
        record.packets += sent
        record.calls += 1
    return done


__all__ = ["QUEUE_BYTES", "TapQueue", "format_queue", "receive", "transmit"]
