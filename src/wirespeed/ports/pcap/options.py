"""The options of ``pcap``, and which of them go together."""

from dataclasses import dataclass, fields

from wirespeed.errors import PortError
from wirespeed.ports.options import option
from wirespeed.ports.pcap.format import MAX_CAPTURED
from wirespeed.ports.pcap.sink import BUFFER, Recipe

_SLOWEST, _FASTEST = 0.001, 1000.0


@dataclass(frozen=True)
class PcapOptions:
    """Options of ``pcap``."""

    path: str = option(doc="the file, a pipe, or - for the standard input or output", positional=True)
    loop: bool = option(False, "reading: keep the packets in memory and receive them over and over")
    count: int = option(-1, "reading: how many packets to receive; -1: all, or no end when looping")
    speed: float = option(0.0, "reading: replay at the capture's times; 2 is twice as fast (0.001 to 1000)")
    rate: int = option(0, "reading: replay so many packets a second")
    bits: int = option(0, "reading: replay so many bits a second on the wire: 10G is 10 Gb/s line rate")
    timestamps: bool = option(False, "reading: packets carry the time they were captured at")
    interfaces: bool = option(False, "reading pcapng: packets carry the number of their interface as flow mark")
    to: str = option("", "reading: the file that is written with what is sent")
    memory: int = option(256 << 20, "reading, loop: the most bytes the packets may take in memory")
    format: str = option("", "writing: pcap or pcapng; by default as the name ends")
    nano: bool = option(False, "writing pcap: times in nanoseconds rather than microseconds; pcapng has them anyway")
    snap: int = option(MAX_CAPTURED, "writing: bytes kept of each packet")
    comment: str = option("", "writing pcapng: a comment in its header")
    queues: int = option(1, "writing pcapng: queues, each an interface of the file (1 to 64); 0: one for every worker")
    rotate: int = option(0, "writing: begin another file after so many bytes, before compression: 100M")
    every: float = option(0.0, "writing: begin another file after so many seconds")
    files: int = option(0, "writing: how many of the rotated files stay; 0: all")
    flush: bool = option(False, "writing: each burst at once rather than ten times a second")
    buffer: int = option(BUFFER, "writing: bytes that may wait for the disk, for each queue")


_READING = ("loop", "count", "speed", "rate", "bits", "timestamps", "interfaces", "memory")
_WRITING = ("format", "nano", "snap", "comment", "queues", "rotate", "every", "files", "flush", "buffer")


def check(spec: str, options: PcapOptions) -> None:
    """Raise a PortError for what cannot be, whichever way the file is used."""
    recipe_of(options).check(spec)
    if options.speed and not _SLOWEST <= options.speed <= _FASTEST:
        raise PortError(f"port {spec!r}: speed={options.speed:g} must be {_SLOWEST} to {_FASTEST:g}")
    if options.rate < 0 or options.bits < 0 or options.rate > 1e9 or options.bits > 1e13:
        raise PortError(f"port {spec!r}: rate must be up to 1G packets a second, bits up to 10000G")
    if sum(map(bool, (options.speed, options.rate, options.bits))) > 1:
        raise PortError(f"port {spec!r}: speed, rate and bits exclude each other: give one")
    if not 0 <= options.queues <= 64:
        raise PortError(f"port {spec!r}: queues={options.queues} must be 1 to 64, or 0 for one for every worker")
    if options.queues != 1 and not recipe_of(options).pcapng:
        raise PortError(f"port {spec!r}: several queues are several interfaces, which need pcapng: format=pcapng")


def check_direction(spec: str, options: PcapOptions, reads: bool, writes: bool) -> None:
    """Options of a direction that is not used are a misunderstanding.

    Raises:
        PortError: there is one; or there is one file for both directions.
    """
    if reads and writes:
        if not options.to:
            raise PortError(f"port {spec!r} is read and written in one graph: write to another file, to=FILE")
        return
    if options.to:
        raise PortError(
            f"port {spec!r}: to={options.to} is for a port that is read and written, this one is not both: leave it out"
        )
    names, direction = (_WRITING, "written") if reads else (_READING, "read")
    for field in fields(PcapOptions):
        if field.name in names and getattr(options, field.name) != field.default:
            raise PortError(
                f"port {spec!r}: {field.name} is for files that are {direction}, this one is not: leave it out"
            )


def recipe_of(options: PcapOptions) -> Recipe:
    """The options of writing."""
    given = {field.name: getattr(options, field.name) for field in fields(Recipe)}
    return Recipe(**given | {"path": options.to or options.path})


__all__ = ["PcapOptions", "check", "check_direction", "recipe_of"]
