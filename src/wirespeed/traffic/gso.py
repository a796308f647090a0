"""Generic segmentation (GSO): a super-packet of TCP or UDP, in frames that fit a link.

Linux hands such packets out where a device promises to cut them (virtio-net, TSO), and GRO makes them. Each segment
gets the headers, with lengths, IPv4 identification, TCP sequence number and checksums made right; FIN and PSH stay with
the last, CWR with the first (RFC 3168 section 6.1.2). UDP segments are datagrams of their own (Linux's UDP_SEGMENT).
IPv4 and IPv6, options and extension headers included. Bytes are copied; O(bytes).
"""

from wirespeed.hashes.internet import finish
from wirespeed.jit import cold, inline, load64, store64
from wirespeed.mem.buffer import chain_of, copy_bytes, copy_meta, seek
from wirespeed.mem.descriptor import CHECKSUM_VALID, META, ROOM, CellHeader, address_of, header_of
from wirespeed.mem.pool_cache import release_one
from wirespeed.traffic.sums import sum_packet
from wirespeed.wire.checksum import ipv4_header_checksum, nonzero, pseudo_v4, pseudo_v6
from wirespeed.wire.ipv4 import IPV4_FRAGMENT_OFFSET, IPV4_MORE_FRAGMENTS, PROTOCOL_TCP, PROTOCOL_UDP, Ipv4
from wirespeed.wire.ipv6 import WHOLE, Ipv6, skip_extensions
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import parse_transport
from wirespeed.wire.tcp import TCP_CWR, TCP_FIN, TCP_PSH, Tcp
from wirespeed.wire.udp import Udp

MOST_SEGMENTS: int = 256
"""Frames that one packet may become."""


@cold
def segment(cache, desc, size, vector, room):  # type: ignore[no-untyped-def]
    """Cut a packet so that each frame carries at most ``size`` bytes of TCP or UDP payload.

    Args:
        cache: the worker's free cells.
        desc: the packet; freed if it is cut.
        size: payload bytes of a segment; 0: what the packet's header line says (``gso_size``).
        vector: where the segments' descriptors go.
        room: how many there may be.

    Returns:
        How many packets are at ``vector``: 1 is the packet itself, which needs no cutting. 0: it cannot be cut (no
        TCP or UDP in its first segment, a fragment, no size, headers longer than a cell takes, more room or cells
        needed); it is the caller's still.
    """
    pkt = Packet()
    pkt.cells, pkt.desc = cache.cells, desc
    parse_transport(pkt)
    if size == 0 and desc & META != 0:
        size = CellHeader(header_of(cache.cells, desc)).gso_size
    start, l4 = pkt.start, pkt.l4
    header = 0
    protocol = 0
    if pkt.tcp:
        header, protocol = Tcp(l4).header_bytes, PROTOCOL_TCP
    elif pkt.udp:
        header, protocol = 8, PROTOCOL_UDP
    if protocol == 0 or size < 1:
        return 0
    network = pkt.l3 - start
    six = 1 if pkt.ipv6 else 0
    head = l4 - start + header
    data = network + pkt.ip_bytes - head
    if pkt.udp:
        data = min(data, pkt.udp.length - 8)
    fragments = 0
    if pkt.ipv4:
        fragments = pkt.ipv4.flags_fragment & (IPV4_MORE_FRAGMENTS | IPV4_FRAGMENT_OFFSET)
    else:
        _, _, what = skip_extensions(pkt.l3 + 40, pkt.end, pkt.ipv6.next_header)
        fragments = 1 if what != WHOLE else 0
    if head > min(pkt.end - start, ROOM) or fragments != 0:
        return 0
    if data <= size:
        store64(vector, desc)
        return 1
    if (data + size - 1) // size > min(room, MOST_SEGMENTS):
        return 0
    return _cut(cache, desc, network, l4 - start, head, data, size, protocol, six, vector)


@cold
def _cut(cache, desc, network, transport, head, data, size, protocol, six, vector):  # type: ignore[no-untyped-def]
    cells = cache.cells
    count = 0
    source, source_at = desc, head
    for at in range(0, data, size):
        part = min(size, data - at)
        made = chain_of(cache, head + part)
        if made == 0:
            for i in range(count):
                release_one(cache, load64(vector + (i << 3)))
            return 0
        copy_bytes(cells, made, 0, desc, 0, head)
        source, source_at = seek(cells, source, source_at)
        copy_bytes(cells, made, head, source, source_at, part)
        source_at += part
        if desc & META != 0:
            made = copy_meta(cells, made, desc)
            line = CellHeader(header_of(cells, made))
            line.gso_size = 0
            line.gso_type = 0
            line.checksum_state = CHECKSUM_VALID
        start = address_of(cells, made)
        length = head - transport + part
        if six != 0:
            Ipv6(start + network).payload_length = transport - network - 40 + length
        else:
            ip = Ipv4(start + network)
            ip.total_length = transport - network + length
            ip.identification += count
            ip.checksum = ipv4_header_checksum(ip)
        _transport(cells, made, network, transport, length, protocol, six, at, at + part == data)
        store64(vector + (count << 3), made)
        count += 1
    release_one(cache, desc)
    return count


@inline
def _transport(cells, made, network, transport, length, protocol, six, at, last):  # type: ignore[no-untyped-def]
    """Set what differs between segments in the TCP or UDP header, and its checksum."""
    start = address_of(cells, made)
    if six != 0:
        total = pseudo_v6(Ipv6(start + network), protocol, length)
    else:
        total = pseudo_v4(Ipv4(start + network), protocol, length)
    if protocol == PROTOCOL_TCP:
        tcp = Tcp(start + transport)
        tcp.seq += at
        flags = tcp.flags
        if not last:
            flags &= ~(TCP_FIN | TCP_PSH)
        if at > 0:
            flags &= ~TCP_CWR
        tcp.flags = flags
        tcp.checksum = 0
        tcp.checksum = finish(total + sum_packet(cells, made, transport, length))
    else:
        udp = Udp(start + transport)
        udp.length = length
        udp.checksum = 0
        udp.checksum = nonzero(finish(total + sum_packet(cells, made, transport, length)))


__all__ = ["MOST_SEGMENTS", "segment"]
