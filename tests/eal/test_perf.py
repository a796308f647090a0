"""Perf counters: the group machinery with software events (any machine), hardware where there is a PMU."""

import errno
import mmap
import os
import resource
import threading

import pytest

from wirespeed.eal import perf

FAULTS = (perf.PAGE_FAULTS,)


def touch(pages):
    """Fault in fresh pages, one by one."""
    with mmap.mmap(-1, pages * 4096) as memory:
        memory.madvise(mmap.MADV_NOHUGEPAGE)
        for page in range(pages):
            memory[page * 4096] = 1


def refusal(code, root=None):
    error = OSError(code, os.strerror(code))
    return perf._why_not(error, 7, root) if root else perf._why_not(error, 7)


def test_page_faults_are_those_of_getrusage():
    with perf.PerfCounters.open(events=FAULTS) as counters:
        if not counters.available:
            pytest.skip(counters.reason)
        first, told_first = counters.read(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        touch(200)
        last, told_last = counters.read(), resource.getrusage(resource.RUSAGE_THREAD).ru_minflt
        counted = (last - first).page_faults
        # Faults taken inside a system call are the kernel's, which are left out on purpose.
        # And a fault may fall between the two readings.
        assert 200 <= counted <= told_last - told_first + 64


def test_only_the_thread_that_opened_is_counted():
    with perf.PerfCounters.open(events=FAULTS) as counters:
        if not counters.available:
            pytest.skip(counters.reason)
        thread = threading.Thread(target=touch, args=(5000,))
        before = counters.read()
        thread.start()
        thread.join()
        assert (counters.read() - before).page_faults < 5000


def test_another_thread_by_its_tid():
    ready, go, done, leave = (threading.Event() for _ in range(4))
    tid = []

    def work():
        tid.append(threading.get_native_id())
        ready.set()
        go.wait()
        touch(300)
        done.set()
        leave.wait()

    thread = threading.Thread(target=work)
    thread.start()
    ready.wait()
    counters = perf.PerfCounters.open(tid[0], FAULTS)
    go.set()
    done.wait()
    sample, available = counters.read(), counters.available
    leave.set()
    thread.join()
    counters.close()
    assert not available or sample.page_faults >= 300


def test_hardware_counts_or_says_why():
    with perf.PerfCounters.open() as counters:
        if counters.available:
            before = counters.read()
            sum(range(100_000))
            spent = counters.read() - before
            assert spent.cycles > 0
            assert spent.instructions is None or spent.instructions > 100_000
        else:
            assert counters.reason
            assert counters.read() == perf.Sample()


def test_an_event_that_is_missing_is_left_out_singly():
    absent = perf.Event("cache_misses", perf.SOFTWARE, 999_999)
    with perf.PerfCounters.open(events=(perf.PAGE_FAULTS, absent)) as counters:
        if not counters.available:
            pytest.skip(counters.reason)
        assert counters.events == FAULTS
        assert counters.reason == "not counted here: cache_misses"
        assert counters.read().cache_misses is None


def test_closing_gives_the_descriptors_back():
    before = os.listdir("/proc/self/fd")
    counters = perf.PerfCounters.open(events=FAULTS)
    counters.close()
    counters.close()
    assert os.listdir("/proc/self/fd") == before
    assert not counters.available
    assert counters.read() == perf.Sample()


def test_a_thread_that_is_gone():
    counters = perf.PerfCounters.open(tid=2**22 + 1, events=FAULTS)  # above the kernel's greatest thread id
    assert not counters.available
    assert counters.reason


def test_no_events():
    assert perf.PerfCounters.open(events=()).reason == "no events were asked for"


def test_samples_subtract():
    later, earlier = (
        perf.Sample(cycles=1000, instructions=2500, page_faults=3),
        perf.Sample(cycles=400, instructions=1000),
    )
    span = later - earlier
    assert span == perf.Sample(cycles=600, instructions=1500)
    assert span.instructions_per_cycle == 2.5
    assert perf.Sample().instructions_per_cycle is None
    assert perf.Sample(cycles=0, instructions=0).instructions_per_cycle is None


def test_refusals_name_the_remedy(machine):
    root = machine({"proc/sys/kernel/perf_event_paranoid": "3\n"})
    assert refusal(errno.EACCES, root) == "kernel.perf_event_paranoid=3: sysctl -w kernel.perf_event_paranoid=2"
    machine({"proc/sys/kernel/perf_event_paranoid": "2\n", "proc/cpuinfo": "flags : hypervisor\n"})
    assert "seccomp" in refusal(errno.EPERM, root)
    assert refusal(errno.ENOENT, root).startswith("the virtual machine (unknown) exposes no PMU: ")
    machine({"proc/cpuinfo": "flags : fpu\n"})
    assert refusal(errno.ENOENT, root).startswith("this CPU or kernel has no such counters")
    assert refusal(errno.ESRCH) == "there is no thread 7: open the counters while it runs"
    assert refusal(errno.E2BIG) == "perf_event_open: Argument list too long"
