"""The CPU, against lscpu and getconf here, and as another machine's files tell it."""

import subprocess
from pathlib import Path

from wirespeed.eal import cpu

CACHE = "sys/devices/system/cpu/cpu0/cache/index{}/{}"


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def lscpu(field):
    return next((line.split(":", 1)[1].strip() for line in run("lscpu").splitlines() if line.startswith(field)), "")


def test_model_and_flags_are_those_of_lscpu():
    found = cpu.examine()
    assert found.model == lscpu("Model name:")
    assert found.flags == frozenset(lscpu("Flags:").split()) == cpu.flags()
    assert bool(found.hypervisor) == bool(lscpu("Hypervisor vendor:"))


def test_caches_are_those_of_getconf():
    found = cpu.examine()
    if Path("/sys/devices/system/cpu/cpu0/cache/index0").exists():
        told = int(run("getconf", "LEVEL1_DCACHE_LINESIZE").strip() or 0)
        assert {cache.line_bytes for cache in found.caches if cache.level == 1} == {told}
        assert found.cache_bytes(1) == int(run("getconf", "LEVEL1_DCACHE_SIZE"))


def test_another_machine(machine):
    files = {
        "proc/cpuinfo": "processor : 0\nvendor_id : Intel\nmodel name : Xeon: fast\nflags : avx2 bmi2\n\n"
        "processor : 1\nmodel name : other\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "powersave\n",
    }
    rows = [(1, "Data", "48K"), (1, "Instruction", "64K"), (3, "Unified", "2M")]
    for index, (level, kind, size) in enumerate(rows):
        files |= {CACHE.format(index, "level"): str(level), CACHE.format(index, "type"): kind}
        files |= {CACHE.format(index, "size"): size, CACHE.format(index, "coherency_line_size"): "64"}
        files |= {CACHE.format(index, "shared_cpu_list"): "0-1"}
    found = cpu.examine(machine(files))
    assert (found.model, found.vendor, found.governor, found.hypervisor) == (
        "Xeon: fast",
        "Intel",
        "powersave",
        "",
    )
    assert found.flags == {"avx2", "bmi2"}
    assert found.caches[0] == cpu.Cache(1, "Data", 49152, 64, (0, 1))
    assert [found.cache_bytes(level) for level in (1, 2, 3)] == [49152, 0, 2097152]


def test_hypervisors(machine):
    root = machine({"proc/cpuinfo": "flags : hypervisor\n", "sys/class/dmi/id/sys_vendor": "VMware, Inc.\n"})
    assert cpu.examine(root).hypervisor == "vmware"
    machine({"sys/devices/system/clocksource/clocksource0/available_clocksource": "kvm-clock tsc acpi_pm\n"})
    assert cpu.examine(root).hypervisor == "kvm"
    machine({"sys/hypervisor/type": "xen\n"})
    assert cpu.examine(root).hypervisor == "xen"


def test_nothing_known_is_empty(tmp_path):
    assert cpu.examine(tmp_path) == cpu.Cpu("", "", frozenset(), (), "", "")


def test_features_are_those_of_the_architecture(machine):
    x86 = cpu.features(machine({"proc/cpuinfo": "flags : fpu sse4_2 avx2 constant_tsc\n"}))
    assert (x86["sse4_2"], x86["avx2"], x86["avx512f"]) == (True, True, False)
    assert "asimd" not in x86
    arm = cpu.features(machine({"proc/cpuinfo": "Features : fp asimd crc32\n"}))
    assert arm == {"asimd": True, "crc32": True, "atomics": False, "evtstrm": False}
