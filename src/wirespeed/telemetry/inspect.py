"""What running processes have that can be attached, and what each object says of itself now."""

import contextlib
import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from wirespeed.errors import WirespeedError
from wirespeed.mem import directory
from wirespeed.mem.shared import Shared, class_of


@dataclass(frozen=True)
class Found:
    """One object: where it is listed, what it says, and whether its process still runs.

    ``stats`` is empty and ``fault`` says why when the object cannot be read from here.
    """

    entry: directory.Entry
    command: str
    alive: bool
    stats: dict[str, Any]
    fault: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Everything, as plain values for JSON."""
        entry = self.entry
        said = {"name": entry.name, "kind": entry.kind, "layout": entry.version, "pid": entry.pid, "alive": self.alive}
        where = {"command": self.command, "memory_bytes": entry.size, "pages": entry.pages}
        return {**said, **where, "stats": self.stats, "fault": self.fault}


class Inspection:
    """Everything that can be attached, kept attached from look to look: what was seen once stays readable after its
    process has died, and is shown as such.

    Args:
        name: only what is called so, or begins with ``name.``.
        pid: only of this process.
    """

    def __init__(self, name: str | None = None, pid: int | None = None) -> None:
        self._name, self._pid = name, pid
        self._held: dict[tuple[int, str, int], tuple[directory.Entry, str, Shared | None, str]] = {}

    def look(self) -> list[Found]:
        """The state now, by process and name."""
        listed = set()
        for entry in directory.entries():
            if self._wanted(entry):
                key = (entry.pid, entry.name, entry.inode)
                listed.add(key)
                if key not in self._held:
                    self._held[key] = (entry, _command(entry.pid), *_attached(entry))
        for key in [key for key in self._held if key not in listed]:
            thing = self._held[key][2]
            if thing is None or thing.alive:  # closed by its process, which goes on
                self._drop(key)
        return [_found(*held) for _, held in sorted(self._held.items())]

    def close(self) -> None:
        """Let go of everything."""
        for key in list(self._held):
            self._drop(key)

    def _wanted(self, entry: directory.Entry) -> bool:
        named = self._name is None or entry.name == self._name or entry.name.startswith(f"{self._name}.")
        return named and self._pid in (None, entry.pid)

    def _drop(self, key: tuple[int, str, int]) -> None:
        thing = self._held.pop(key)[2]
        if thing is not None:
            thing.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def figures(stats: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The figures of ``stats()`` by dotted name, deep ones too; where the memory lies is left out."""
    for name, value in stats.items():
        if isinstance(value, dict):
            yield from figures(value, f"{prefix}{name}.")
        elif prefix or name not in ("memory_bytes", "pages", "name", "kind"):
            yield f"{prefix}{name}", value


def _attached(entry: directory.Entry) -> tuple[Shared | None, str]:
    try:
        return class_of(entry).attach(entry.name, entry.pid), ""
    except WirespeedError as error:
        return None, str(error)


def _found(entry: directory.Entry, command: str, thing: Shared | None, fault: str) -> Found:
    stats: dict[str, Any] = {}
    ask = getattr(thing, "stats", None)
    if ask is not None:
        try:
            said = ask()
            stats = dataclasses.asdict(said) if dataclasses.is_dataclass(said) else {}  # type: ignore[arg-type]
        except WirespeedError as error:
            fault = str(error)
        except Exception as error:  # its owner may change it meanwhile
            fault = f"{type(error).__name__}: {error}"
    return Found(entry, command, thing is not None and thing.alive, stats, fault)


def _command(pid: int) -> str:
    """The command line of a process, short; empty if it cannot be read."""
    words: list[str] = []
    with contextlib.suppress(OSError):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return " ".join([Path(words[0]).name, *words[1:]]).strip()[:60] if words else ""
