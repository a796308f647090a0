"""Finish in software what a frame left to hardware, for who gets it as bytes: checksums, and cutting to segments.

Beside interfaces of the kernel, frames come with the transport checksum not summed and TCP payload not cut
(:mod:`wirespeed.ports.virtio.net`). Ports that can, hand that on; Python cannot, so the host port gives it frames as
they would stand on a wire. Slow path: a packet at a time, plain Python.

References: virtio 1.2 section 5.1.6; RFC 9293 section 3.1, RFC 768; Linux net/ipv4/tcp_offload.c (tcp_gso_segment).
"""

import struct

MOST: int = 128
"""Segments that are made of one packet: 64 KiB in pieces of 512 bytes."""

_TCP_CHECKSUM, _UDP_CHECKSUM = 16, 6
_FIN_PSH, _CWR = 0x09, 0x80


def complete(frame: bytes, start: int, offset: int) -> bytes:
    """Sum from ``start`` to the end; the field at ``start + offset`` holds the pseudo header's part already."""
    if start + offset + 2 > len(frame):
        return frame
    field = _sum(frame[start:]) or 0xFFFF  # 0 would mean that UDP has none; in TCP both are the same number
    return frame[: start + offset] + field.to_bytes(2) + frame[start + offset + 2 :]


def segments(frame: bytes, headers: int, size: int) -> list[bytes]:
    """Cut a super-packet: IPv4, TCP or UDP.

    Args:
        headers: bytes of all headers, from Ethernet on.
        size: payload bytes of each segment.

    Returns:
        Complete frames; none if it is not what it says (its fields are the sender's, and were not all checked).
    """
    network = 14
    if not 34 <= headers <= len(frame) or frame[network] >> 4 != 4:
        return []
    if size * MOST < len(frame) - headers:
        return []
    transport = network + (frame[network] & 15) * 4
    protocol = frame[network + 9]
    if (protocol, headers - transport >= (20 if protocol == 6 else 8)) not in ((6, True), (17, True)):
        return []
    identification, payload, found = int.from_bytes(frame[network + 4 : network + 6]), frame[headers:], []
    for number, at in enumerate(range(0, len(payload), size)):
        part = payload[at : at + size]
        head = bytearray(frame[:headers])
        struct.pack_into("!HH", head, network + 2, headers - network + len(part), (identification + number) & 0xFFFF)
        head[network + 10 : network + 12] = b"\0\0"
        struct.pack_into("!H", head, network + 10, _sum(bytes(head[network:transport])))
        if protocol == 6:
            sequence = (int.from_bytes(head[transport + 4 : transport + 8]) + at) & 0xFFFF_FFFF
            struct.pack_into("!I", head, transport + 4, sequence)
            if at + size < len(payload):
                head[transport + 13] &= ~_FIN_PSH
            if at:
                head[transport + 13] &= ~_CWR
            field = _TCP_CHECKSUM
        else:
            struct.pack_into("!H", head, transport + 4, 8 + len(part))
            field = _UDP_CHECKSUM
        pseudo = frame[network + 12 : network + 20] + struct.pack("!HH", protocol, headers - transport + len(part))
        struct.pack_into("!H", head, transport + field, ~_sum(pseudo) & 0xFFFF)
        found.append(complete(bytes(head) + part, transport, field))
    return found


def _sum(data: bytes) -> int:
    """The Internet checksum, RFC 1071."""
    if len(data) & 1:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return int(~(total + (total >> 16)) & 0xFFFF)


__all__ = ["complete", "segments"]
