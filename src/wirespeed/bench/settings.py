"""What a bench is told: which peer, how long, and where its inputs are."""

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Settings:
    """Settings of one ``wirespeed bench``.

    Attributes:
        peer: ``dpdk`` or None.
        quick: only see that it works.
        pairs: pairs of runs; medians are reported.
        captures, routes: where inputs are; None looks beside the project (``../shared/data``).
        driver: of the port bench: which one; None is all.
        notes: what to say after the table.
    """

    peer: str | None = None
    quick: bool = False
    pairs: int = 5
    captures: str | None = None
    routes: str | None = None
    driver: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> float:
        """How long one measurement takes."""
        return 0.1 if self.quick else 0.6

    def routing_table(self) -> Path | None:
        """The full Internet table, or None if it is not here."""
        if self.routes:
            return Path(self.routes)
        found = sorted(Path("../shared/data/routes").glob("internet-*.txt.gz"))
        return found[-1] if found else None

    def capture_folder(self) -> Path | None:
        """The sample captures, or None if they are not here."""
        folder = Path(self.captures) if self.captures else Path("../shared/data/captures")
        return folder if folder.is_dir() else None
