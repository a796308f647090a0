"""Links: the Ethernet addresses of neighbours, as workers look them up.

Control code fills the tables: :mod:`wirespeed.stack.neighbours` decides what is in them. A value is an address, its
bytes as they stand in a frame.
"""

import numpy as np

from wirespeed.jit import be64
from wirespeed.stack.path_mtu import PathMtus
from wirespeed.stack.paths import Paths
from wirespeed.tables.hash import HashTable
from wirespeed.tables.keys import Key

UNKNOWN: int = -1
"""No such neighbour."""


class Address6(Key):
    """An IPv6 address in halves."""

    high = be64(0)
    low = be64(8)


class Links:
    """The neighbours of one interface.

    Args:
        limit: of each IP version.
    """

    def __init__(self, limit: int = 1024) -> None:
        self.four = HashTable(np.uint32, limit)
        self.six = HashTable(Address6, limit)
        self.paths = Paths()
        self.mtus = PathMtus(Address6, self.paths, limit)

    def install(self, address: int, version: int, mac: int) -> None:
        """The neighbour ``address`` is at ``mac``, both integers, from now on."""
        value = int.from_bytes(mac.to_bytes(6, "big"), "little")
        table, key = (self.four, address) if version == 4 else (self.six, address.to_bytes(16, "big"))
        if table.get(key) == value:
            return  # known: workers forget no path for it
        table[key] = value
        self.paths.forget()

    def withdraw(self, address: int, version: int) -> None:
        """Nobody knows any more where ``address`` is."""
        if version == 4:
            self.four.delete(address)
        else:
            self.six.delete(address.to_bytes(16, "big"))
        self.paths.forget()

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self.four.close()
        self.six.close()
        self.mtus.close()
        self.paths.close()
