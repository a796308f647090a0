"""A server whose clock, counter and kernel are the test's."""

import pytest

from wirespeed.apps.ntp.clock import Standing
from wirespeed.apps.ntp.serve import serve
from wirespeed.apps.ntp.server import NtpServer
from wirespeed.apps.ntp.state import DROPS, NtpView
from wirespeed.eal.clock import Clock
from wirespeed.eal.kernel_clock import KernelClock
from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.region import Region

HZ = 2_600_000_000
NOW_NS = 1_800_000_000_123_456_789
CYCLES = 77_000_000_000_000


@kernel
def ask(state, now, arrival, peer, request, length, reply, room):
    return serve(NtpView(state), now, arrival, peer, request, length, reply, room)


class Rig:
    """A server for one test; ``now`` is its cycle counter."""

    def __init__(self, standing=None, **options):
        self.clock = Clock(HZ, CYCLES, NOW_NS, "test", uncertainty_ns=250)
        self.kernel = KernelClock(True, 3000)
        self.now = CYCLES
        self.region = Region(4096, "ntp-test", huge=False)
        options = {"interval_s": 0, **options}
        self.server = NtpServer(
            standing or Standing(), follow=lambda: self.clock, kernel=lambda: self.kernel, hz=HZ, **options
        )

    def ask(self, request, peer=1, arrival=0, in_place=False, room=1472):
        """The answer, or the name of the reason why there is none."""
        request = bytes(request)
        at = self.region.address + (0 if in_place else self.region.size - len(request))  # reading beyond is caught
        to = self.region.address
        write_bytes(at, request)
        length = ask(self.server.address, self.now, arrival, peer, at, len(request), to, room)
        return DROPS[-1 - length] if length < 0 else read_bytes(to, length)

    def close(self):
        self.server.close()
        self.region.close()


@pytest.fixture
def make():
    """``make(standing, **options)``: a server."""
    made = []

    def build(*arguments, **options):
        made.append(Rig(*arguments, **options))
        return made[-1]

    yield build
    for rig in made:
        rig.close()


@pytest.fixture
def rig(make):
    return make()


@pytest.fixture(scope="module")
def endless():
    """One server for all examples of hypothesis."""
    made = Rig()
    yield made
    made.close()
