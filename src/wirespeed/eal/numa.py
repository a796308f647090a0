"""Memory nodes: which cores stand next to which memory, and how much is there.

A read that crosses to another node costs about 40 ns more, six packets at 100 Gb/s. So a port's
packets belong in the memory of the port's node, on cores of that node.

A machine without ``/sys/devices/system/node`` (a kernel without CONFIG_NUMA) is one node, 0, that
has every core.

References: Documentation/admin-guide/mm/numaperf.rst; ACPI SLIT for the distances (10 = local).
"""

import re
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs


@dataclass(frozen=True)
class Node:
    """One memory node. Sizes in bytes; ``distances`` by node in the order of :func:`nodes`, 10 is local."""

    index: int
    cores: tuple[int, ...]
    memory_bytes: int
    free_bytes: int
    distances: tuple[int, ...]


def nodes(root: Path = sysfs.ROOT) -> tuple[Node, ...]:
    """All online nodes, lowest index first; always at least one."""
    base = root / "sys/devices/system/node"
    found = tuple(_node(base, index) for index in sysfs.cores(base / "online"))
    if found:
        return found
    cores = sysfs.cores(root / "sys/devices/system/cpu/online")
    total, free = _meminfo(sysfs.text(root / "proc/meminfo"))
    return (Node(0, cores, total, free, (10,)),)


def _node(base: Path, index: int) -> Node:
    folder = base / f"node{index}"
    total, free = _meminfo(sysfs.text(folder / "meminfo"))
    distances = tuple(int(word) for word in sysfs.text(folder / "distance", "10").split())
    return Node(index, sysfs.cores(folder / "cpulist"), total, free, distances)


def _meminfo(text: str) -> tuple[int, int]:
    """Total and free bytes of a ``meminfo``, the machine's or a node's ("Node 0 MemTotal: 1 kB")."""
    sizes = {name: int(kilobytes) * 1024 for name, kilobytes in re.findall(r"(\w+):\s+(\d+) kB", text)}
    return sizes.get("MemTotal", 0), sizes.get("MemFree", 0)
