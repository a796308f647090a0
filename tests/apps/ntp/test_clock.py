"""The time of day by a counter: followed, set forward, set back; the kernel's own."""

import time

from wirespeed.apps.ntp.clock import TimeOfDay
from wirespeed.apps.ntp.serve import time_at
from wirespeed.apps.ntp.server import NtpServer
from wirespeed.apps.ntp.state import TimeSheet
from wirespeed.eal.kernel_clock import kernel_clock
from wirespeed.jit import kernel, tsc

HZ = 1_000_000_000


class Machine:
    """A counter of a gigahertz, and a clock that is ``ahead_ns`` of it and ``ppm`` too fast."""

    def __init__(self):
        self.cycles, self.ahead_ns, self.ppm = 10**12, 10**18, 0.0

    def counter(self):
        self.cycles += 25
        return self.cycles

    def time_ns(self):
        self.cycles += 25
        return self.ahead_ns + self.cycles + int((self.cycles - 10**12) * self.ppm / 1e6)

    def wait(self, seconds):
        self.cycles += int(seconds * HZ)


def following():
    machine = Machine()
    return machine, TimeOfDay(machine.counter, machine.time_ns, HZ, machine.wait)


def error_ns(machine, clock, after_s=0.1):
    """How wrong the clock is after that time."""
    machine.wait(after_s)
    return clock.monotonic_ns(machine.counter()) - machine.time_ns()


def test_a_clock_that_is_steered():
    machine, day = following()
    machine.ppm = 300
    for _ in range(20):
        clock = day.follow()
        machine.wait(0.1)
    assert abs(error_ns(machine, day.follow())) < 2000
    assert clock.uncertainty_ns < 200


def test_a_clock_that_is_set():
    machine, day = following()
    for step_ns in (10**10, -(10**10), 5 * 10**6, -5 * 10**6):
        machine.ahead_ns += step_ns
        machine.wait(0.1)
        assert abs(error_ns(machine, day.follow())) < 2000, step_ns


@kernel
def _tell(sheet, now):
    return time_at(TimeSheet(sheet), now)


def test_the_kernels_time():
    """What is told lies between two readings of CLOCK_REALTIME, but for what the clock may be off."""
    with NtpServer() as server:
        server.refresh()
        sheet = server.address + 64 * (1 + server[0].generation % 2)
        before = time.time_ns()
        told = _tell(sheet, tsc()) % 2**64
        after = time.time_ns()
        ns = ((told >> 32) - 2_208_988_800) * 10**9 + ((told & 0xFFFF_FFFF) * 10**9 >> 32)
        assert before - 1_000_000 <= ns <= after + 1_000_000
        assert server.stats().max_error_us == kernel_clock().max_error_us or kernel_clock().synchronised


def test_many_workers():
    with NtpServer() as server:
        server.prepare(3)
        assert [server[worker].generation > 0 for worker in range(4)] == [True, True, True, False]
