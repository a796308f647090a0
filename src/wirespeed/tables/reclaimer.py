"""What a table needs to know about its readers: when they have let go.

Tables do not wait for workers themselves; the engine gives them a :class:`wirespeed.sync.rcu.Grace`.
"""

from collections.abc import Callable
from typing import Protocol


class Reclaimer(Protocol):
    """Who knows when workers have let go: :class:`wirespeed.sync.rcu.Grace`."""

    def defer(self, action: Callable[[], None]) -> None:
        """Run ``action`` after a grace period."""

    def synchronize(self) -> None:
        """Wait for a grace period and run what was deferred."""
