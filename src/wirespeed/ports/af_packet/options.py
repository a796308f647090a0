"""What can be asked of an af_packet port, and what cannot."""

from dataclasses import dataclass

from wirespeed.errors import PortError
from wirespeed.ports.af_packet.filter import Program, compile_matches, read_program
from wirespeed.ports.af_packet.socket import FANOUT
from wirespeed.ports.match import parse_matches
from wirespeed.ports.netdev import Netdev
from wirespeed.ports.offloads import Offload
from wirespeed.ports.options import nearest, option

_BEFORE_FRAME = 96  # bytes of a slot before the frame (76) and tags that may follow the Ethernet header


@dataclass(frozen=True)
class AfPacketOptions:
    """Options of ``af_packet``."""

    interface: str = option(doc="the interface's name", positional=True)
    netns: str = option("", "the network namespace it is in: a name of `ip netns`, or a path")
    queues: int = option(1, "receive queues: the kernel spreads packets over them (1 to 64)")
    fanout: str = option("hash", "how it does that: hash (of the flow), lb, cpu, rollover, rnd or qm, see packet(7)")
    ring: str = option("v2", "how to receive: v2 (each packet at once) or v3 (in blocks: for capture)")
    retire: int = option(1, "with ring=v3: milliseconds until a block is handed over that is not full (1 to 1000)")
    frames: int = option(1024, "slots of each receive queue's ring (a power of two, 256 to 65536)")
    frame: int = option(0, "bytes of a slot (a power of two, 256 to 16384); 0: as the MTU needs")
    send: str = option("ring", "how to send small packets: ring (of slots) or call (one call for a burst)")
    slots: int = option(512, "slots of each transmit queue's ring (a power of two, 256 to 65536)")
    bypass: bool = option(False, "send past the interface's queueing discipline")
    promiscuous: bool = option(False, "receive what is for other stations too, as a bridge must")
    multicast: bool = option(False, "receive every multicast group's packets")
    match: str = option("", "receive only such packets: udp/53, arp|vlan/7, ... (the kernel filters)")
    program: str = option("", "a file with the filter to use instead, as `tcpdump -ddd` writes it")
    timestamps: bool = option(False, "give packets their time of receipt: the hardware's if it has one")


def check(spec: str, options: AfPacketOptions) -> None:
    """Raise PortError unless every option is within its range."""
    for name, low, high in (("queues", 1, 64), ("retire", 1, 1000)):
        if not low <= getattr(options, name) <= high:
            raise PortError(f"port {spec!r}: {name}={getattr(options, name)} must be {low} to {high}")
    for name, high in (("frames", 65536), ("slots", 65536), ("frame", 16384)):
        value = getattr(options, name)
        if (value or name != "frame") and (not 256 <= value <= high or value & (value - 1)):
            raise PortError(f"port {spec!r}: {name}={value} must be a power of two, 256 to {high}")
    for name, known in (("ring", ["v2", "v3"]), ("send", ["ring", "call"]), ("fanout", list(FANOUT))):
        value = getattr(options, name)
        if value not in known:
            raise PortError(f"port {spec!r}: there is no {name}={value}; {nearest(value, known)}")
    if options.match and options.program:
        raise PortError(f"port {spec!r}: match and program are two filters: give one")


def program(spec: str, options: AfPacketOptions) -> Program | None:
    """The filter that is asked for, if any."""
    try:
        if options.program:
            return read_program(options.program)
        return compile_matches(parse_matches(options.match)) if options.match else None
    except PortError as error:
        raise PortError(f"port {spec!r}: {error}") from None


def check_device(spec: str, device: Netdev, netns: str) -> None:
    """Raise PortError unless packets can be received from it now."""
    if not device.ethernet:
        raise PortError(f"port {spec!r}: {device.name} is not an Ethernet interface")
    if not device.up:
        inside = f"ip netns exec {netns} " if netns else ""
        command = f"sudo {inside}ip link set {device.name} up"
        raise PortError(f"port {spec!r}: {device.name} is down; bring it up: {command}")


def frame_size(mtu: int) -> int:
    """The power of two that holds a full frame; what is larger than 16 KiB goes another way."""
    return int(min(max(2048, 1 << (mtu + _BEFORE_FRAME - 1).bit_length()), 16384))


def offloads(options: AfPacketOptions) -> Offload:
    """What such a port does by itself."""
    found = Offload.RX_CHECKSUM | Offload.TX_CHECKSUM | Offload.TX_TCP_SEGMENTATION | Offload.TX_UDP_SEGMENTATION
    found |= Offload.RX_COALESCING | Offload.MULTI_BUFFER | Offload.INTERRUPT
    if options.match or options.program:
        found |= Offload.FILTER
    if options.timestamps:
        found |= Offload.RX_TIMESTAMP
    return found


__all__ = ["AfPacketOptions", "check", "check_device", "frame_size", "offloads", "program"]
