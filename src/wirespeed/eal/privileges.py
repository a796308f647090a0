"""What this process may do: capabilities and the locked-memory limit.

Root is not the question: a container's root often lacks CAP_NET_RAW, and a service's user may have
it. So the effective set is read, by name.

    CAP_NET_RAW     AF_PACKET, AF_XDP sockets           CAP_IPC_LOCK   memory beyond the memlock limit
    CAP_NET_ADMIN   TAP, attaching XDP, link settings    CAP_SYS_NICE   real-time scheduling, others' affinity
    CAP_BPF         loading XDP programs                 CAP_PERFMON    perf counters when they are restricted

References: capabilities(7), getrlimit(2); include/uapi/linux/capability.h for the numbers.
"""

import os
import resource
from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs

CAPABILITIES = {
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYS_NICE": 23,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
UNLIMITED = -1


@dataclass(frozen=True)
class Memlock:
    """The limit on locked memory in bytes, :data:`UNLIMITED` if none; ``why_not`` if raising it failed."""

    soft_bytes: int
    hard_bytes: int
    why_not: str = ""

    def allows(self, size_bytes: int) -> bool:
        """True if this much may be locked (what is locked already counts too)."""
        return self.soft_bytes == UNLIMITED or size_bytes <= self.soft_bytes


def capabilities(root: Path = sysfs.ROOT) -> frozenset[str]:
    """Names of :data:`CAPABILITIES` that are in the effective set of this process."""
    for line in sysfs.text(root / "proc/self/status").splitlines():
        if line.startswith("CapEff:"):
            mask = int(line.split()[1], 16)
            return frozenset(name for name, bit in CAPABILITIES.items() if mask >> bit & 1)
    return frozenset()


def is_root() -> bool:
    """True if the effective user is root (which, in a container, may not mean much)."""
    return os.geteuid() == 0


def memlock() -> Memlock:
    """The limit on locked memory now."""
    soft, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return Memlock(soft, hard)


def raise_memlock() -> Memlock:
    """Lift the limit on locked memory as far as allowed: none at all if privileged, else to the hard limit.

    Kernels before 5.11 charge BPF maps and AF_XDP rings to it. Never raises; says why in ``why_not``.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        return memlock()
    except (OSError, ValueError) as error:
        _, hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (hard, hard))
        limit = memlock()
        return Memlock(
            limit.soft_bytes,
            limit.hard_bytes,
            f"raised to the hard limit only ({error}): run with CAP_SYS_RESOURCE, or set "
            "LimitMEMLOCK=infinity (systemd) or 'memlock unlimited' in /etc/security/limits.conf",
        )
