"""A station: the Ethernet address a port answers to, known once the port is open and read by nodes by reference.

So the compiled graph is the same whatever the address is, and comes from the cache at the next start.
"""

from wirespeed.errors import TableError
from wirespeed.jit import View, le64
from wirespeed.mem.region import Region


class StationView(View):
    """The record as nodes see it."""

    mac = le64(0, "the address, as an integer")
    SIZE = 64


class Station:
    """One address that may be set while workers run."""

    View = StationView

    def __init__(self, mac: int = 0) -> None:
        self._region = Region(StationView.SIZE, "wirespeed-station", huge=False)
        self.address = self._region.address
        self.mac = mac

    @property
    def mac(self) -> int:
        """The address, as an integer."""
        return int(StationView(self.address).mac)

    @mac.setter
    def mac(self, value: int) -> None:
        if not 0 <= value < 1 << 48:
            raise TableError(f"{value:#x} is no Ethernet address: it has 48 bits")
        StationView(self.address).mac = value

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self._region.close()
