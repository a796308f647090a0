"""wirespeed devices: network interfaces and PCI devices, and the ports that open each.

An interface of the kernel, physical or virtual, keeps the kernel's driver. ``af_xdp:NAME`` takes packets around the
kernel, best where the driver runs XDP programs by itself (native) and lets them stay where they are (zero copy);
``af_packet:NAME`` copies them, and works on any. PCI devices other than network controllers are listed with ``--all``.
"""

from dataclasses import dataclass
from importlib.util import find_spec
from typing import Annotated, Any

import msgspec
import typer
from rich.console import Console, Group
from rich.table import Table

from wirespeed.eal import nics, pci, privileges, sysfs
from wirespeed.eal.xdp_features import XdpFeatures, xdp_features
from wirespeed.errors import WirespeedError
from wirespeed.ports.options import nearest

_ETHERNET = 1  # ARPHRD_ETHER, include/uapi/linux/if_arp.h
_LOOPBACK = 772


@dataclass(frozen=True)
class Way:
    """A port that opens an interface: how well it does, and which capabilities this process lacks for it."""

    port: str
    how: str
    lacks: tuple[str, ...] = ()


@dataclass(frozen=True)
class Interface:
    """An interface and how a graph opens it; ``port`` is empty if none can, ``why_not`` says why."""

    nic: nics.Nic
    port: str
    why_not: str
    ways: tuple[Way, ...] = ()


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
    """Which ports open an interface, the best one first."""
    kind = sysfs.number(root / f"sys/class/net/{nic.name}/type", _ETHERNET)
    if kind not in (_ETHERNET, _LOOPBACK):
        return Interface(nic, "", f"carries no Ethernet frames (link type {kind})")
    down = "" if nic.state in ("up", "unknown") else f"{nic.state}: ip link set {nic.name} up"
    found = ways(nic)
    return Interface(nic, found[0].port, down, found)


def ways(nic: nics.Nic) -> tuple[Way, ...]:
    """The ports that open an interface of the kernel, the fastest first."""
    found = []
    have = privileges.capabilities()
    if find_spec("wirespeed.ports.af_xdp.port") and nic.name != "lo":  # found, not imported: that would take a second
        try:
            able = xdp_features(nic.name)
        except OSError:  # gone meanwhile
            able = XdpFeatures.NONE
        how = "as the driver can" if able is None else "generic, with a copy"
        if able is not None and XdpFeatures.BASIC in able:
            how = "native, zero copy" if XdpFeatures.ZERO_COPY in able else "native, with a copy"
        found.append(Way(f"af_xdp:{nic.name}", how, _lacking(have, "CAP_NET_ADMIN", "CAP_BPF", "CAP_NET_RAW")))
    found.append(Way(f"af_packet:{nic.name}", "a copy, beside the kernel", _lacking(have, "CAP_NET_RAW")))
    return tuple(found)


def _lacking(have: frozenset[str], *wanted: str) -> tuple[str, ...]:
    implied = {"CAP_BPF"} if "CAP_SYS_ADMIN" in have else set()
    return tuple(name for name in wanted if name not in have | implied)


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
    for each in interfaces:
        said = [f"{way.port} ({way.how}{', lacks ' + ', '.join(way.lacks) if way.lacks else ''})" for way in each.ways]
        parts += [f"[dim]{_plain(each.nic.name)}: {_plain('; '.join(said))}[/]"] if said else []
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
    ways = [msgspec.to_builtins(way) for way in each.ways]
    return {**msgspec.to_builtins(each.nic), "port": each.port, "why_not": each.why_not, "ports": ways}


def _number(number: int) -> str:
    return str(number) if number >= 0 else "-"


def _id(number: int) -> str:
    return f"{number:04x}" if number >= 0 else "-"


def _plain(text: str) -> str:
    """Square brackets are markup to rich."""
    return text.replace("[", "\\[")
