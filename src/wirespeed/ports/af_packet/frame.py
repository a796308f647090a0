"""From a frame in a packet socket's ring to a packet: the copy, the VLAN tag, the offloads, the time.

What both kinds of ring have in common. The kernel takes a VLAN tag off each frame and says it beside the frame; nodes
expect the frame as it was on the wire, so the tag is put back in front of it, into the headroom.

References: Documentation/networking/packet_mmap.rst, timestamping.rst; include/uapi/linux/if_packet.h.
"""

from wirespeed.jit import bswap16, cold, inline, move, store16, store64
from wirespeed.mem.descriptor import (
    CHAINED,
    META,
    CellHeader,
    address_of,
    header_of,
    length_of,
    offset_of,
    with_data,
)
from wirespeed.ports.scatter import assemble
from wirespeed.ports.virtio.net import HOSTILE, load_offloads

VLAN_VALID, TPID_VALID = 0x10, 0x40
"""TP_STATUS_VLAN_VALID, TP_STATUS_VLAN_TPID_VALID."""
ETHERNET: int = 14
TAG: int = 4

_CUSTOMER_TAG = 0x8100


@inline
def dress(window, cells, first, length, status, tci, tpid, header, time_ns):  # type: ignore[no-untyped-def]
    """Make a packet of the ``length`` bytes that lie in the window from cell ``first`` on.

    Args:
        status, tci, tpid: what the kernel says of the tag it took off.
        header: address of the frame's virtio-net header.
        time_ns: when it was received; 0: nobody wants to know.

    Returns:
        Its descriptor, or HOSTILE (-1, which is none).
    """
    desc = assemble(window, cells, first, length)
    tag = 0
    if status & VLAN_VALID:
        tag = TAG
        desc = _put_tag(cells, desc, tci, tpid if status & TPID_VALID else _CUSTOMER_TAG)
    line = header_of(cells, desc)
    meta = load_offloads(header, line, address_of(cells, desc), length_of(desc), tag)
    if meta == HOSTILE:
        return HOSTILE
    if time_ns:
        meta = _stamp(line, meta, time_ns)
    return desc | meta


@cold
def _put_tag(cells, desc, tci, tpid):  # type: ignore[no-untyped-def]
    """Put back the VLAN tag behind the two addresses: IEEE 802.1Q, clause 9.3."""
    start = address_of(cells, desc)
    move(start - TAG, start, 12)
    store16(start + 8, bswap16(tpid))
    store16(start + 10, bswap16(tci))
    if desc & CHAINED:
        CellHeader(header_of(cells, desc)).length += TAG
    return with_data(desc, offset_of(desc) - TAG, length_of(desc) + TAG)


@cold
def _stamp(line, meta, time_ns):  # type: ignore[no-untyped-def]
    """Write the time of receipt into the header line; all of it means something from now on."""
    if meta == 0:
        for word in range(16, 48, 8):
            store64(line + word, 0)
    CellHeader(line).timestamp = time_ns
    return META


__all__ = ["ETHERNET", "TAG", "TPID_VALID", "VLAN_VALID", "dress"]
