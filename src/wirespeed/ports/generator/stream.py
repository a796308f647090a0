"""A stream: one kind of packet, what differs from one to the next, how often it comes.

::

    web = ws.Stream(
        Ether(dst="02:00:00:00:00:02") / IP(src="198.18.0.1") / TCP(dport=443),      # scapy's, or any bytes
        fields={"ipv4.dst": ws.Random("198.19.0.0/16"), "tcp.sport": range(1024, 65536)},
        sizes={64: 7, 594: 4, 1518: 1},
    )
    port = ws.Generator.from_streams(web, names, rate=1_000_000)

A packet may be written with header declarations instead, one's own included::

    [(ws.Ethernet, {"dst": 0x020000000002, "ethertype": 0x0800}), (ws.Ipv4, {...}), (Telemetry, {"hop": 1})]

and a field is named by its header, ``"telemetry.hop"``, or by its place, ``(42, 2)``: offset and bytes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import PortError
from wirespeed.ports.generator.frames import Fields, Place
from wirespeed.ports.generator.program import number, program
from wirespeed.ports.generator.shape import Shape, find_shape
from wirespeed.ports.options import nearest
from wirespeed.ports.stamp import FARTHEST, STAMP
from wirespeed.wire.ethernet import Ethernet
from wirespeed.wire.header import Header
from wirespeed.wire.icmp import Icmp
from wirespeed.wire.ipv4 import PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP, Ipv4
from wirespeed.wire.ipv6 import Ipv6
from wirespeed.wire.tcp import Tcp
from wirespeed.wire.udp import Udp
from wirespeed.wire.vlan import Vlan

FCS: int = 4
"""Bytes of the frame check sequence: counted in sizes, as the field does, but not in memory."""

LEAST: int = 64
"""The smallest frame."""

LONGEST: int = 9018
"""The largest frame: jumbo, 9000 bytes of IP."""

_WIDEST = FARTHEST + STAMP + 2  # fields that differ lie before: they are in each template
_TRANSPORTS: dict[int, type[Header]] = {PROTOCOL_UDP: Udp, PROTOCOL_TCP: Tcp, PROTOCOL_ICMP: Icmp, PROTOCOL_ICMP6: Icmp}


@dataclass(frozen=True)
class Stream:
    """One kind of packet.

    Args:
        packet: bytes from the Ethernet header on (or what ``bytes()`` makes them of), or a list of header
            declarations with their values.
        fields: what differs, by name: see :mod:`wirespeed.ports.generator.program`.
        sizes: bytes of the frame with its FCS, or weights by size; 0: as short as it can be.
        weight: how many of these come for those of other streams.
        packets: how many are written down, to be sent round and round.
        stamp: number them and say when they left, for a meter.
        stamp_at: where the stamp is, from the packet's start or (negative) its end; None: behind the packet.
        number: what the meter calls it; None: its place in the list of streams.
    """

    packet: Any
    fields: Mapping[Any, Any] = field(default_factory=dict)
    sizes: int | Mapping[int, int] = 0
    weight: int = 1
    packets: int = 1024
    stamp: bool = True
    stamp_at: int | None = None
    number: int | None = None


@dataclass(frozen=True)
class Part:
    """A stream, checked and worked out.

    Attributes:
        shape: what its frames have in common.
        fields: what differs in each of ``count`` packets.
        lengths: of frames in memory, one round of them.
        count: packets, before lengths multiply them.
        weight: packets for each of another stream.
        stream: its number.
    """

    shape: Shape
    fields: Fields
    lengths: tuple[int, ...]
    count: int
    weight: int = 1
    stream: int = 0

    @property
    def width(self) -> int:
        """Bytes of a frame that may differ from another's: those up to the last such."""
        shape = self.shape
        ends = [place.offset + place.size for place, _ in self.fields]
        return max(shape.stamp_end, shape.sum + 2, shape.network + shape.network_bytes, shape.transport + 8, *ends, 1)


def work_out(stream: Stream, place: int, seed: int) -> Part:
    """Check a stream and run its field programs.

    Args:
        stream: as the user wrote it.
        place: in the list of streams, for messages; its number unless it has one.
        seed: of what is drawn.

    Raises:
        PortError: something is wrong with it.
    """
    name = f"stream {place if stream.number is None else stream.number}"
    for what, value, least, most in (
        ("weight", stream.weight, 1, 1000),
        ("packets", stream.packets, 1, 1 << 22),
        ("number", stream.number or 0, 0, 0xFFFF),
    ):
        if not least <= value <= most:
            raise PortError(f"{name}: {what}={value} must be {least} to {most}")
    packet, headers = _written(name, stream.packet)
    shape = find_shape(packet, stream.stamp, stream.stamp_at)
    if stream.stamp:
        _check_stamp(name, shape, len(packet))
    random = np.random.default_rng([seed, place])
    fields = tuple(
        (_place(name, shape, headers, key), program(value).column(stream.packets, random))
        for key, value in stream.fields.items()
    )
    part = Part(
        shape, fields, _lengths(name, stream.sizes, shape), stream.packets, stream.weight,
        place if stream.number is None else stream.number,
    )  # fmt: skip
    if part.width > _WIDEST:
        raise PortError(f"{name}: what differs between packets must lie in their first {_WIDEST} bytes")
    short = min(part.lengths)
    if part.width > short:
        raise PortError(f"{name}: a field ends at byte {part.width}, beyond frames of {short + FCS} bytes with FCS")
    return part


def _written(name: str, packet: Any) -> tuple[bytes, dict[str, tuple[int, type[Header]]]]:
    """The bytes of a packet; and, of one written with declarations, where each header is."""
    if not isinstance(packet, Sequence) or isinstance(packet, bytes | bytearray | memoryview):
        try:
            made = bytes(packet)
        except Exception as error:
            raise PortError(f"{name}: its packet cannot be made into bytes: {error}") from None
        if isinstance(packet, int) or not 14 <= len(made) <= LONGEST - FCS:
            raise PortError(
                f"{name}: its packet has {len(made)} bytes: 14 to {LONGEST - FCS}, from the Ethernet header on"
            )
        return made, {}
    data = bytearray()
    headers: dict[str, tuple[int, type[Header]]] = {}
    for header, given in packet:
        at = len(data)
        data += bytes(header.SIZE)
        headers[header.__name__.lower()] = (at, header)
        if header is Ipv4:
            given = {"version": 4, "ihl": 5, "ttl": 64, **given}
        elif header is Ipv6:
            given = {"version": 6, "hop_limit": 64, **given}
        elif header is Tcp:
            given = {"data_offset": 5, **given}
        for key, value in given.items():
            _write(data, _declared(name, at, header, key), number(value))
    if len(data) < Ethernet.SIZE:
        raise PortError(f"{name}: a packet begins with an Ethernet header: (ws.Ethernet, {{...}})")
    return bytes(data), headers


def _write(data: bytearray, place: Place, value: int) -> None:
    old = int.from_bytes(data[place.offset : place.offset + place.size], "big")
    width = place.width or 8 * place.size
    mask = ((1 << width) - 1) << place.shift
    new = (old & ~mask) | ((value << place.shift) & mask)
    data[place.offset : place.offset + place.size] = new.to_bytes(place.size, "big")


def _declared(name: str, at: int, header: type[Header], key: str) -> Place:
    """The place of a declared field."""
    if key not in header.fields:
        raise PortError(f"{name}: {header.__name__} has no field {key!r}: {nearest(key, list(header.fields))}")
    found = header.fields[key]
    if found.size > 1 and not found.swap:
        raise PortError(
            f"{name}: {header.__name__}.{key} is in the machine's byte order, which no header on a wire has"
        )
    return Place(at + found.offset, found.size, getattr(found, "shift", 0), getattr(found, "width", 0))


def _place(name: str, shape: Shape, headers: dict[str, tuple[int, type[Header]]], key: Any) -> Place:
    if isinstance(key, tuple):
        offset, size = key
        if not (offset >= 0 and 1 <= size <= 16):
            raise PortError(f"{name}: a field at {key} must be (offset from 0, bytes 1 to 16)")
        return Place(offset, size)
    header, _, field_name = str(key).partition(".")
    known = {**_headers(shape), **headers}
    if header not in known:
        raise PortError(f"{name}: its packet has no header for field {key!r}: {nearest(header, list(known))}")
    at, kind = known[header]
    return _declared(name, at, kind, field_name)


def _headers(shape: Shape) -> dict[str, tuple[int, type[Header]]]:
    """The headers of a shape, by the names that ``pkt`` has for them."""
    found: dict[str, tuple[int, type[Header]]] = {"eth": (0, Ethernet)}
    if shape.network > Ethernet.SIZE:
        found["vlan"] = (Ethernet.SIZE, Vlan)
    if shape.version:
        found[f"ipv{shape.version}"] = (shape.network, Ipv4 if shape.version == 4 else Ipv6)
    if shape.protocol:
        kind = _TRANSPORTS[shape.protocol]
        found[kind.__name__.lower()] = (shape.transport, kind)
    return found


def _check_stamp(name: str, shape: Shape, given: int) -> None:
    if not Ethernet.SIZE <= shape.stamp <= FARTHEST or shape.stamp & 1:
        raise PortError(
            f"{name}: a stamp at byte {shape.stamp} must be at an even offset of {Ethernet.SIZE} to {FARTHEST}: "
            f"the packet has {given} bytes; say stamp_at or stamp=False"
        )


def _lengths(name: str, sizes: int | Mapping[int, int], shape: Shape) -> tuple[int, ...]:
    """Of frames in memory; 64 grows if the headers need more, as it does in IMIX."""
    least = max(LEAST, shape.head + FCS)
    wanted = {sizes or least: 1} if isinstance(sizes, int) else dict(sizes)
    return tuple(size - FCS for size in mixed(name, wanted, least))


def mixed(name: str, sizes: Mapping[int, int], least: int) -> list[int]:
    """Sizes by weight, one round of them, each spread evenly over it.

    Raises:
        PortError: a size is none, or a weight.
    """
    if not sizes or sum(sizes.values()) > 4096 or any(weight < 1 for weight in sizes.values()):
        raise PortError(f"{name}: sizes {dict(sizes)} must have weights from 1 on, 4096 together at most")
    wrong = [size for size in sizes if size != LEAST and not least <= size <= LONGEST]
    if wrong:
        raise PortError(f"{name}: size={wrong[0]} must be {least} to {LONGEST}")
    known = list(sizes)
    return [max(known[which], least) for which in spread([sizes[size] for size in known])]


def spread(weights: Sequence[int]) -> list[int]:
    """Indices, each as often as its weight, as evenly as they go."""
    places = np.concatenate([(np.arange(weight) + 0.5) / weight for weight in weights])
    owners = np.repeat(np.arange(len(weights)), weights)
    order: NDArray[np.int64] = owners[np.argsort(places, kind="stable")]
    return order.tolist()


__all__ = ["Part", "Stream", "mixed", "spread", "work_out"]
