"""The peers for one question: how many DNS queries did each client send, in this capture?

**The question**, so that everybody counts the same. A DNS query is a frame with

- Ethernet II, no VLAN tag, type 0x0800 or 0x86DD;
- IPv4: protocol 17, fragment offset 0, total length 0 (segmentation offload) or at least the IP header
  and 8 bytes of UDP header; IPv6: next header 17 (no extension headers before it);
- UDP with destination port 53, wholly captured up to its 8-byte header. Nothing of the payload is looked at.

The client is the source address (4 or 16 bytes). :data:`FILTER` says the same to libpcap, but for two
corners no capture of ours holds: a UDP header cut off behind its port, and an IPv6 payload length of 1 to 7.

**The peers**

- tcpdump with ``--count``: libpcap reads, its filter (interpreted BPF) matches, nothing is printed. It
  counts all matches in one number, where we count per client, so it does *less work than we do*; it is
  the fastest that tcpdump has (``-w /dev/null`` and printing are slower), hence the stated peer.
- dpkt: the loop one writes (:mod:`wirespeed.bench.dpkt_count`), on the first megabytes of the capture,
  scaled by packets: the whole gigabyte would take minutes. Only the loop is timed, not the start.

Both run as a child process, pinned to one core, one thread.
"""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from wirespeed.bench.capture import Capture
from wirespeed.bench.errors import BenchError

FILTER = "udp dst port 53 and (ip6 or ip[2:2] = 0 or ip[2:2] >= 4 * (ip[0] & 15) + 8)"
"""The question in libpcap's words (pcap-filter(7)); the length test runs on matches only."""

DPKT_SAMPLE_BYTES = 32_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What a peer answered: seconds for the whole capture, its packets, the queries found in all."""

    seconds: float
    packets: int
    queries: int
    clients: Counter[bytes] | None = field(default=None, repr=False)
    """Queries per client; None from a peer that only counts them all."""
    scaled_from: int | None = None
    """Packets of the slice really read; then `queries` and `clients` are the slice's. None: all were read."""


def tcpdump_version() -> str:
    """Such as ``tcpdump 4.99.3, libpcap 1.10.3``."""
    run = subprocess.run([_tcpdump(), "--version"], capture_output=True, text=True, check=False)
    words = re.findall(r"^(tcpdump|libpcap) version (\S+)", run.stdout + run.stderr, re.MULTILINE)
    return ", ".join(f"{name} {version}" for name, version in words)


def tcpdump_count(capture: Capture, core: int | None = None, filter_: str = FILTER) -> Answer:
    """tcpdump's fastest: read, filter, count all matches in one number. Times the whole process."""
    seconds, out = _timed([_tcpdump(), "-r", str(capture.path), "--count", filter_], core)
    found = re.match(r"(\d+) packet", out)
    if not found:
        raise BenchError(f"tcpdump on {capture.path}: no count in its output {out[:200]!r}; it needs 4.99 or newer")
    return Answer(seconds, capture.packets, int(found[1]))


def tcpdump_write(capture: Capture, core: int | None = None, filter_: str = FILTER) -> Answer:
    """tcpdump writing the matches to /dev/null, for comparison; it tells no count (`queries` is -1)."""
    command = [_tcpdump(), "-r", str(capture.path), "-w", "/dev/null", filter_]
    return Answer(_timed(command, core)[0], capture.packets, -1)


def dpkt_count(capture: Capture, core: int | None = None, sample: int = DPKT_SAMPLE_BYTES) -> Answer:
    """dpkt's loop over the first `sample` bytes; `seconds` is scaled to all packets of the capture."""
    if importlib.util.find_spec("dpkt") is None:
        raise BenchError("dpkt: not installed, so there is no such peer; pip install dpkt")
    script = Path(__file__).with_name("dpkt_count.py")
    _, out = _timed([sys.executable, "-P", str(script), str(capture.path), str(sample)], core)
    found = json.loads(out)
    seconds, packets = float(found["seconds"]), int(found["packets"])
    if not packets:
        raise BenchError(f"dpkt on {capture.path}: no packet in the first {sample} bytes; give a larger sample")
    clients = Counter({bytes.fromhex(address): n for address, n in found["clients"].items()})
    scaled = packets if packets < capture.packets else None
    return Answer(seconds * capture.packets / packets, capture.packets, clients.total(), clients, scaled)


def read_ahead(capture: Capture) -> None:
    """Read the file once, so that every side finds it in the page cache and nobody measures the disk."""
    with capture.path.open("rb") as file:
        while file.read(1 << 22):
            pass


def _tcpdump() -> str:
    found = shutil.which("tcpdump")
    if not found:
        raise BenchError("tcpdump: not found, so libpcap cannot be the peer; apt-get install tcpdump")
    return found


def _timed(command: list[str], core: int | None) -> tuple[float, str]:
    """Run `command` pinned to `core`; seconds from start to end, and what it printed."""
    before = os.sched_getaffinity(0)
    try:
        if core is not None:
            os.sched_setaffinity(0, {core})  # inherited; the calling thread only, and only until the start
        start = time.perf_counter()
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        os.sched_setaffinity(0, before)
    with child:
        try:
            out, errors = child.communicate()
        except BaseException:
            child.kill()
            raise
    seconds = time.perf_counter() - start
    if child.returncode:
        reason = errors.strip().splitlines()[-1:] or ["no message"]
        raise BenchError(f"{' '.join(command)}: ended with {child.returncode} ({reason[0]}); run it by hand")
    return seconds, out
