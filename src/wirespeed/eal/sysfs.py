"""The one-value files of /sys and /proc.

The kernel answers most questions about a machine in small text files. A file that is absent,
empty or refuses to be read (a VM's NIC has no ``speed``: EINVAL) means "not known", never an
error, so these readers return a default and let the caller decide.

Every reader in ``eal`` takes ``root``, the directory that stands for ``/``: a test lays out the
tree of a machine we do not own (four NUMA nodes, isolated cores) and reads that.

References: Documentation/admin-guide/cputopology.rst ("cpulist" format: ``0-3,8,10-14:2``).
"""

from pathlib import Path

ROOT = Path("/")


def text(path: Path, default: str = "") -> str:
    """The file's content without surrounding white space, or ``default`` if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip("\0 \t\r\n")
    except OSError:
        return default


def number(path: Path, default: int = -1) -> int:
    """The file's content as a decimal integer, or ``default`` if it cannot be read or is not one."""
    try:
        return int(text(path))
    except ValueError:
        return default


def names(path: Path, pattern: str = "*") -> list[str]:
    """Sorted names of the directory's entries that match ``pattern``; empty if it is absent."""
    try:
        return sorted(entry.name for entry in path.glob(pattern))
    except OSError:
        return []


def chosen(path: Path) -> str:
    """The bracketed word of a selector file: ``always [madvise] never`` gives ``madvise``; else ``""``."""
    words = text(path).split()
    return next((word[1:-1] for word in words if word.startswith("[") and word.endswith("]")), "")


def cpulist(listing: str) -> tuple[int, ...]:
    """Sorted core numbers of a kernel list: ``0-2,8`` is ``(0, 1, 2, 8)``; ``0-6:2/4`` groups are understood.

    Raises:
        ValueError: the text is not a list of the kernel's making.
    """
    found: set[int] = set()
    for part in listing.replace("(null)", "").split(","):
        if not part.strip():
            continue
        span, _, group = part.strip().partition(":")
        first, _, last = span.partition("-")
        low, high = int(first), int(last or first)
        used, _, period = group.partition("/")  # "0-15:2/4": the first two of every four
        width, step = (int(used), int(period)) if period else (1, int(used or 1))
        found.update(core for core in range(low, high + 1) if (core - low) % step < width)
    return tuple(sorted(found))


def cores(path: Path) -> tuple[int, ...]:
    """The core list in a file; empty if the file cannot be read."""
    return cpulist(text(path))


def ranges(numbers: tuple[int, ...]) -> str:
    """The inverse of :func:`cpulist`, for messages: ``(0, 1, 2, 8)`` is ``0-2,8``; nothing is ``none``."""
    spans: list[list[int]] = []
    for value in sorted(numbers):
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in spans) or "none"


def bytes_text(size: int) -> str:
    """A size for people, in binary units: 2097152 is ``2 MiB``, 1610612736 is ``1.5 GiB``."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"
