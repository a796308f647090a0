"""af_packet's transmit path by calls: sendmmsg, one call a burst, each message pointing at the packet's own cells.

Super-packets go this way at any time (one copy, whatever their length); small packets do with ``send=call``
(:mod:`wirespeed.ports.af_packet.slots` is the faster way for them).

References: sendmmsg(2), packet(7); net/packet/af_packet.c (packet_snd).
"""

from wirespeed.jit import cold, inline, kernel, le64, load32, load64
from wirespeed.jit.entry import enter4
from wirespeed.jit.libc import errno, sendmmsg
from wirespeed.mem.pool import Cache, release
from wirespeed.ports.af_packet.calls import DONT_WAIT, EAGAIN, ENETDOWN, ENOBUFS, ENODEV, ENXIO, Message
from wirespeed.ports.queue import Queue
from wirespeed.ports.scatter import ENTRIES, VECTORS, gather
from wirespeed.ports.virtio.net import HEADER_BYTES

BATCH: int = 256
"""Messages of one sendmmsg."""


class TxQueue(Queue):
    """A transmit queue, of either way. Messages, headers and their vector follow it (:func:`format_tx`)."""

    fd = le64(64, "the socket for calls; -1: there is no interface")
    blank = le64(72, "a virtio-net header of zeros")
    headers = le64(80, "one of 16 bytes for each message")
    messages = le64(88)
    vector = le64(96)
    burst = le64(104, "the kernel that sends: by calls or by slots")
    doorbell = le64(128, "the socket of the ring of slots")
    ring = le64(136, "the first slot")
    slots = le64(144)
    slot_size = le64(152)
    head = le64(160, "the slot to fill next")
    limit = le64(192, "bytes of the largest frame without a tag; control code writes this line")
    SIZE = 256


TX_BYTES: int = 512 + BATCH * (16 + Message.SIZE) + VECTORS * 16


def format_tx(address: int) -> None:
    """Lay out a transmit queue in TX_BYTES of zeros."""
    queue = TxQueue(address)
    queue.fd, queue.blank = -1, address + 256
    queue.headers = address + 512
    queue.messages = queue.headers + BATCH * 16
    queue.vector = queue.messages + BATCH * Message.SIZE


@inline
def transmit(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    """Send packets; what the socket's send buffer, or the ring, has no room for is left to the caller."""
    if count == 0:
        return 0
    return enter4(TxQueue(queue).burst, queue, cache, vector, count)


@kernel
def transmit_calls(queue, cache, vector, count):  # type: ignore[no-untyped-def]
    record = TxQueue(queue)
    before = record.packets
    done = send_calls(queue, Cache(cache).cells, vector, count)
    release(Cache(cache), vector, done)
    if record.packets != before:
        record.calls += 1
    return done


@cold
def send_calls(queue, cells, vector, count):  # type: ignore[no-untyped-def]
    """Send packets by calls, and count them; returns how many were dealt with, from the front."""
    record = TxQueue(queue)
    if record.fd < 0:
        record.dropped += count
        return count
    done = 0
    more = True
    while more and done < count:
        prepared = _prepare(queue, cells, vector + (done << 3), count - done)
        handled = _send(queue, prepared)
        done += handled
        more = handled == prepared
    return done


@inline
def _prepare(queue, cells, vector, count):  # type: ignore[no-untyped-def]
    """Describe as many packets as one call takes; returns how many (at least one)."""
    record = TxQueue(queue)
    entries = 0
    prepared = 0
    while prepared < min(count, BATCH) and entries + ENTRIES <= VECTORS:
        at = record.vector + (entries << 4)
        desc = load64(vector + (prepared << 3))
        message = Message(record.messages + (prepared << 6))
        message.vector = at
        # Too many segments: an empty message, which the kernel refuses; an error like others.
        message.vectors = gather(at, cells, desc, record.headers + (prepared << 4), record.blank)
        entries += message.vectors
        prepared += 1
    return prepared


@inline
def _send(queue, prepared):  # type: ignore[no-untyped-def]
    """Send the prepared messages; returns how many were dealt with: all, unless the socket is full."""
    record = TxQueue(queue)
    at = 0
    while at < prepared:
        sent = sendmmsg(record.fd, record.messages + (at << 6), prepared - at, DONT_WAIT)
        if sent > 0:
            total = 0
            for i in range(at, at + sent):
                total += load32(record.messages + (i << 6) + 56)
            record.bytes += total - sent * HEADER_BYTES
            record.packets += sent
            at += sent
        else:
            reason = errno()
            if reason == EAGAIN:
                return at
            if reason in (ENETDOWN, ENXIO, ENODEV):
                record.dropped += prepared - at
                return prepared
            if reason == ENOBUFS:  # the interface's queue dropped it
                record.dropped += 1
            else:  # EMSGSIZE: above the MTU; EINVAL: no frame, or offloads that make no sense
                record.errors += 1
            at += 1
    return at


__all__ = ["BATCH", "TX_BYTES", "TxQueue", "format_tx", "send_calls", "transmit", "transmit_calls"]
