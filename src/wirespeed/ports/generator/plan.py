"""The generator's options, and what they come to: checked before anything is opened."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import PortError
from wirespeed.ports.generator import fields
from wirespeed.ports.generator.fields import Values
from wirespeed.ports.generator.flows import Column, choose, combinations
from wirespeed.ports.generator.frames import Place
from wirespeed.ports.generator.program import inside
from wirespeed.ports.generator.shape import PROTOCOLS, Shape, make_shape
from wirespeed.ports.generator.stream import FCS, LEAST, LONGEST, Part, mixed
from wirespeed.ports.options import option
from wirespeed.tables.routes import load_routes

WIRE: int = 20
"""Bytes of preamble and gap that a frame takes on a wire beside itself."""

IMIX: tuple[int, ...] = (64, 594, 64, 64, 594, 64, 1518, 64, 594, 64, 64, 594)
"""Sizes of simple IMIX, seven to four to one, in the order they leave; 64 grows if the headers need more."""

TEMPLATES: int = 1 << 22
"""The most templates a port makes: 256 MiB of them."""

ROUTED: int = 65536
"""Destinations drawn from a routing table, unless ``flows`` are more or fewer."""

_FLOWS = 1024  # unless told otherwise
_FAMILY = {4: ("198.18.0.1", "198.19.0.1"), 6: ("2001:2::1", "2001:2:0:1::1")}  # RFC 2544 and RFC 5180


@dataclass(frozen=True)
class GeneratorOptions:
    """Options of ``generator``."""

    size: int = option(
        0, "bytes of a frame, with its 4 bytes of FCS: 64 is 60 in memory; 0: 64 or what the headers need"
    )
    imix: bool = option(False, "mix sizes 64, 594 and 1518 seven to four to one")
    sizes: str = option("", "mix sizes by weight: 64:7/594:4/1518:1")
    src: str = option("", "source: address, prefix or range a-b")
    dst: str = option("", "destination: address, prefix or range a-b; IPv6 addresses make IPv6 packets")
    sport: str = option("1024-65535", "source port or range a-b; identifier of ICMP echo")
    dport: str = option("9", "destination port or range a-b; sequence number of ICMP echo")
    src_mode: str = option("", "constant, counting or random; by default counting, if there is a range")
    dst_mode: str = option("", "as src_mode")
    sport_mode: str = option("", "as src_mode")
    dport_mode: str = option("", "as src_mode")
    destinations: str = option("", "file of IPv4 addresses, one a line, or .npy of uint32, instead of dst")
    routes: str = option("", "routing table: destinations are random addresses inside its prefixes, instead of dst")
    flows: int = option(-1, "distinct flows; -1: 1024 or as many as there are; 0: draw for every packet anew")
    proto: str = option("udp", "udp, tcp or icmp")
    vlan: int = option(-1, "VLAN identifier; -1: no tag")
    smac: str = option("02:00:00:00:00:01", "source MAC address")
    dmac: str = option("02:00:00:00:00:02", "destination MAC address")
    seed: int = option(1, "of everything random")
    count: int = option(-1, "packets to send; -1: no end")
    rate: int = option(0, "packets a second; 0: as fast as asked")
    rate_bits: int = option(0, "bits a second on the wire, with preamble and gap: 10G is 10 Gb/s line rate")
    burst: int = option(1, "packets that leave back to back, at the same rate on average (1 to 1024)")
    late: int = option(4000, "microseconds that a generator which was kept from working makes up for (0 to 1M)")
    seconds: float = option(0.0, "how long to send; 0: no end")
    stamp: bool = option(False, "number packets and say when they left, 18 bytes behind the headers, for a meter")
    stream: int = option(0, "what the meter calls the first queue's packets; the next queue's are one more")


@dataclass(frozen=True)
class Plan:
    """What is to be generated."""

    shape: Shape
    fields: tuple[Values, ...]
    """Of flows, the one that turns fastest first."""
    lengths: tuple[int, ...]
    """Bytes of frames in memory, one round of them."""
    flows: int
    redraw: bool
    """Random fields are drawn for every packet."""
    destinations: NDArray[np.uint32] | None
    """Instead of the field ``dst``."""

    def part(self, options: "GeneratorOptions") -> Part:
        """Its flows, worked out."""
        shape, distinct = self.shape, not self.redraw and self.destinations is None
        columns = choose(self.fields, self.flows, options.seed, distinct)
        if self.destinations is not None:
            numbers = np.arange(self.flows) % len(self.destinations)
            if options.dst_mode == "random":
                numbers = np.random.default_rng(options.seed).integers(0, len(self.destinations), self.flows)
            columns["dst"] = Column(columns["dst"].high, self.destinations[numbers].astype(np.uint64))
        places = {
            "src": Place(shape.source, shape.address_size),
            "dst": Place(shape.destination, shape.address_size),
            "sport": Place(shape.ports, 2),
            "dport": Place(shape.ports + 2, 2),
        }
        chosen = tuple((place, columns[name]) for name, place in places.items())
        return Part(shape, chosen, self.lengths, self.flows, stream=options.stream)


def plan(spec: str, options: GeneratorOptions, destinations: NDArray[np.uint32] | None = None) -> Plan:
    """Check the options.

    Raises:
        PortError: one is wrong; the message names it and its bounds.
    """
    check_pace(spec, options)
    _bounded(spec, "vlan", options.vlan, -1, 4094)
    _bounded(spec, "flows", options.flows, -1, TEMPLATES)
    _bounded(spec, "stream", options.stream, 0, 0xFFFF)
    if options.proto not in PROTOCOLS:
        raise PortError(f"port {spec!r}: proto={options.proto!r} must be one of {', '.join(PROTOCOLS)}")
    given = [name for name in ("size", "imix", "sizes") if getattr(options, name)]
    if len(given) > 1:
        raise PortError(f"port {spec!r}: {given[0]} and {given[1]} exclude each other: give one")
    listed = [name for name in ("destinations", "routes") if getattr(options, name)]
    if len(listed) + (destinations is not None) > 1:
        raise PortError(f"port {spec!r}: there are two lists of destinations: give one")
    if listed:
        read = read_destinations if listed[0] == "destinations" else read_routes
        destinations = read(spec, getattr(options, listed[0]), options.seed)
    version, chosen = _fields(spec, options, destinations is not None)
    macs = fields.mac_address(spec, "dmac", options.dmac) + fields.mac_address(spec, "smac", options.smac)
    shape = make_shape(version, options.proto, macs, options.vlan, options.stamp)
    sizes = _sizes(spec, options, max(LEAST, shape.head + FCS))
    flows = _flows(spec, options, chosen, destinations)
    _bounded(spec, "flows", flows, 1, TEMPLATES // len(sizes))
    if options.stamp and options.flows == 0:
        raise PortError(f"port {spec!r}: stamps go with flows that are written down: flows=1 or more")
    return Plan(shape, chosen, tuple(size - FCS for size in sizes), flows, options.flows == 0, destinations)


def check_pace(spec: str, options: GeneratorOptions) -> None:
    """Check how many and how fast.

    Raises:
        PortError: an option is wrong.
    """
    _bounded(spec, "count", options.count, -1, 1 << 62)
    _bounded(spec, "rate", options.rate, 0, 10**9)
    _bounded(spec, "rate_bits", options.rate_bits, 0, 10**13)
    _bounded(spec, "burst", options.burst, 1, 1024)
    _bounded(spec, "late", options.late, 0, 10**6)
    if not 0 <= options.seconds <= 10**6:
        raise PortError(f"port {spec!r}: seconds={options.seconds} must be 0 to {10**6}")
    if options.rate and options.rate_bits:
        raise PortError(f"port {spec!r}: rate and rate_bits exclude each other: give one")
    if options.burst > 1 and not (options.rate or options.rate_bits):
        raise PortError(f"port {spec!r}: burst={options.burst} groups packets that have a rate: give rate or rate_bits")


def mean_wire_bytes(lengths: Sequence[int]) -> float:
    """Bytes that a frame takes on the wire, preamble, gap and FCS included, on average over lengths in memory."""
    return sum(length + FCS + WIRE for length in lengths) / len(lengths)


def _sizes(spec: str, options: GeneratorOptions, least: int) -> tuple[int, ...]:
    if options.sizes:
        try:
            wanted = {int(size): int(weight or 1) for size, _, weight in map(_weight, options.sizes.split("/"))}
        except ValueError:
            raise PortError(
                f"port {spec!r}: sizes={options.sizes!r} must be like 64:7/1518:1, size and weight"
            ) from None
        return tuple(mixed(f"port {spec!r}", wanted, least))
    if options.size:
        _bounded(spec, "size", options.size, least, LONGEST)
    return tuple(max(size, least) for size in (IMIX if options.imix else (options.size,)))


def _weight(text: str) -> tuple[str, str, str]:
    return text.partition(":")


def _bounded(spec: str, name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise PortError(f"port {spec!r}: {name}={value} must be {least} to {most}")


def _fields(spec: str, options: GeneratorOptions, listed: bool) -> tuple[int, tuple[Values, ...]]:
    """IP version, and the fields that tell flows apart."""
    given = [
        fields.addresses(spec, name, text, "").version
        for name, text in (("src", options.src), ("dst", options.dst))
        if text
    ]
    version = 4 if listed or not given else given[0]
    if any(other != version for other in given):
        listing = "listed destinations are" if listed else "src is"
        raise PortError(f"port {spec!r}: {listing} IPv{version} and another address is not: use one version")
    if listed and options.dst:
        raise PortError(f"port {spec!r}: dst and destinations exclude each other: give one")
    src, dst = options.src or _FAMILY[version][0], options.dst or _FAMILY[version][1]
    return version, (
        fields.addresses(spec, "dst", dst, options.dst_mode),
        fields.addresses(spec, "src", src, options.src_mode),
        fields.ports(spec, "dport", options.dport, options.dport_mode),
        fields.ports(spec, "sport", options.sport, options.sport_mode),
    )


def _flows(
    spec: str, options: GeneratorOptions, chosen: tuple[Values, ...], destinations: NDArray[np.uint32] | None
) -> int:
    if destinations is not None:
        if not len(destinations):
            raise PortError(f"port {spec!r}: destinations has no address in it")
        return options.flows if options.flows > 0 else min(len(destinations), TEMPLATES // 12)
    if options.flows == 0:
        if not any(field.mode == "random" for field in chosen):
            raise PortError(
                f"port {spec!r}: flows=0 draws random fields for every packet and none is random: add dst_mode=random"
            )
        return _FLOWS
    most = combinations(chosen)
    if options.flows > most:
        raise PortError(
            f"port {spec!r}: flows={options.flows} must be at most {most}: widen src, dst, sport or dport for more"
        )
    return options.flows if options.flows != -1 else min(_FLOWS, most)


def per_packet(spec: str, field: Values) -> tuple[int, int]:
    """Smallest value and span of what is drawn for every packet: a port, or an address's last 32 bits.

    An IPv6 range has to keep the other bits, or to leave the last 32 free altogether.

    Raises:
        PortError: the range does neither.
    """
    if field.mode != "random":
        return 0, 0
    last = field.first + field.span - 1
    if field.first >> 32 == last >> 32:
        return field.first & 0xFFFF_FFFF, field.span
    if field.first & 0xFFFF_FFFF or field.span & 0xFFFF_FFFF:
        raise PortError(f"port {spec!r}: flows=0 with a random {field.name} needs a prefix, not a range")
    return 0, 1 << 32


def read_routes(spec: str, path: str, seed: int) -> NDArray[np.uint32]:
    """Addresses inside the prefixes of a routing table.

    Raises:
        TableError: it cannot be read.
        PortError: it has no IPv4 routes.
    """
    prefixes, lengths, _ = load_routes(path)
    if not len(prefixes):
        raise PortError(f"port {spec!r}: routes={path!r} must have IPv4 prefixes, one a line")
    return inside(prefixes, lengths, ROUTED, np.random.default_rng(seed))


def read_destinations(spec: str, path: str, seed: int = 0) -> NDArray[np.uint32]:
    """Addresses from a file: ``.npy`` of uint32, or text with one dotted address a line (``#`` comments).

    Raises:
        PortError: it cannot be read.
    """
    try:
        if Path(path).suffix == ".npy":
            return np.load(path, allow_pickle=False).astype(np.uint32).reshape(-1)  # type: ignore[no-any-return]
        lines = (line.partition("#")[0].strip() for line in Path(path).read_text().splitlines())
        read = [fields.addresses(spec, "destinations", line, "constant") for line in lines if line]
    except (OSError, ValueError) as error:
        raise PortError(f"port {spec!r}: destinations={path!r} cannot be read: {error}") from None
    if any(field.version != 4 for field in read):
        raise PortError(f"port {spec!r}: destinations={path!r} must hold IPv4 addresses only")
    return np.array([field.first for field in read], np.uint32)
