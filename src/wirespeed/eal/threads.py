"""Does a thread still run? For those who find its number in shared memory.

/proc/PID/task/TID/stat has the state after the name, which may itself have brackets: ``Z`` is a process that was
killed and that its parent has not waited for, ``X`` one that is about to vanish (proc(5)).
"""

from pathlib import Path

from wirespeed.eal import sysfs


def alive(pid: int, tid: int, root: Path = sysfs.ROOT) -> bool:
    """Whether thread ``tid`` of process ``pid`` (both as this PID namespace numbers them) still runs."""
    state = sysfs.text(root / f"proc/{pid}/task/{tid}/stat").rpartition(")")[2].split()
    return bool(state) and state[0] not in ("Z", "X", "x")
