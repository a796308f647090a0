"""The virtio-net header: what the kernel leaves to hardware, said in ten bytes before each frame.

::

    0  flags        1  gso_type     2  hdr_len      4  gso_size     6  csum_start    8  csum_offset

A packet socket (PACKET_VNET_HDR) and a TAP device (IFF_VNET_HDR) hand over frames as the stack made them: the
transport checksum not summed yet, TCP payload not cut to the MTU yet. Forwarding such a frame whole is the
difference between 1 and 40 Gb/s between containers, so the header's content travels in the cell's header line
(:class:`wirespeed.mem.descriptor.CellHeader`, flag ``META``) and is written out again on the way out.

The header is written by whoever sits at the other end; what does not lie within the packet is refused.

References: virtio 1.2 section 5.1.6; include/uapi/linux/virtio_net.h; include/linux/virtio_net.h.
"""

from wirespeed.jit import View, cold, inline, le16, load8, load16, store16, store64, u8
from wirespeed.mem.descriptor import CHECKSUM_VALID, META, NEEDS_CHECKSUM, CellHeader

NEEDS_CSUM, DATA_VALID = 1, 2
"""Bits of ``flags``."""
GSO_NONE, GSO_TCPV4, GSO_TCPV6, GSO_UDP_L4, GSO_ECN = 0, 1, 4, 5, 0x80
"""``gso_type``: one of the first four; GSO_ECN may be added to TCP."""
HEADER_BYTES: int = 10
"""Bytes of the header."""
HOSTILE: int = -1
"""What :func:`load_offloads` says of a header that does not fit its packet."""


class VirtioNet(View):
    """struct virtio_net_hdr, little endian (the machine's own order on x86-64)."""

    flags = u8(0)
    gso_type = u8(1)
    hdr_len = le16(2, "a hint: bytes that were contiguous at the sender")
    gso_size = le16(4, "payload bytes of each segment")
    csum_start = le16(6, "where the sum starts, from the first byte of the frame")
    csum_offset = le16(8, "where it is stored, from csum_start")
    SIZE = HEADER_BYTES


@inline
def load_offloads(header, line, data, contiguous, tag):  # type: ignore[no-untyped-def]
    """Read a received frame's virtio-net header into its cell's header line.

    Args:
        header: address of the virtio-net header.
        line: address of the cell's header line; not touched when the header says nothing.
        data: address of the frame's first byte.
        contiguous: bytes there before the chain goes on in another cell.
        tag: bytes that were put into the frame since (a VLAN tag); the header's offsets do not know them.

    Returns:
        META, which belongs in the descriptor; 0 for a plain packet; HOSTILE.
    """
    if load16(header) == 0:
        return 0
    return _load(header, line, data, contiguous, tag)


@cold
def _load(header, line, data, contiguous, tag):  # type: ignore[no-untyped-def]
    virtio = VirtioNet(header)
    flags = virtio.flags
    state, start, offset = 0, 0, 0
    if flags & NEEDS_CSUM:
        start, offset = virtio.csum_start + tag, virtio.csum_offset
        if start + offset + 2 > contiguous:
            return HOSTILE
        state = NEEDS_CHECKSUM
    elif flags & DATA_VALID:
        state = CHECKSUM_VALID
    headers = 0
    if virtio.gso_type:
        headers = _headers_length(virtio, data, contiguous, start, tag)
        if headers == 0 or virtio.gso_size == 0:
            return HOSTILE
    elif state == 0:
        return 0
    store64(line + 16, 0)  # META makes all of the line mean something: timestamp,
    store64(line + 24, 0)  # hash, tag, port,
    store64(line + 32, 0)  # and mark
    meta = CellHeader(line)
    if virtio.gso_type:
        meta.gso_size = virtio.gso_size
        meta.gso_type = virtio.gso_type
    meta.checksum_state = state
    meta.checksum_start = start
    meta.checksum_offset = offset
    meta.headers_length = headers
    return META


@inline
def _headers_length(virtio, data, contiguous, start, tag):  # type: ignore[no-untyped-def]
    """Bytes of all headers of a super-packet; 0 when it cannot be one.

    hdr_len is only a hint (the kernel puts the linear part of the skb there), so it is used only where
    there is no checksum to say where the transport header is: GRO of UDP fragments lists.
    """
    kind = virtio.gso_type & ~GSO_ECN
    headers = 0
    if kind in (GSO_TCPV4, GSO_TCPV6):
        headers = min(virtio.hdr_len + tag, contiguous)
        if virtio.flags & NEEDS_CSUM:
            headers = 0
            if start + 20 <= contiguous:
                headers = start + ((load8(data + start + 12) >> 4) << 2)  # RFC 9293 section 3.1: Data Offset
                if headers < start + 20:
                    headers = 0
    elif kind == GSO_UDP_L4:
        headers = start + 8 if virtio.flags & NEEDS_CSUM else min(virtio.hdr_len + tag, contiguous)
    return headers if headers <= contiguous else 0


@inline
def store_offloads(line, header):  # type: ignore[no-untyped-def]
    """Write the virtio-net header at ``header`` from the header line at ``line`` of a packet with META."""
    meta = CellHeader(line)
    store64(header, 0)
    store16(header + 8, 0)
    virtio = VirtioNet(header)
    if meta.checksum_state == NEEDS_CHECKSUM:
        virtio.flags = NEEDS_CSUM
        virtio.csum_start = meta.checksum_start
        virtio.csum_offset = meta.checksum_offset
    if meta.gso_size:
        virtio.gso_type = meta.gso_type
        virtio.gso_size = meta.gso_size
        virtio.hdr_len = meta.headers_length


__all__ = [
    "DATA_VALID", "GSO_ECN", "GSO_NONE", "GSO_TCPV4", "GSO_TCPV6", "GSO_UDP_L4", "HEADER_BYTES", "HOSTILE",
    "NEEDS_CSUM","VirtioNet", "load_offloads", "store_offloads",
]  # fmt: skip
