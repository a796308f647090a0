"""PCI devices: what is plugged in, which driver has it, which interfaces it makes, where it sits.

All from /sys/bus/pci, which needs no privilege and no ``lspci``. Names of vendors and devices are those of the
machine's own ``pci.ids`` (package pci.ids or hwdata) where there is one; the vendors of network cards are known
here anyway. An attribute that is absent or cannot be understood is unknown, never an error.

    0000:3b:00.1       domain:bus:device.function
    class 0x020000     base class 02 (network), subclass 00 (Ethernet), programming interface 00

References: Documentation/ABI/testing/sysfs-bus-pci; PCI Code and ID Assignment Specification 1.15; pci.ids(5).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs

NETWORK = 0x02
"""Base class of network controllers."""

_ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
_ID_FILES = ("usr/share/misc/pci.ids", "usr/share/hwdata/pci.ids", "usr/share/pci.ids")
_CLASSES = {
    0x00: "unclassified", 0x01: "storage", 0x02: "network", 0x03: "display", 0x04: "multimedia", 0x05: "memory",
    0x06: "bridge", 0x07: "communication", 0x08: "system", 0x09: "input", 0x0A: "docking station", 0x0B: "processor",
    0x0C: "serial bus", 0x0D: "wireless", 0x0E: "intelligent controller", 0x0F: "satellite", 0x10: "encryption",
    0x11: "signal processing", 0x12: "accelerator", 0x13: "instrumentation", 0x40: "coprocessor",
}  # fmt: skip
_SUBCLASSES = {
    0x0100: "SCSI", 0x0106: "SATA", 0x0108: "NVMe", 0x0200: "Ethernet", 0x0201: "token ring", 0x0203: "ATM",
    0x0207: "InfiniBand", 0x0208: "fabric", 0x0280: "other network", 0x0300: "VGA", 0x0600: "host bridge",
    0x0601: "ISA bridge", 0x0604: "PCI bridge", 0x0C03: "USB", 0x0C05: "SMBus", 0x0D80: "other wireless",
}  # fmt: skip
_VENDORS = {
    0x1022: "AMD", 0x1077: "Marvell (QLogic)", 0x10EC: "Realtek", 0x1137: "Cisco", 0x1425: "Chelsio",
    0x14E4: "Broadcom", 0x15AD: "VMware", 0x15B3: "NVIDIA (Mellanox)", 0x177D: "Marvell (Cavium)",
    0x1924: "AMD (Solarflare)", 0x1957: "NXP", 0x19E5: "Huawei", 0x19EE: "Netronome", 0x1AE0: "Google",
    0x1AF4: "Red Hat (virtio)", 0x1B36: "Red Hat (QEMU)", 0x1D0F: "Amazon", 0x1D6A: "Marvell (Aquantia)",
    0x1DD8: "AMD (Pensando)", 0x8086: "Intel",
}  # fmt: skip


@dataclass(frozen=True)
class PciDevice:
    """One function of a device. Unknown is ``""`` for text, -1 for numbers, 0 for counts.

    ``class_code`` has 24 bits; ``kind`` is its name. ``interfaces`` are the network interfaces behind it, ``vfs`` of
    ``max_vfs`` virtual functions are enabled, ``interrupts`` is how many MSI vectors it has now; ``link`` is speed
    and width as the kernel says them. ``iommu_group`` is what vfio needs.
    """

    address: str
    vendor: int
    device: int
    class_code: int
    kind: str
    vendor_name: str
    device_name: str
    driver: str
    node: int
    cores: tuple[int, ...]
    interfaces: tuple[str, ...]
    interrupts: int
    iommu_group: int
    vfs: int
    max_vfs: int
    link: str

    @property
    def is_network(self) -> bool:
        """Whether it is a network controller."""
        return self.class_code >> 16 == NETWORK


def devices(root: Path = sysfs.ROOT) -> tuple[PciDevice, ...]:
    """All PCI functions by address; empty on a machine without PCI."""
    base = root / "sys/bus/pci/devices"
    folders = [base / name for name in sysfs.names(base) if _ADDRESS.fullmatch(name)]
    ids = [(_hex(folder / "vendor"), _hex(folder / "device")) for folder in folders]
    names = _names(root, ids)
    return tuple(_read(folder, names) for folder in folders)


def _read(folder: Path, names: "dict[tuple[int, int], str]") -> PciDevice:
    place = folder.resolve()
    vendor, device, code = _hex(folder / "vendor"), _hex(folder / "device"), _hex(folder / "class")
    driver, group = folder / "driver", folder / "iommu_group"
    return PciDevice(
        address=folder.name,
        vendor=vendor,
        device=device,
        class_code=code,
        kind=class_name(code),
        vendor_name=names.get((vendor, -1), _VENDORS.get(vendor, "")),
        device_name=names.get((vendor, device), ""),
        driver=driver.resolve().name if driver.exists() else "",
        node=max(sysfs.number(folder / "numa_node"), -1),
        cores=_cores(folder / "local_cpulist"),
        interfaces=_interfaces(place),
        interrupts=len(sysfs.names(folder / "msi_irqs")),
        iommu_group=_decimal(group.resolve().name) if group.exists() else -1,
        vfs=max(sysfs.number(folder / "sriov_numvfs", 0), 0),
        max_vfs=max(sysfs.number(folder / "sriov_totalvfs", 0), 0),
        link=_link(folder),
    )


def class_name(code: int) -> str:
    """``0x020000`` is ``Ethernet``; the base class where the subclass has no name here, ``""`` if unknown."""
    return _SUBCLASSES.get(code >> 8, _CLASSES.get(code >> 16, "")) if code >= 0 else ""


def _interfaces(place: Path) -> tuple[str, ...]:
    """Network interfaces of the device, or of the virtio device on it."""
    folders = [place / "net", *(place / name / "net" for name in sysfs.names(place, "virtio*"))]
    return tuple(name for folder in folders for name in sysfs.names(folder))


def _link(folder: Path) -> str:
    speed, width = sysfs.text(folder / "current_link_speed"), sysfs.text(folder / "current_link_width")
    known = speed and not speed.startswith("Unknown") and width not in ("", "0")
    return f"{speed.removesuffix(' PCIe')} x{width}" if known else ""


def _names(root: Path, ids: Iterable[tuple[int, int]]) -> "dict[tuple[int, int], str]":
    """Names from pci.ids by (vendor, device), the vendor's own by (vendor, -1)."""
    wanted = set(ids)
    vendors = {vendor for vendor, _ in wanted}
    found: dict[tuple[int, int], str] = {}
    text = next(filter(None, (sysfs.text(root / name) for name in _ID_FILES)), "")
    vendor = -1
    for line in text.splitlines():
        if line[:2] == "C ":  # the list of classes: no more devices
            break
        if not line or line[0] == "#" or line.startswith("\t\t"):
            continue
        try:
            number = int(line[:5], 16)  # int() passes over the tab
        except ValueError:
            continue
        name = line.strip()[4:].strip()
        if line[0] != "\t":
            vendor = number
            if vendor in vendors:
                found[vendor, -1] = name
        elif (vendor, number) in wanted:
            found[vendor, number] = name
    return found


def _hex(path: Path) -> int:
    """A number such as ``0x8086``; -1 if it cannot be read or is none."""
    try:
        return int(sysfs.text(path), 16)
    except ValueError:
        return -1


def _decimal(text: str) -> int:
    return int(text) if text.isdecimal() else -1


def _cores(path: Path) -> tuple[int, ...]:
    try:
        return sysfs.cores(path)
    except ValueError:
        return ()
