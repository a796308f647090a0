"""Path MTU: the largest packet that reaches each address, as routers told us (RFC 1191, RFC 8201).

::

    "too big" from a router ──believed?──▶ entry, ten minutes ──▶ workers cut longer packets (stack/output.py)
                                              full: the oldest goes

Anybody can send "too big". What is believed quotes a packet that we can have sent (whoever calls looks at that), longer
than what it says fits, and says less than we know; never less than what every path carries, so that nobody makes us
send a flood of crumbs: 1280 bytes in IPv6 (RFC 8201 section 4), 552 in IPv4 (as Linux: RFC 1191 section 3 allows 68, no
link of today has less than 576). Changes are limited in rate, for each makes workers forget what they know of paths.
"""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import numpy as np

from wirespeed.stack.bucket import Bucket
from wirespeed.stack.paths import Paths
from wirespeed.tables.hash import HashTable

MIN4: int = 552
MIN6: int = 1280
AGE_S: float = 600.0
"""RFC 1191 section 6.3, RFC 8201 section 4: ten minutes, then more is tried."""
PLATEAUS: tuple[int, ...] = (65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68)
"""RFC 1191 section 7: what to try next below, where a router does not say what fits."""


@dataclass(slots=True)
class PathMtuStats:
    """What was told."""

    lowered: int = 0
    ignored: int = 0
    evicted: int = 0
    expired: int = 0


class PathMtus:
    """The table.

    Args:
        key6: kind of the keys of IPv6.
        paths: what workers remember of paths, and have to forget.
        limit: entries of each version.
        per_second: changes believed.
    """

    def __init__(self, key6: Any, paths: Paths, limit: int = 1024, per_second: int = 50) -> None:
        self.four = HashTable(np.uint32, limit)
        self.six = HashTable(key6, limit)
        self.limit = limit
        self.stats = PathMtuStats()
        self._paths = paths
        self._bucket = Bucket(per_second, per_second)
        self._until: dict[int, OrderedDict[int, float]] = {4: OrderedDict(), 6: OrderedDict()}

    def __len__(self) -> int:
        return sum(len(each) for each in self._until.values())

    def get(self, address: int, version: int) -> int:
        """What is known of that address; 0: nothing."""
        if address not in self._until[version]:
            return 0
        return int(self.four[address] if version == 4 else self.six[address.to_bytes(16, "big")])

    def lower(self, address: int, version: int, said: int, length: int, now_s: float) -> bool:
        """A router said that a packet of ``length`` bytes to ``address`` was too big, and that ``said`` bytes fit.

        Args:
            said: 0: it did not say (RFC 1191 section 5).

        Returns:
            Whether it was believed.
        """
        least = MIN4 if version == 4 else MIN6
        if version == 4 and said == 0:
            said = next(each for each in PLATEAUS if each < max(length, 69))
        fits = max(said, least)
        known = self.get(address, version)
        if said >= length or length <= least or (known and known <= fits) or not self._bucket.take(now_s):
            self.stats.ignored += 1
            return False
        until = self._until[version]
        if address not in until and len(until) >= self.limit:
            self._forget(next(iter(until)), version)
            self.stats.evicted += 1
        until[address] = now_s + AGE_S
        until.move_to_end(address)
        if version == 4:
            self.four[address] = fits
        else:
            self.six[address.to_bytes(16, "big")] = fits
        self._paths.forget()
        self.stats.lowered += 1
        return True

    def expire(self, now_s: float) -> None:
        """Forget what is old: the path may be another now. Entries are in the order of their times."""
        for version, until in self._until.items():
            while until and next(iter(until.values())) <= now_s:
                self._forget(next(iter(until)), version)
                self.stats.expired += 1

    def _forget(self, address: int, version: int) -> None:
        del self._until[version][address]
        if version == 4:
            self.four.delete(address)
        else:
            self.six.delete(address.to_bytes(16, "big"))
        self._paths.forget()

    def close(self) -> None:
        """Give the memory back; no graph may run with it."""
        self.four.close()
        self.six.close()


__all__ = ["AGE_S", "MIN4", "MIN6", "PLATEAUS", "PathMtuStats", "PathMtus"]
