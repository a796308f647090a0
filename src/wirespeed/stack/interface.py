"""An interface: which addresses are ours on a link, which groups we are in, and where packets go from here.

Control code sets it, every worker reads it (:mod:`wirespeed.stack.interface_view` has the layout): a change is
written into the half that does not count, and shown whole, by one store.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import TableError
from wirespeed.jit import load64, signed64, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.stack.interface_settings import MTU_MAX, MTU_MIN, Settings
from wirespeed.stack.interface_view import (
    GROUPS4,
    GROUPS6,
    HALF,
    HEAD,
    MAX_ADDRESSES,
    MAX_GROUPS,
    MAX_ROUTES,
    NO_VLAN,
    OWN4,
    OWN6,
    ROUTE6,
    ROUTES4,
    ROUTES6,
    Half,
    InterfaceView,
)
from wirespeed.tables.reclaimer import Reclaimer
from wirespeed.wire.ethernet import mac_text


@dataclass
class _Writer:
    """Words that go into a half."""

    at: int

    def put(self, offset: int, *values: int) -> None:
        for index, value in enumerate(values):
            store64(self.at + offset + 8 * index, signed64(value))


def _pair(address: Any) -> tuple[int, int]:
    number = int(address)
    return number >> 64, number & (1 << 64) - 1


class Interface:
    """An interface of a host; nodes read it while :meth:`set` changes it.

    Args:
        settings: what it is to begin with.
        name: what errors call it.
    """

    View = InterfaceView

    def __init__(self, settings: Settings | None = None, name: str = "interface") -> None:
        self.name = name
        self.reclaimer: Reclaimer | None = None
        self._region = Region(InterfaceView.SIZE, f"wirespeed-{name}", huge=False)
        self.address = self._region.address
        self._view = InterfaceView(self.address)
        self.settings = Settings()
        self.set(settings or self.settings)

    def set(self, settings: Settings) -> None:
        """Be this from now on: workers see the old settings or the new ones, whole.

        Raises:
            TableError: more entries than fit, or an address that cannot be one's own. Nothing is changed then.
        """
        self._check(settings)
        if self.reclaimer is not None:
            self.reclaimer.synchronize()  # nobody reads the half that does not count
        spare = HEAD if load64(self.address) != HEAD else HEAD + HALF
        self._write(self.address + spare, settings)
        store_release(self.address, spare)
        self._view.generation += 1  # after it: who remembers what the old half said remembers it under the old number
        self.settings = settings

    def _check(self, settings: Settings) -> None:
        if not 0 <= settings.mac < 1 << 48:
            raise TableError(f"{self.name}: {settings.mac:#x} is no Ethernet address: it has 48 bits")
        if settings.vlan is not None and not 1 <= settings.vlan <= 4094:
            raise TableError(f"{self.name}: VLAN {settings.vlan} must be 1 to 4094")
        if not MTU_MIN <= settings.mtu <= MTU_MAX:
            raise TableError(f"{self.name}: an MTU of {settings.mtu} bytes must be {MTU_MIN} to {MTU_MAX}")
        for each in settings.addresses:
            if each.ip.is_multicast or each.ip.is_unspecified or (each.version == 4 and int(each.ip) >> 28 == 15):
                raise TableError(f"{self.name}: {each.ip} cannot be a host's own address")
        for version in (4, 6):
            own = len(settings.of(version)) + (len(settings.local) if version == 4 else 0)
            for what, count, limit in (
                ("addresses", own, MAX_ADDRESSES),
                ("groups", len(settings.all_groups(version)), MAX_GROUPS),
                ("routes", len(settings.all_routes(version)), MAX_ROUTES),
            ):
                if count > limit:
                    raise TableError(f"{self.name}: {count} IPv{version} {what} are too many: at most {limit}")
        for route in settings.routes:
            if route.gateway is not None and route.gateway.version != route.network.version:
                raise TableError(f"{self.name}: the way to {route.network} cannot be {route.gateway}")

    def _write(self, at: int, settings: Settings) -> None:
        half, writer = Half(at), _Writer(at)
        half.mac = settings.mac
        half.frame_mac = int.from_bytes(settings.mac.to_bytes(6, "big"), "little")
        half.untagged_mac = half.frame_mac if settings.vlan is None else -1
        half.mtu = settings.mtu
        half.vlan = NO_VLAN if settings.vlan is None else settings.vlan
        own4 = [(int(each.ip), 0xFFFF_FFFF) for each in settings.of(4)]
        half.address4 = own4[0][0] if own4 else 0
        own4 += [(int(each.network_address), int(each.netmask)) for each in settings.local]
        half.first4, half.mask4 = own4[0] if own4 else (-1, 0)
        own6 = [_pair(each.ip) for each in settings.of(6)]
        half.high6, half.low6 = map(signed64, own6[0]) if own6 else (0, 0)
        half.own4 = self._list(writer, OWN4, 16, own4)
        half.own6 = self._list(writer, OWN6, 16, own6)
        half.groups4 = self._list(writer, GROUPS4, 8, [(int(each),) for each in settings.all_groups(4)])
        half.groups6 = self._list(writer, GROUPS6, 16, [_pair(each) for each in settings.all_groups(6)])
        routes4 = [
            (int(r.network.network_address), int(r.network.netmask), int(r.gateway or 0), r.mtu)
            for r in settings.all_routes(4)
        ]
        half.routes4 = self._list(writer, ROUTES4, 32, routes4)
        routes6 = [
            (*_pair(r.network.network_address), *_pair(r.network.netmask), *_pair(r.gateway or 0), r.mtu)
            for r in settings.all_routes(6)
        ]
        half.routes6 = self._list(writer, ROUTES6, ROUTE6, routes6)

    @staticmethod
    def _list(writer: _Writer, offset: int, size: int, entries: Iterable[tuple[int, ...]]) -> int:
        count = 0
        for entry in entries:
            writer.put(offset + count * size, *entry)
            count += 1
        return count

    # What nodes call, for traces and control code -----------------------------------------------------------

    @property
    def mac(self) -> int:
        """See :attr:`InterfaceView.mac`."""
        return int(self._view.mac)

    @property
    def frame_mac(self) -> int:
        """See :attr:`InterfaceView.frame_mac`."""
        return int(self._view.frame_mac)

    @property
    def vlan(self) -> int:
        """See :attr:`InterfaceView.vlan`."""
        return int(self._view.vlan)

    @property
    def address4(self) -> int:
        """See :attr:`InterfaceView.address4`."""
        return int(self._view.address4)

    @property
    def address6(self) -> tuple[int, int]:
        """See :attr:`InterfaceView.address6`."""
        return self._view.address6

    @property
    def untagged_mac(self) -> int:
        """See :attr:`InterfaceView.untagged_mac`."""
        return int(self._view.untagged_mac)

    @property
    def generation(self) -> int:
        """See :attr:`InterfaceView.generation`."""
        return int(self._view.generation)

    def is_first4(self, address: int) -> int:
        """See :meth:`InterfaceView.is_first4`."""
        return int(self._view.is_first4(address))

    def owns4(self, address: int) -> int:
        """See :meth:`InterfaceView.owns4`."""
        return int(self._view.owns4(address))

    def owns6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.owns6`."""
        return int(self._view.owns6(high, low))

    def in_group4(self, address: int) -> int:
        """See :meth:`InterfaceView.in_group4`."""
        return int(self._view.in_group4(address))

    def in_group6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.in_group6`."""
        return int(self._view.in_group6(high, low))

    def route4(self, address: int) -> int:
        """See :meth:`InterfaceView.route4`."""
        return int(self._view.route4(address))

    def route6(self, high: int, low: int) -> tuple[int, int]:
        """See :meth:`InterfaceView.route6`."""
        return self._view.route6(high, low)

    def mtu4(self, address: int) -> int:
        """See :meth:`InterfaceView.mtu4`."""
        return int(self._view.mtu4(address))

    def mtu6(self, high: int, low: int) -> int:
        """See :meth:`InterfaceView.mtu6`."""
        return int(self._view.mtu6(high, low))

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self._region.close()

    def __repr__(self) -> str:
        said = ", ".join(map(str, self.settings.addresses)) or "no address"
        return f"<{self.name}: {mac_text(self.settings.mac)}, {said}>"
