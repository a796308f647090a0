"""DPDK's testpmd as the peer of the forwarding benches.

One process for a whole interleaved run: it forwards only during its turns (``start`` ... ``stop`` at its
prompt); in between its worker sleeps and the core is ours. Packets come from memory: ``net_pcap`` with
``infinite_rx`` (allocate, copy a frame, forward, free: what our generator port does) or ``net_null`` with
``copy``. net_pcap without a tx file drops what is sent, which is what we want to measure up to.

The figure is packets *sent* over a window of the monotonic clock, from two ``show port stats``; each is
dated by the middle of its round trip (under 1 ms: an error below 0.2 % of a window of half a second).

The peer gets its best setting: :func:`calibrate` tries bursts and mbuf caches and says which it took.

References: doc.dpdk.org/guides-22.11: testpmd_app_ug, nics/pcap_ring, nics/null.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from types import TracebackType

from wirespeed.bench.errors import BenchError
from wirespeed.bench.prompt import Prompt

MODES = ("macswap", "io", "mac", "5tswap", "rxonly", "icmpecho", "csum")
_FREE_HUGE_PAGES = Path("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
_HUGE_PAGES_NEEDED = 64  # 16384 mbufs of 2304 B are 36 MB; rings, EAL's heap and alignment on top
_SENT = re.compile(r"TX-packets:\s*(\d+)")
_COUNTER = re.compile(r"([RT]X-[\w-]+):\s*(\d+)")


@dataclass(frozen=True, slots=True)
class Setting:
    """How testpmd forwards. None leaves testpmd's default (burst 32, mbuf cache 250, driver's rings)."""

    mode: str = "macswap"
    burst: int = 32
    mbcache: int | None = 512
    rxd: int | None = None
    txd: int | None = None

    def __str__(self) -> str:
        shown = f"{self.mode}, burst {self.burst}, mbcache {self.mbcache or 'default'}"
        return shown + "".join(f", {k} {v}" for k, v in (("rxd", self.rxd), ("txd", self.txd)) if v)


class Testpmd:
    """A running testpmd; a context manager.

    Arguments:
        source: the pcap whose packets it receives over and over (all are held in memory), or None for
            ``net_null``: frames of `size` bytes, copied in and out like a real port's if `copy`.
        cores: (main, worker); default the first and last core this process may use. Give the worker the
            core our own worker runs on, so that both are measured on the same one.
        vdevs: its ports, as ``net_memif0,role=client,socket=/run/x.sock``, instead of those of memory.
        netns: the network namespace it runs in.
        options: more of testpmd's own, behind its ``--``.

    ``pid`` is for :func:`wirespeed.bench.disturbance.observer`; ``note`` is for the report.
    Raises BenchError when testpmd is missing, does not start, or ends.
    """

    __test__ = False  # not a test class, whatever pytest thinks of the name

    def __init__(
        self,
        source: Path | None,
        setting: Setting | None = None,
        *,
        cores: tuple[int, int] | None = None,
        size: int = 60,
        copy: bool = True,
        binary: str = "dpdk-testpmd",
        vdevs: Sequence[str] = (),
        netns: str = "",
        options: Sequence[str] = (),
    ) -> None:
        self.setting = setting or Setting()
        found = shutil.which(binary)
        if found is None:
            raise BenchError(f"{binary}: not found, so DPDK cannot be the peer; apt-get install dpdk")
        if source is not None and not source.is_file():
            raise BenchError(f"{source}: no such capture for testpmd to receive from; write one first")
        self.huge = huge_pages_free() >= _HUGE_PAGES_NEEDED
        allowed = sorted(os.sched_getaffinity(0))
        self.cores = cores or (allowed[0], allowed[-1])
        devices = list(vdevs) or [_memory_device(source, size, copy)]
        entry = ["ip", "netns", "exec", netns] if netns else []
        self.command = [*entry, *_command(found, devices, self.setting, self.cores, self.huge), *options]
        self._prompt = Prompt(self.command, "testpmd> ")

    def __enter__(self) -> Testpmd:
        self._prompt.__enter__()
        try:
            self._prompt.read()
        except BenchError as error:
            self._prompt.end()
            raise BenchError(f"{error}. Remedy: {_remedy(str(error))}") from None
        except BaseException:
            self._prompt.end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._prompt.end()

    @property
    def pid(self) -> int:
        """Of the running child."""
        return self._prompt.child.pid

    @property
    def note(self) -> str:
        """How it runs, in one line: for the report."""
        pages = "2 MiB huge pages" if self.huge else "no huge pages (echo 512 > /proc/sys/vm/nr_hugepages)"
        return f"testpmd {self.setting}, worker on core {self.cores[1]}, {pages}"

    def change(self, *, mode: str | None = None, burst: int | None = None) -> None:
        """Change what can be changed at the prompt: the forward mode and the burst."""
        setting = replace(self.setting, mode=mode or self.setting.mode, burst=burst or self.setting.burst)
        for line, wanted in ((f"set fwd {setting.mode}", mode), (f"set burst {setting.burst}", burst)):
            if wanted:
                said = self._prompt.ask(line)
                if "Bad arguments" in said or "Invalid" in said or "rror" in said:
                    raise BenchError(f"testpmd refused {line!r}: {' '.join(said.split())}; modes are {MODES}")
        self.setting = setting

    def measure(self, seconds: float = 0.5, settle: float = 0.1) -> float:
        """One turn: start forwarding, let it settle, packets/s sent over `seconds`, stop."""
        self.start()
        try:
            time.sleep(settle)
            sent_before, before = self._sent()
            time.sleep(seconds)
            sent_after, after = self._sent()
        finally:
            self.stop()
        if sent_after == sent_before:
            raise BenchError(f"testpmd sent no packet in {seconds} s; run it by hand: {' '.join(self.command)}")
        return (sent_after - sent_before) / (after - before)

    def start(self, line: str = "start") -> None:
        """Let it forward; ``start tx_first 4`` sends bursts first."""
        self._prompt.ask(line)

    def stop(self) -> None:
        """Let it stop forwarding; the answer comes when its worker has stopped."""
        self._prompt.ask("stop")

    def ask(self, line: str) -> str:
        """What it answers to a line at its prompt."""
        return self._prompt.ask(line)

    def stats(self, port: int = 0) -> dict[str, int]:
        """Its counters of a port, as ``show port stats`` names them: RX-packets, TX-dropped, ..."""
        return {name: int(value) for name, value in _COUNTER.findall(self._prompt.ask(f"show port stats {port}"))}

    def _sent(self) -> tuple[int, float]:
        """Packets sent so far, and when that was."""
        before = time.monotonic()
        said = self._prompt.ask("show port stats 0")
        after = time.monotonic()
        return parse_sent(said), (before + after) / 2


@dataclass(frozen=True, slots=True)
class Calibration:
    """Which setting was fastest, and the median packets/s of each that was tried."""

    best: Setting
    figures: dict[Setting, float]

    def __str__(self) -> str:
        tried = "; ".join(f"{s}: {pps / 1e6:.1f} Mpps" for s, pps in self.figures.items())
        return f"taken: {self.best} (tried {tried})"


def calibrate(
    source: Path | None,
    mode: str = "macswap",
    *,
    cores: tuple[int, int] | None = None,
    bursts: tuple[int, ...] = (32, 64, 128),
    caches: tuple[int | None, ...] = (None, 512),
    rounds: int = 3,
    seconds: float = 0.25,
    progress: Callable[[str], None] | None = None,
) -> Calibration:
    """Find testpmd's fastest setting: each burst with each mbuf cache, in turns, the median of `rounds`."""
    samples: dict[Setting, list[float]] = {}
    with ExitStack() as stack:
        peers = [stack.enter_context(Testpmd(source, Setting(mode, mbcache=c), cores=cores)) for c in caches]
        for turn in range(rounds):
            for peer in peers:
                for burst in bursts:
                    peer.change(burst=burst)
                    if progress:
                        progress(f"calibrating testpmd, round {turn + 1} of {rounds}: {peer.setting}")
                    samples.setdefault(peer.setting, []).append(peer.measure(seconds))
    figures = {setting: median(pps) for setting, pps in samples.items()}
    return Calibration(max(figures, key=figures.__getitem__), figures)


def version(binary: str = "dpdk-testpmd") -> str:
    """Such as ``DPDK 22.11.11``; raises BenchError when it is not installed."""
    found = shutil.which(binary)
    if found is None:
        raise BenchError(f"{binary}: not found, so DPDK cannot be the peer; apt-get install dpdk")
    run = subprocess.run(
        [found, "-v", "--no-huge", "--no-shconf", "--help"], capture_output=True, text=True, check=False
    )
    named = re.search(r"DPDK (\d[\w.-]*)", run.stdout + run.stderr)
    return f"DPDK {named[1]}" if named else "DPDK (version unknown)"


def huge_pages_free() -> int:
    """Free huge pages of 2 MiB."""
    try:
        return int(_FREE_HUGE_PAGES.read_text())
    except OSError:
        return 0


def parse_sent(said: str) -> int:
    """The TX-packets of ``show port stats``."""
    found = _SENT.search(said)
    if not found:
        raise BenchError(f"testpmd: no TX-packets in {' '.join(said.split())[:200]!r}; is this DPDK older than 19.11?")
    return int(found[1])


def _memory_device(source: Path | None, size: int, copy: bool) -> str:
    """A port whose packets come from memory."""
    if source is not None:
        return f"net_pcap0,rx_pcap={source},infinite_rx=1"
    return f"net_null0,size={size},copy={int(copy)}"


def _command(binary: str, devices: Sequence[str], setting: Setting, cores: tuple[int, int], huge: bool) -> list[str]:
    memory = ["--no-huge", "--no-shconf", "-m", "256"]
    if huge:  # the two exclude each other; single files, since vhost-user can share no more than eight
        memory = ["--in-memory", "--single-file-segments"]
    # --lcores, not -l: both may be the same core (the main one sleeps at the prompt)
    eal = [binary, "--no-pci", *memory, "--no-telemetry", "--lcores", f"0@{cores[0]},1@{cores[1]}", "-n", "4"]
    options = [f"--forward-mode={setting.mode}", f"--burst={setting.burst}", "--total-num-mbufs=16384"]
    for name, value in (("mbcache", setting.mbcache), ("rxd", setting.rxd), ("txd", setting.txd)):
        if value is not None:
            options.append(f"--{name}={value}")
    return [*eal, *(f"--vdev={device}" for device in devices), "--", "-i", *options]


def _remedy(said: str) -> str:
    """What to do about the way testpmd failed to start."""
    for sign, remedy in (
        ("hugepage", "echo 512 > /proc/sys/vm/nr_hugepages"),
        ("mbuf pool", "echo 512 > /proc/sys/vm/nr_hugepages"),
        ("memory", "echo 512 > /proc/sys/vm/nr_hugepages"),
        ("ermission", "run as root"),
        ("net_pcap", "apt-get install dpdk librte-net-pcap23 (the pcap driver)"),
        ("lcore", "give cores this process may use"),
    ):
        if sign in said:
            return remedy
    return "run it by hand to see more"
