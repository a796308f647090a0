"""wirespeed doctor: what this machine has, what it lacks, and the command that mends it.

wirespeed runs anywhere; this says what would make it run faster here. Each check looks and reports, none
changes anything, and none is fatal: the exit code is 0.

    verdict    meaning
    ok         as good as it gets
    info       a fact, or something only some uses want
    warn       it works, slower than it could
    missing    a way to run is closed

A remedy is a command wherever one exists; it changes the running system and is gone after a reboot.
"""

import os
import platform
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from wirespeed.eal import clock, cores, cpu, hugepages, kernel, nics, numa, perf, privileges, sysfs

Verdict = Literal["ok", "info", "warn", "missing"]
_COLOURS = {"ok": "green", "info": "dim", "warn": "yellow", "missing": "red"}
_SIMD = ("sse4_2", "aes", "pclmulqdq", "bmi2", "avx2", "avx512f", "avx512bw", "asimd", "sve", "crc32")
_NEEDED_FOR_SPEED = ("huge pages 2M", "isolated cores", "privileges")


@dataclass(frozen=True)
class Finding:
    """One line of the report; ``remedy`` is a command or an advice, empty if there is nothing to do."""

    topic: str
    have: str
    verdict: Verdict
    remedy: str = ""


def examine() -> list[Finding]:
    """Look at this machine; changes nothing."""
    checks = (_processor, _cores, _memory, _privileges, _kernel, _time, _interfaces)
    return [finding for check in checks for finding in check()]


def suggestions() -> list[str]:
    """What would make this machine faster, most useful first: ``topic: remedy``; empty if nothing."""
    findings = {finding.topic: finding for finding in examine()}
    lacking = (findings[topic] for topic in _NEEDED_FOR_SPEED if topic in findings)
    return [f"{f.topic}: {f.remedy}" for f in lacking if f.verdict in ("warn", "missing") and f.remedy]


def command(
    json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON, for programs.")] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="Also measure the clock: its rate, cores' agreement.")
    ] = False,
    features: Annotated[bool, typer.Option("--features", help="Also list CPU features and what they are for.")] = False,
) -> None:
    """Examine this machine: what helps, what lacks, and how to mend it."""
    findings = examine()
    if measure:
        findings += _measured()
    if features:
        findings += _features()
    if json:
        typer.echo(msgspec.json.format(msgspec.json.encode(findings), indent=2).decode())
        return
    Console().print(render(findings))


def render(findings: list[Finding]) -> Table:
    """The findings as a table; the remedy stands below what it mends, whole, to be copied."""
    lacking = sum(finding.verdict in ("warn", "missing") for finding in findings)
    caption = "nothing to mend" if not lacking else f"{lacking} could be better; wirespeed runs regardless"
    table = Table(caption=caption, box=None, padding=(0, 1))
    table.add_column("")
    table.add_column("topic", no_wrap=True)
    table.add_column("here", overflow="fold")  # a command with an ellipsis in it is no command
    for finding in findings:
        colour = _COLOURS[finding.verdict]
        table.add_row(f"[{colour}]{finding.verdict}[/]", finding.topic, _plain(finding.have))
        if finding.remedy and finding.verdict != "ok":
            table.add_row("", "", f"[bold]{_plain(finding.remedy)}[/]")
    return table


def _processor() -> Iterator[Finding]:
    found = cpu.examine()
    caches = ", ".join(
        f"L{level} {sysfs.bytes_text(size)}" for level in (1, 2, 3) if (size := found.cache_bytes(level))
    )
    where = f" in a virtual machine ({found.hypervisor})" if found.hypervisor else ""
    line = max((cache.line_bytes for cache in found.caches), default=0)
    lines = f", lines of {line} B" if line else ""
    yield Finding("CPU", f"{found.model or platform.machine()}{where}, {caches}{lines}", "info")
    simd = [flag for flag in _SIMD if flag in found.flags]
    wide = bool({"avx2", "asimd"} & set(simd))
    yield Finding(
        "SIMD",
        ", ".join(simd) or "none known",
        "ok" if wide else "warn",
        "" if wide else "show the host's CPU to the guest (QEMU: -cpu host), or use a CPU with AVX2",
    )
    if not found.governor:
        yield Finding("frequency governor", "none (the hypervisor or the firmware decides)", "info")
    elif found.governor == "performance":
        yield Finding("frequency governor", found.governor, "ok")
    else:
        yield Finding("frequency governor", found.governor, "warn", "cpupower frequency-set -g performance")


def _cores() -> Iterator[Finding]:
    online, usable = cores.online(), cores.usable()
    placement = cores.choose(max(len(usable) - 1, 1), cores=usable)
    have = f"{len(usable)} of {len(online)} usable ({sysfs.ranges(tuple(c.index for c in usable))})"
    yield Finding(
        "cores",
        f"{have}; {placement.why}",
        "warn" if placement.shared else "ok",
        "give the machine, or the cpuset, a second core" if placement.shared else "",
    )
    apart = cores.isolated()
    free = sysfs.ranges(online[1:]) if len(online) > 1 else ""
    isolate = f"boot with isolcpus={free} nohz_full={free} rcu_nocbs={free} on the kernel command line"
    if apart:
        yield Finding("isolated cores", sysfs.ranges(apart), "ok")
    elif free:
        yield Finding("isolated cores", "none: the scheduler interrupts workers", "warn", isolate)
    else:
        yield Finding("isolated cores", "none, with a single core", "info")
    places = numa.nodes()
    each = "; ".join(
        f"node {node.index}: cores {sysfs.ranges(node.cores)}, {sysfs.bytes_text(node.memory_bytes)}" for node in places
    )
    yield Finding("NUMA", each, "ok" if len(places) == 1 else "info")


def _memory() -> Iterator[Finding]:
    memory = sum(node.memory_bytes for node in numa.nodes())
    for page in hugepages.page_sizes():
        if page.size not in (2 << 20, 1 << 30):
            continue
        small = page.size == 2 << 20
        more = page.total + (min(512, max(memory // 4 // page.size, 1)) if small else 1)
        folder = f"/sys/kernel/mm/hugepages/hugepages-{page.size >> 10}kB"
        remedy = f"sysctl -w vm.nr_hugepages={more}" if small else f"echo {more} > {folder}/nr_hugepages"
        lacking: Verdict = "warn" if small else "info"  # a GiB at a time pays only for very large tables
        yield Finding(
            f"huge pages {page.name}",
            f"{page.free} of {page.total} free",
            "ok" if page.free else lacking,
            "" if page.free else remedy,
        )
    if not hugepages.page_sizes():
        yield Finding("huge pages 2M", "not in this kernel", "warn", "use a kernel with CONFIG_HUGETLBFS=y")
    thp = sysfs.chosen(sysfs.ROOT / "sys/kernel/mm/transparent_hugepage/enabled")
    shmem = hugepages.shmem_policy()
    have = f"enabled: {thp or 'absent'}, shared memory: {shmem or 'absent'}"
    if kernel.version() >= (6, 1) and shmem not in ("", "deny"):
        yield Finding("transparent huge pages", f"{have} (had on request: MADV_COLLAPSE)", "ok")
    elif shmem in ("always", "within_size", "advise", "force"):
        yield Finding("transparent huge pages", have, "ok")
    else:
        remedy = "echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled"
        yield Finding("transparent huge pages", have, "warn", remedy)


def _privileges() -> Iterator[Finding]:
    have = privileges.capabilities()
    wanted = ("CAP_NET_RAW", "CAP_NET_ADMIN", "CAP_IPC_LOCK", "CAP_SYS_NICE", "CAP_PERFMON", "CAP_BPF")
    implied = {"CAP_PERFMON", "CAP_BPF"} if "CAP_SYS_ADMIN" in have else set()  # as before Linux 5.8
    lacking = [name for name in wanted if name not in have | implied]
    grants = " ".join(f"--cap-add={name.removeprefix('CAP_')}" for name in lacking)
    remedy = f"start the container with {grants}" if privileges.is_root() else "run with sudo"
    yield Finding(
        "privileges",
        ("root" if privileges.is_root() else f"user {os.geteuid()}")
        + (f", without {', '.join(lacking)}" if lacking else ", all capabilities for ports and counters"),
        "warn" if lacking else "ok",
        remedy if lacking else "",
    )
    limit = privileges.memlock()
    unlimited = limit.soft_bytes == privileges.UNLIMITED
    size = "unlimited" if unlimited else sysfs.bytes_text(limit.soft_bytes)
    if unlimited or "CAP_IPC_LOCK" in have:
        yield Finding("memlock", size + ("" if unlimited else ", not applied (CAP_IPC_LOCK)"), "ok")
    else:
        yield Finding("memlock", size, "warn", "ulimit -l unlimited (in a service: LimitMEMLOCK=infinity)")


def _kernel() -> Iterator[Finding]:
    recent = kernel.version() >= (5, 11)
    remedy = "" if recent else "use Linux 5.11 or later (AF_XDP without memlock, batched BPF)"
    yield Finding("kernel", platform.release(), "ok" if recent else "warn", remedy)
    for feature in kernel.features():
        have = "works" if feature.works else feature.why_not
        yield Finding(feature.name, have, "ok" if feature.works else "missing", feature.remedy)


def _time() -> Iterator[Finding]:
    invariant = clock.tsc_is_invariant()
    yield Finding(
        "TSC",
        "invariant" if invariant else "may change speed or stop: times are unreliable",
        "ok" if invariant else "warn",
        "" if invariant else "show it to the guest (QEMU: -cpu host,+invtsc)",
    )
    with perf.PerfCounters.open() as counters:
        missing, _, remedy = counters.reason.partition(": ")
        if not counters.available:
            yield Finding("performance counters", missing, "warn", remedy)
        else:
            names = ", ".join(event.name for event in counters.events)
            extra = f" ({counters.reason})" if counters.reason else ""
            yield Finding("performance counters", names + extra, "ok")
    yield Finding("perf_event_paranoid", str(perf.paranoid()), *_judge_paranoid())


def _measured() -> Iterator[Finding]:
    """The clock as it is; compiles a little and takes some milliseconds."""
    from wirespeed.eal import skew

    found = clock.clock()
    yield Finding(
        "clock",
        f"{found.hz / 1e6:.3f} MHz within {found.error_ppm:.0f} ppm ({found.source}), "
        f"CLOCK_MONOTONIC within {found.uncertainty_ns} ns now",
        "ok",
    )
    for pair in skew.measure_all():
        bound = (
            f"cores {pair.reference} and {pair.core}: the counters differ by at most {found.ns(pair.bound_cycles)} ns"
        )
        remedy = (
            "" if pair.agrees else "compare times of one core only; boot with tsc=reliable if the firmware is at fault"
        )
        yield Finding(f"clock of core {pair.core}", bound, "ok" if pair.agrees else "warn", remedy)


def _features() -> Iterator[Finding]:
    for flag, has in cpu.features().items():
        yield Finding(flag, f"{'' if has else 'absent; '}{cpu.USES[flag]}", "ok" if has else "info")


def _judge_paranoid() -> tuple[Verdict, str]:
    if perf.paranoid() <= 2 or "CAP_PERFMON" in privileges.capabilities():
        return "ok", ""
    return "warn", "sysctl -w kernel.perf_event_paranoid=2"


def _interfaces() -> Iterator[Finding]:
    physical = [nic for nic in nics.interfaces() if not nic.virtual]
    for nic in physical:
        speed = f", {nic.speed_mbps / 1000:g} Gb/s" if nic.speed_mbps > 0 else ""
        place = f", PCI {nic.pci}" if nic.pci else ""
        place += f", node {nic.node}" if nic.node >= 0 else ""
        have = f"{nic.driver or 'no driver'}, {nic.state}{speed}, {nic.rx_queues} rx queues{place}"
        want = min(nic.max_queues, len(cores.online()))
        more = nic.rx_queues < want
        remedy = f"ethtool -L {nic.name} combined {want}" if more else ""
        yield Finding(f"NIC {nic.name}", have, "warn" if more else "ok", remedy)
    if not physical:
        yield Finding("NIC", "none: veth, TAP and generated traffic work", "info")


def _plain(text: str) -> str:
    """Square brackets are markup to rich; a finding has none that means colour."""
    return text.replace("[", "\\[")
