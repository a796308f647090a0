"""The CPU: model, instruction sets, caches, hypervisor, frequency governor.

The compiler asks the CPU itself what it can do; this file is for people (``wirespeed doctor``, the
header of a benchmark) and for choices of size (a table that should stay in L2). Flag names are
those of /proc/cpuinfo, because that is what one searches for.

References: Documentation/arch/x86/cpuinfo.rst; Documentation/ABI/testing/sysfs-devices-system-cpu.
"""

from dataclasses import dataclass
from pathlib import Path

from wirespeed.eal import sysfs

_SUFFIX = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_HYPERVISORS = {  # first words of /sys/class/dmi/id/sys_vendor
    "qemu": "kvm",
    "amazon": "kvm",
    "google": "kvm",
    "vmware": "vmware",
    "microsoft": "hyper-v",
    "innotek": "virtualbox",
    "xen": "xen",
}


USES: dict[str, str] = {
    "sse4_2": "CRC32C: hashes of tables and flows",
    "pclmulqdq": "CRCs and the Toeplitz hash: products without carries",
    "popcnt": "counting bits: compressed tries and bitmaps",
    "bmi1": "first and last bit set: bitmaps, wheels of timers",
    "bmi2": "shifts without flags, wide products: everywhere a little",
    "avx": "moves of 32 bytes: packets, bursts of descriptors",
    "avx2": "vector loops: checksums, comparing keys, copying bursts",
    "avx512f": "vector loops of 64 bytes, where LLVM finds them worth the clock they cost",
    "avx512bw": "the same on bytes and 16-bit words",
    "movbe": "header fields: load and byte swap in one",
    "constant_tsc": "the clock: the counter ticks at one rate",
    "nonstop_tsc": "the clock: it does not stop in sleep states",
    "pdpe1gb": "pages of 1 GiB for large tables",
    "hypervisor": "known to be a virtual machine: no PMU, other NIC drivers",
    "asimd": "aarch64: vector loops",
    "crc32": "aarch64: CRC32C",
    "atomics": "aarch64: locks and rings (LSE)",
    "evtstrm": "aarch64: the clock",
}
"""CPU features, named as in /proc/cpuinfo, and what they are used for here. None is required beyond SSE2 or ASIMD."""

_X86_ONLY = frozenset(USES) - {"asimd", "crc32", "atomics", "evtstrm"}


@dataclass(frozen=True)
class Cache:
    """One cache of core 0. ``kind`` is Data, Instruction or Unified; ``shared_by`` the cores it serves."""

    level: int
    kind: str
    size_bytes: int
    line_bytes: int
    shared_by: tuple[int, ...]


@dataclass(frozen=True)
class Cpu:
    """What core 0 is. ``hypervisor`` and ``governor`` are empty on bare metal and without cpufreq."""

    model: str
    vendor: str
    flags: frozenset[str]
    caches: tuple[Cache, ...]
    hypervisor: str
    governor: str

    def cache_bytes(self, level: int) -> int:
        """Size of the data (or unified) cache of this level, in bytes; 0 if not known."""
        sizes = [cache.size_bytes for cache in self.caches if cache.level == level]
        data = [c.size_bytes for c in self.caches if c.level == level and c.kind != "Instruction"]
        return max(data or sizes, default=0)


def examine(root: Path = sysfs.ROOT) -> Cpu:
    """Read what is known about the CPU; unknown fields are empty."""
    info, have = _cpuinfo(root), flags(root)
    return Cpu(
        model=info.get("model name", ""),
        vendor=info.get("vendor_id", info.get("CPU implementer", "")),
        flags=have,
        caches=_caches(root),
        hypervisor=_hypervisor(have, root),
        governor=sysfs.text(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
    )


def features(root: Path = sysfs.ROOT) -> dict[str, bool]:
    """Those of :data:`USES` that this architecture knows, and whether this CPU has them."""
    have = flags(root)
    arm = "asimd" in have or "evtstrm" in have
    return {flag: flag in have for flag in USES if (flag in _X86_ONLY) != arm}


def flags(root: Path = sysfs.ROOT) -> frozenset[str]:
    """The CPU's feature flags, as /proc/cpuinfo names them."""
    info = _cpuinfo(root)
    return frozenset((info.get("flags") or info.get("Features") or "").split())


def _cpuinfo(root: Path) -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo."""
    block = sysfs.text(root / "proc/cpuinfo").split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in block.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _caches(root: Path) -> tuple[Cache, ...]:
    base = root / "sys/devices/system/cpu/cpu0/cache"
    found = []
    for name in sysfs.names(base, "index*"):
        folder = base / name
        found.append(
            Cache(
                level=sysfs.number(folder / "level", 0),
                kind=sysfs.text(folder / "type"),
                size_bytes=_size(sysfs.text(folder / "size")),
                line_bytes=sysfs.number(folder / "coherency_line_size", 0),
                shared_by=sysfs.cores(folder / "shared_cpu_list"),
            )
        )
    return tuple(found)


def _size(text: str) -> int:
    """Bytes of a sysfs cache size: ``512K``."""
    if not text:
        return 0
    return int(text[:-1]) * _SUFFIX[text[-1]] if text[-1] in _SUFFIX else int(text)


def _hypervisor(have: frozenset[str], root: Path) -> str:
    """Name of the hypervisor; the CPUID leaf that has it cannot be read from Python, its traces can."""
    if kind := sysfs.text(root / "sys/hypervisor/type"):
        return kind
    vendor = sysfs.text(root / "sys/class/dmi/id/sys_vendor").lower()
    if "hypervisor" not in have and "Virtual Machine" not in sysfs.text(root / "sys/class/dmi/id/product_name"):
        return ""
    clocks = sysfs.text(root / "sys/devices/system/clocksource/clocksource0/available_clocksource")
    if "kvm-clock" in clocks:
        return "kvm"
    if "hyperv" in clocks:
        return "hyper-v"
    return next((name for word, name in _HYPERVISORS.items() if vendor.startswith(word)), "unknown")
