"""The ports of running engines, as other processes can see them: what each engine wrote down of them, and how fast."""

import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from wirespeed.engine.status import PortsStatus
from wirespeed.errors import WirespeedError
from wirespeed.mem import directory

_BEHIND = ".ports"


@dataclass(frozen=True)
class EnginePorts:
    """One engine's ports.

    Attributes:
        name, pid: the engine's.
        alive: its process still runs.
        age_s: how long ago the engine said this.
        ports: as :func:`wirespeed.engine.status.describe` says them, with ``rx_rate`` and ``tx_rate``, packets a second
            since the look before (None at the first).
        fault: why nothing can be read; empty if it could.
    """

    name: str
    pid: int
    alive: bool
    age_s: float
    ports: list[dict[str, Any]] = field(default_factory=list)
    fault: str = ""


class PortsWatch:
    """Engines that said their ports, from look to look.

    Args:
        name: only of the engine of that name.
        pid: only of this process.
    """

    def __init__(self, name: str | None = None, pid: int | None = None) -> None:
        self._name, self._pid = name, pid
        self._held: dict[tuple[int, str, int], PortsStatus] = {}
        self._last: dict[tuple[int, str, int], tuple[float, list[dict[str, Any]]]] = {}

    def look(self) -> list[EnginePorts]:
        """The state now, by process and name. Engines without a name do not say anything."""
        found = []
        listed = set()
        for entry in directory.entries():
            name = entry.name.removesuffix(_BEHIND)
            if entry.kind != PortsStatus.KIND or self._name not in (None, name) or self._pid not in (None, entry.pid):
                continue
            key = (entry.pid, entry.name, entry.inode)
            listed.add(key)
            try:
                if key not in self._held:
                    self._held[key] = PortsStatus.attach(entry.name, entry.pid)
                age_s, ports = self._held[key].read()
                self._rate(key, time.monotonic() - age_s, ports)
                found.append(EnginePorts(name, entry.pid, self._held[key].alive, age_s, ports))
            except WirespeedError as error:
                found.append(EnginePorts(name, entry.pid, True, 0.0, fault=str(error)))
        for key in [key for key in self._held if key not in listed]:
            self._held.pop(key).close()
            self._last.pop(key, None)
        return found

    def _rate(self, key: tuple[int, str, int], said_s: float, ports: list[dict[str, Any]]) -> None:
        """Packets a second between what was said before and now."""
        before_s, before = self._last.get(key, (said_s, []))
        known = {port["number"]: port for port in before}
        for port in ports:
            old = known.get(port["number"])
            seconds = said_s - before_s
            for way in ("rx", "tx"):
                rate = None
                if old is not None and seconds > 0.01:
                    rate = (port["stats"][f"{way}_packets"] - old["stats"][f"{way}_packets"]) / seconds
                elif old is not None:
                    rate = old.get(f"{way}_rate")
                port[f"{way}_rate"] = rate
        if not before or said_s - before_s > 0.01:
            self._last[key] = (said_s, ports)

    def close(self) -> None:
        """Let go of everything."""
        while self._held:
            self._held.popitem()[1].close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


__all__ = ["EnginePorts", "PortsWatch"]
