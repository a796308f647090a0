"""Network interfaces: name, driver, link, queues, where they sit.

All from /sys/class/net, which needs no privilege; only the greatest number of queues a NIC could
have is asked of its driver (the ioctl behind ``ethtool -l``). Number of queues is the number of workers
that can receive without software in between; the node says whose memory its packets should be in.

References: Documentation/ABI/testing/sysfs-class-net and sysfs-class-net-queues; ethtool(8);
include/uapi/linux/ethtool.h (struct ethtool_channels).
"""

import ctypes
import fcntl
import os
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs

_SIOCETHTOOL, _ETHTOOL_GCHANNELS = 0x8946, 0x3C
_PCI = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")


@dataclass(frozen=True)
class Nic:
    """One interface. Unknown is ``""`` for text, -1 for ``speed_mbps`` and ``node``, 0 for ``max_queues``.

    ``state`` is the kernel's operstate (up, down, unknown, ...); ``mtu`` in bytes; ``virtual`` is true
    if no device stands behind it (lo, veth, tap, bridge).
    """

    name: str
    driver: str
    state: str
    mac: str
    mtu: int
    speed_mbps: int
    rx_queues: int
    tx_queues: int
    max_queues: int
    pci: str
    node: int
    virtual: bool


def interfaces(root: Path = sysfs.ROOT) -> tuple[Nic, ...]:
    """All interfaces of this network namespace, physical ones first, then by name.

    /sys shows the namespace it was mounted in. After ``unshare -n`` (not ``ip netns exec``, which mounts it
    anew) only the names are this namespace's, and details of interfaces that /sys lacks are unknown.
    """
    base = root / "sys/class/net"
    # Else, from the directory, where bonding puts a plain file (bonding_masters) among the interfaces.
    names = [name for name in sysfs.names(base) if (base / name).is_dir()]
    if root == sysfs.ROOT:
        names = [name for _, name in socket.if_nameindex()]
    found = [_read(base / name) for name in names]
    return tuple(sorted(found, key=lambda nic: (nic.virtual, nic.name)))


def _read(folder: Path) -> Nic:
    # Both resolved: sysfs shows one tree through many links, and only the real path names the bus.
    place = folder.resolve()
    virtual = not (folder / "device").exists()
    device = (folder / "device").resolve()
    addresses = [part for part in place.parts if _PCI.fullmatch(part)]
    driver = device / "driver"
    return Nic(
        name=folder.name,
        driver=driver.resolve().name if driver.exists() else "",
        state=sysfs.text(folder / "operstate"),
        mac=sysfs.text(folder / "address"),
        mtu=sysfs.number(folder / "mtu", 0),
        speed_mbps=max(sysfs.number(folder / "speed"), -1),
        rx_queues=len(sysfs.names(folder / "queues", "rx-*")),
        tx_queues=len(sysfs.names(folder / "queues", "tx-*")),
        max_queues=0 if virtual else _max_queues(folder.name),
        pci=addresses[-1] if addresses else "",
        node=_node(place),
        virtual=virtual,
    )


def _node(place: Path) -> int:
    """The node of the nearest device above the interface that knows (a virtio device asks its PCI parent)."""
    for folder in place.parents:
        if (folder / "numa_node").exists():
            return sysfs.number(folder / "numa_node")
    return -1


def _max_queues(name: str) -> int:
    """The most receive queues the driver offers (combined or rx-only); 0 if it does not say."""
    channels = bytearray(struct.pack("=9I", _ETHTOOL_GCHANNELS, *[0] * 8))
    # struct ifreq holds a pointer to the command, so the buffer must stay where it is during the call.
    holder = (ctypes.c_char * len(channels)).from_buffer(channels)
    request = struct.pack("=16sQ", os.fsencode(name)[:15], ctypes.addressof(holder)).ljust(40, b"\0")
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
            fcntl.ioctl(control, _SIOCETHTOOL, request)
    except OSError:
        return 0
    max_rx, _, _, max_combined = struct.unpack_from("=4I", channels, 4)
    return int(max(max_rx, max_combined))
