"""A service between a capture in memory and a sink: what answering costs, without any port.

A thousand clients ask in turn, each at a different address, so that nothing is found by chance. As a program of its own
it prints what one echo costs with some of what makes it fast switched off::

    NUMBA_CPU_NAME=generic python -m wirespeed.bench.serve_memory --seconds 0.5
"""

from __future__ import annotations

import argparse
import contextlib
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

from wirespeed.apps.service import Service
from wirespeed.bench.capture import write_capture
from wirespeed.bench.frames import Frame
from wirespeed.bench.port_turns import rate
from wirespeed.bench.settings import Settings
from wirespeed.bench.synthetic import udp4
from wirespeed.eal.clock import tsc_hz
from wirespeed.ports.port import port

ECHO: int = 7
"""The UDP port asked (RFC 862)."""

_CLIENTS = 1000
_OURS, _THEIRS = "02:00:00:00:00:01", "02:00:00:00:00:02"


def echo(request: Any, reply: Any) -> None:
    """RFC 862."""
    reply.write(request.payload)


@contextlib.contextmanager
def serving(service: Service, **options: Any) -> Iterator[Service]:
    """The service, answering; a thread of its own does what ``run()`` does."""
    service.start(**options)
    over = threading.Event()

    def attend() -> None:
        assert service.engine is not None
        with service.engine.aside():
            while not over.is_set():
                service.poll()

    thread = threading.Thread(target=attend, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        over.set()
        thread.join()
        service.stop()


def requests(settings: Settings, compiled: bool = True, **options: Any) -> float:
    """Requests a second that one worker answers; ``options`` are the engine's."""
    clients = [bytes((10, 7, 1 + number // 250, 1 + number % 250)) for number in range(_CLIENTS)]
    link = bytes.fromhex((_OURS + _THEIRS).replace(":", "") + "0800")
    frames = [link + udp4(each, bytes((10, 7, 0, 1)), 4000, ECHO, bytes(18), b"") for each in clients]
    neighbours = {".".join(map(str, each)): _THEIRS for each in clients}
    with tempfile.TemporaryDirectory(prefix="wirespeed-serve-") as folder:
        path = Path(folder) / "requests.pcap"
        write_capture(path, [Frame(frame, len(frame)) for frame in frames])
        service = Service(f"pcap:{path},loop=yes", "10.7.0.1/16", mac=_OURS, neighbours=neighbours)
        service.output = port("sink:")
        service.udp(ECHO, compiled=compiled)(echo)
        with serving(service, **options):
            return median(_answered(service, settings.seconds) for _ in range(settings.pairs))


def cycles(settings: Settings, **options: Any) -> float:
    """Cycles of one core a request, by the time-stamp counter."""
    return tsc_hz() / requests(settings, **options)


def _answered(service: Service, seconds: float) -> float:
    return rate(lambda: service.output.stats().tx_packets, seconds, lambda: None, lambda: None)


def main() -> None:
    """Print the cycles a request."""
    parser = argparse.ArgumentParser(description="cycles an echo takes in memory")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--pairs", type=int, default=3)
    given = parser.parse_args()
    print(cycles(Settings(quick=given.quick, pairs=given.pairs)))


if __name__ == "__main__":
    main()
