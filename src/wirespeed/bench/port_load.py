"""A source of packets on a core of its own: a packet socket's ring whose slots always hold the same frames.

Each packet is carried to its receiver's socket within the call that sends it, so nothing is lost on the way and the
source is never ahead of the kernel: a steady load, which an XDP program that overruns an interface is not.
"""

from __future__ import annotations

import os
import struct
import threading
from types import TracebackType

from wirespeed.jit import (
    kernel,
    load64,
    load_acquire,
    load_acquire32,
    store64,
    store_release,
    store_release32,
    write_bytes,
)
from wirespeed.jit.libc import sendto
from wirespeed.mem.region import Region
from wirespeed.ports.af_packet.calls import DONT_WAIT
from wirespeed.ports.af_packet.slots import FRAME, Slot
from wirespeed.ports.af_packet.socket import Slots
from wirespeed.ports.netdev import facts, within
from wirespeed.ports.virtio.net import HEADER_BYTES, VirtioNet

_SLOTS, _SLOT_BYTES, _BURST = 1024, 2048, 32
_SOURCE_PORT = 34  # of UDP in an IPv4 frame without options
_FIRST_PORT = 1024
_AT = 8  # in the control memory, behind the word that ends it


@kernel
def _send(control, fd, ring):  # type: ignore[no-untyped-def]
    """Send every slot again and again until told to stop."""
    at = load64(control + _AT)  # the kernel goes on where it stopped, and so must we
    while load_acquire(control) == 0:
        filled = 0
        while filled < _BURST and load_acquire32(ring + at * _SLOT_BYTES) == 0:
            store_release32(ring + at * _SLOT_BYTES, 1)
            at = (at + 1) & (_SLOTS - 1)
            filled += 1
        sendto(fd, 0, 0, DONT_WAIT, 0, 0)
    store64(control + _AT, at)


class Load:
    """Send ``frame`` (UDP over IPv4) out of ``interface`` in ``netns``, from core ``core``, while it is on.

    Args:
        flows: how many source ports take turns, at most 1024.
    """

    def __init__(self, netns: str, interface: str, frame: bytes, core: int, flows: int = 1) -> None:
        self._core = core
        self._control = Region(64, "wirespeed-load", huge=False)
        self._slots = within(netns, lambda: _slots(interface))
        for number in range(_SLOTS):
            slot = self._slots.address + number * _SLOT_BYTES
            source = struct.pack(">H", _FIRST_PORT + number % flows)
            write_bytes(slot + FRAME, frame[:_SOURCE_PORT] + source + frame[_SOURCE_PORT + 2 :])
            VirtioNet(slot + FRAME - HEADER_BYTES).hdr_len = len(frame)
            Slot(slot).length = len(frame) + HEADER_BYTES
        self._thread: threading.Thread | None = None

    def on(self) -> None:
        """Begin to send."""
        store_release(self._control.address, 0)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def off(self) -> None:
        """Send no more."""
        if self._thread:
            store_release(self._control.address, 1)
            self._thread.join()
            self._thread = None

    def _run(self) -> None:
        os.sched_setaffinity(0, {self._core})
        _send(self._control.address, self._slots.fd, self._slots.address)

    def __enter__(self) -> Load:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.off()
        self._slots.close()
        self._control.close()


def _slots(interface: str) -> Slots:
    return Slots("load", _SLOTS, _SLOT_BYTES, facts("load", interface), True)


__all__ = ["Load"]
