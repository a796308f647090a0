"""wirespeed devices: network interfaces and PCI devices, and the port that opens each.

An interface of the kernel, physical or virtual, is opened by ``af_packet:NAME``; the kernel's driver keeps it. PCI
devices other than network controllers are listed with ``--all``.
"""

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, Group
from rich.table import Table

from wirespeed.eal import nics, pci, sysfs
from wirespeed.errors import WirespeedError
from wirespeed.ports.options import nearest

_ETHERNET = 1  # ARPHRD_ETHER, include/uapi/linux/if_arp.h
_LOOPBACK = 772


@dataclass(frozen=True)
class Interface:
    """An interface and how a graph opens it; ``port`` is empty if none can, ``why_not`` says why."""

    nic: nics.Nic
    port: str
    why_not: str


def command(
    name: Annotated[str | None, typer.Argument(help="An interface or a PCI address; all of them without it.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print what is found as JSON, for programs.")] = False,
    everything: Annotated[bool, typer.Option("--all", help="All PCI devices, not only network ones.")] = False,
) -> None:
    """List network interfaces and PCI devices: driver, queues, memory node, and the port that opens each."""
    interfaces = [openable(nic) for nic in nics.interfaces()]
    devices = [device for device in pci.devices() if everything or device.is_network or name is not None]
    if name is not None:
        interfaces, devices = select(name, interfaces, devices)
    if json:
        found = {"interfaces": [_flat(each) for each in interfaces], "pci": devices}
        typer.echo(msgspec.json.format(msgspec.json.encode(found), indent=2).decode())
        return
    Console(highlight=False).print(render(interfaces, devices))


def openable(nic: nics.Nic, root: Any = sysfs.ROOT) -> Interface:
    """Which port opens an interface."""
    kind = sysfs.number(root / f"sys/class/net/{nic.name}/type", _ETHERNET)
    if kind not in (_ETHERNET, _LOOPBACK):
        return Interface(nic, "", f"carries no Ethernet frames (link type {kind})")
    down = "" if nic.state in ("up", "unknown") else f"{nic.state}: ip link set {nic.name} up"
    return Interface(nic, f"af_packet:{nic.name}", down)


def select(
    name: str, interfaces: list[Interface], devices: list[pci.PciDevice]
) -> tuple[list[Interface], list[pci.PciDevice]]:
    """The interface or PCI device called ``name``, and what belongs to it; a PCI domain of 0000 may be left out.

    Raises:
        WirespeedError: there is none.
    """
    address = f"0000:{name}" if name.count(":") == 1 else name
    behind = [device for device in devices if device.address == address.lower() or name in device.interfaces]
    names = {interface for device in behind for interface in device.interfaces}
    shown = [each for each in interfaces if each.nic.name == name]
    shown = shown or [each for each in interfaces if each.nic.name in names]
    if not shown and not behind:
        known = [each.nic.name for each in interfaces] + [device.address for device in devices]
        hint = nearest(name, known) if known else "this machine has none"
        raise WirespeedError(f"there is no interface or PCI device {name!r}; {hint}")
    return shown, behind


def render(interfaces: list[Interface], devices: list[pci.PciDevice]) -> Group:
    """Both as tables."""
    parts: list[Any] = []
    first = Table(title="interfaces", title_justify="left", box=None, padding=(0, 1))
    for heading in ("name", "port", "driver", "state"):
        first.add_column(heading, no_wrap=True)
    for heading in ("speed", "MTU", "queues", "node"):
        first.add_column(heading)
    for nic, opened in ((each.nic, each.port) for each in interfaces):
        queues = f"{nic.rx_queues}/{nic.tx_queues}" + (f" of {nic.max_queues}" if nic.max_queues else "")
        speed = f"{nic.speed_mbps / 1000:g} Gb/s" if nic.speed_mbps > 0 else "-"
        driver = nic.driver or ("virtual" if nic.virtual else "-")
        first.add_row(
            _plain(nic.name), _plain(opened or "-"), driver, nic.state, speed, str(nic.mtu), queues, _number(nic.node)
        )
    parts.append(first if interfaces else "no interfaces")
    parts += [f"[yellow]{_plain(f'{each.nic.name}: {each.why_not}')}[/]" for each in interfaces if each.why_not]
    second = Table(title="PCI", title_justify="left", box=None, padding=(0, 1))
    for heading in ("address", "kind", "driver", "interfaces"):
        second.add_column(heading, no_wrap=True)
    for heading in ("node", "link", "VFs", "what it is"):
        second.add_column(heading, overflow="fold")
    for device in devices:
        vendor = device.vendor_name or _id(device.vendor)
        second.add_row(
            device.address, device.kind or "-", device.driver or "-", _plain(", ".join(device.interfaces)) or "-",
            _number(device.node), device.link or "-", f"{device.vfs}/{device.max_vfs}" if device.max_vfs else "-",
            _plain(f"{vendor} {device.device_name or _id(device.device)}"),
        )  # fmt: skip
    return Group(*parts, "", second) if devices else Group(*parts)


def _flat(each: Interface) -> dict[str, Any]:
    """One object an interface."""
    return {**msgspec.to_builtins(each.nic), "port": each.port, "why_not": each.why_not}


def _number(number: int) -> str:
    return str(number) if number >= 0 else "-"


def _id(number: int) -> str:
    return f"{number:04x}" if number >= 0 else "-"


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")
