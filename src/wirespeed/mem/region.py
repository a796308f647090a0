"""A region: shared memory with a name, on the best pages there are.

Every table, counter block and packet pool lives in one. It is a memfd (huge pages if the machine has
them, normal pages if not), so that another process can map the very same bytes; and it is registered with
:mod:`wirespeed.jit`, so that interpreted code may touch it and nothing around it.
"""

import os
from types import TracebackType

from wirespeed.eal.hugepages import map_shared
from wirespeed.jit import register, unregister

WANTED: bool = os.environ.get("WIRESPEED_HUGE") != "0"
"""Whether huge pages are asked for at all."""


class Region:
    """``size`` bytes of zeros called ``name``, until :meth:`close`.

    Args:
        size: bytes; rounded up to whole pages.
        name: shown in /proc/self/maps.
        huge: whether to ask for huge pages; a few kilobytes are better off without. With ``WIRESPEED_HUGE=0`` in the
            environment nobody does: what they gain is measured so.
        populate: take normal pages now, so that the first packet does not pay for them.

    Raises:
        ArenaError: there is not that much memory.
    """

    def __init__(self, size: int, name: str, huge: bool = True, populate: bool = True) -> None:
        self._mapping = map_shared(size, name, prefer=("1G", "2M") if huge and WANTED else (), populate=populate)
        self.name = name
        self.address = self._mapping.address
        self.size = self._mapping.size
        self.fd = self._mapping.fd
        self.kind = self._mapping.kind
        self.why_not = self._mapping.why_not
        register(self.address, self.size, name)

    def close(self) -> None:
        """Unmap. No worker may use the memory any more; a second call does nothing."""
        if self.fd >= 0:
            unregister(self.address)
            self._mapping.close()
            self.fd = -1

    def __enter__(self) -> "Region":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Region {self.name}: {self.size} bytes of {self.kind} memory at {self.address:#x}>"
