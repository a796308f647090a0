"""A source, a sink and a mirror of packets at the ends of veths, made of XDP programs: faster than what is measured.

The source redirects frames that the kernel makes for a test run (BPF_F_TEST_XDP_LIVE_FRAMES) into an interface; no
socket and no packet buffer of the stack is involved, so one core sends several million a second. The sink counts and
drops what comes, before the stack sees it, and counts exactly. The mirror sends back what comes from within the driver.

References: Documentation/bpf/bpf_prog_run.rst; xdp-trafficgen of xdp-tools works the same way.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from functools import partial
from types import TracebackType

from wirespeed.ports.af_xdp import bpf
from wirespeed.ports.af_xdp.assembler import Assembler, Reg
from wirespeed.ports.netdev import facts, within

_DROP, _PASS, _TX = 1, 2, 3
_LOOKUP, _REDIRECT = 1, 23
_SOURCE_PORT = 34  # of UDP in an IPv4 frame without options
_FIRST_PORT = 1024
_HEADERS = 40  # Ethernet, IPv4 and the ports, rounded up
_CHUNK = 1 << 18  # a tenth of a second; each call costs a few milliseconds
R0, R1, R2, R3, R6, R10 = Reg.R0, Reg.R1, Reg.R2, Reg.R3, Reg.R6, Reg.R10


def _counter(code: Assembler, counters: int, otherwise: str) -> None:
    """R0: address of the CPU's counter."""
    code.store(4, R10, -4, 0)
    code.mov(R2, R10)
    code.alu("add", R2, -4)
    code.load_map(R1, counters)
    code.call(_LOOKUP)
    code.jump_if("eq", R0, 0, otherwise)


class Sink:
    """Count and drop what arrives at ``interface`` in ``netns`` until closed."""

    def __init__(self, netns: str, interface: str) -> None:
        self._map = bpf.create_map(bpf.PER_CPU_ARRAY, 4, 8, 1, "sink")
        code = Assembler()
        _counter(code, self._map, "drop")
        code.load(8, R1, R0)
        code.alu("add", R1, 1)
        code.store(8, R0, 0, R1)
        code.label("drop")
        code.mov(R0, _DROP)
        code.exit()
        self._program = bpf.load_xdp(code.assemble(), "sink")
        attach = lambda: bpf.attach_xdp(self._program, facts("sink", interface).index, bpf.NATIVE)  # noqa: E731
        self._link = within(netns, attach)

    @property
    def packets(self) -> int:
        """How many have come."""
        cpus = bpf.possible_cpus()
        return sum(struct.unpack(f"={cpus}Q", bpf.lookup(self._map, 0, 8 * cpus)))

    def __enter__(self) -> Sink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in (self._link, self._program, self._map):
            os.close(fd)


class Source:
    """Send ``frame`` (UDP over IPv4) out of ``interface`` in ``netns``, from core ``core``, while it is on.

    Args:
        flows: how many source ports take turns.
    """

    def __init__(self, netns: str, interface: str, frame: bytes, core: int, flows: int = 1) -> None:
        self._netns, self._frame, self._core = netns, frame, core
        self._map = bpf.create_map(bpf.PER_CPU_ARRAY, 4, 8, 1, "source")
        index = within(netns, lambda: facts("source", interface).index)
        code = Assembler()
        code.mov(R6, R1)
        if flows > 1:
            self._next_flow(code, flows)
        self._write_headers(code)
        if flows > 1:
            code.store(2, R1, _SOURCE_PORT, R3)
        code.mov(R1, index)
        code.mov(R2, 0)
        code.call(_REDIRECT)
        code.exit()
        code.label("lost")
        code.mov(R0, _DROP)
        code.exit()
        self._program = bpf.load_xdp(code.assemble(), "source", flags=0)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.error: OSError | None = None

    def _next_flow(self, code: Assembler, flows: int) -> None:
        """R3: the source port, in network order."""
        _counter(code, self._map, "lost")
        code.load(8, R3, R0)
        code.alu("add", R3, 1)
        code.jump_if("lt", R3, flows, "same")
        code.mov(R3, 0)
        code.label("same")
        code.store(8, R0, 0, R3)
        code.alu("add", R3, _FIRST_PORT)
        code.big_endian(R3, 16)

    def _write_headers(self, code: Assembler) -> None:
        """Anew in each: frames come back to the page pool as their receiver left them, with a router's TTL."""
        code.load(4, R1, R6, 0)
        code.load(4, R2, R6, 4)
        code.mov(R0, R1)
        code.alu("add", R0, _HEADERS)
        code.jump_if("gt", R0, R2, "lost")
        for at in range(0, _HEADERS, 4):
            code.store(4, R1, at, int.from_bytes(self._frame[at : at + 4], "little"))

    def on(self) -> None:
        """Begin to send."""
        self._stop.clear()
        self._thread = threading.Thread(target=lambda: within(self._netns, self._send), daemon=True)
        self._thread.start()

    def off(self) -> None:
        """Send no more."""
        if self._thread:
            self._stop.set()
            self._thread.join()
            self._thread = None

    def _send(self) -> None:
        os.sched_setaffinity(0, {self._core})
        try:
            while not self._stop.is_set():
                bpf.send_xdp(self._program, self._frame, _CHUNK)
        except OSError as error:
            self.error = error

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()
        for fd in (self._program, self._map):
            with contextlib.suppress(OSError):
                os.close(fd)


class Mirror:
    """Send back what arrives at ``interface``, as it is, until closed; ``far`` is the other end of the veth.

    No process is involved: nothing that has one can be quicker. Each end is a namespace and an interface.
    """

    def __init__(self, near: tuple[str, str], far: tuple[str, str]) -> None:
        self._fds: list[int] = []
        for (netns, interface), verdict in ((near, _TX), (far, _PASS)):  # a veth takes XDP frames where XDP is at work
            code = Assembler()
            code.mov(R0, verdict)
            code.exit()
            program = bpf.load_xdp(code.assemble(), "mirror")
            self._fds.append(program)
            index = within(netns, partial(facts, "mirror", interface)).index
            self._fds.append(within(netns, partial(bpf.attach_xdp, program, index, bpf.NATIVE)))

    def __enter__(self) -> Mirror:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for fd in reversed(self._fds):
            os.close(fd)


__all__ = ["Mirror", "Sink", "Source"]
