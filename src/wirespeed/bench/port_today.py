"""What users have today: packets a second that the kernel forwards, and that Python moves by a socket or by scapy.

Rows beside which a port's forwarding stands. All under the same load on veths made alike:

- the kernel routes between two veths, on the core that the load's interrupts come to;
- a plain Python loop on a packet socket: receive, swap the addresses, send;
- scapy's own loop on its socket: receive and dissect, swap, build and send.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from wirespeed.bench.port_turns import Switch, rate
from wirespeed.bench.result import Row
from wirespeed.bench.veths import Veths
from wirespeed.ports.netdev import within

_ETH_P_ALL = 3


def kernel_rate(veths: Veths, source: Switch, seconds: float) -> float:
    """Packets a second that reach the right host, routed by the middle's kernel; the source sends to it."""

    def count() -> int:
        return int(veths.inside(veths.right, "cat", "/sys/class/net/eth0/statistics/rx_packets"))

    return rate(count, seconds, source.on, source.off)


def socket_rate(netns: str, interface: str, core: int, source: Switch, seconds: float) -> float:
    """Packets a second that a plain Python loop echoes on ``core``."""

    def run(stop: threading.Event, count: list[int]) -> None:
        made = within(netns, lambda: _packet_socket(interface))
        with made:
            buffer = bytearray(2048)
            while not stop.is_set():
                try:
                    got = made.recv_into(buffer)
                except TimeoutError:
                    continue
                buffer[0:6], buffer[6:12] = buffer[6:12], buffer[0:6]
                made.send(memoryview(buffer)[:got])
                count[0] += 1

    return _loop(run, core, source, seconds)


def scapy_rate(netns: str, interface: str, core: int, source: Switch, seconds: float) -> float | None:
    """The same of scapy; None where it is not installed."""
    try:
        from scapy.config import conf
        from scapy.layers.l2 import Ether  # noqa: F401  (its sockets know Ethernet once this is imported)
    except ImportError:
        return None

    def run(stop: threading.Event, count: list[int]) -> None:
        made: Any = within(netns, lambda: conf.L2socket(iface=interface))
        made.ins.settimeout(0.1)
        try:
            while not stop.is_set():
                try:
                    packet = made.recv()
                except (TimeoutError, BlockingIOError):
                    continue
                if packet is not None:
                    packet.src, packet.dst = packet.dst, packet.src
                    made.send(packet)
                    count[0] += 1
        finally:
            made.close()

    return _loop(run, core, source, seconds)


def _loop(run: Callable[[threading.Event, list[int]], None], core: int, source: Switch, seconds: float) -> float:
    """Packets a second that ``run`` counts in a thread of its own on ``core``."""
    stop, count = threading.Event(), [0]

    def pinned() -> None:
        os.sched_setaffinity(0, {core})
        run(stop, count)

    thread = threading.Thread(target=pinned)

    def begin() -> None:
        thread.start()
        time.sleep(0.2)
        source.on()

    def end() -> None:
        stop.set()
        source.off()
        thread.join()

    return rate(lambda: count[0], seconds, begin, end)


def _packet_socket(interface: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
    made.bind((interface, _ETH_P_ALL))
    made.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    made.settimeout(0.1)
    return made


def rows(bench: str, ours: float, found: dict[str, float | None]) -> list[Row]:
    """A row for each way of today that was measured, beside our forwarding."""
    return [
        Row(bench, "forward, 64 B, beside today's ways", "packets/s", ours, name, value, ours / value)
        for name, value in found.items()
        if value
    ]


__all__ = ["kernel_rate", "rows", "scapy_rate", "socket_rate"]
