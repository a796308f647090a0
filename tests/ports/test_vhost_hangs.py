"""vhost_user against a front end that tries to keep it: by eventfds that block, by talking without end, by workers that
are held up. Nothing of ours waits for it for long."""

import os
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import needs_compiler
from vhost_guest import BASIC, GUEST, SIZE, USER, Guest, eventually

from wirespeed.errors import PortError
from wirespeed.ports.port import port
from wirespeed.ports.vhost import memory
from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import MemoryRegion, Message, Request, VhostError
from wirespeed.ports.vhost.port import VhostUser
from wirespeed.ports.virtio.features import Feature
from wirespeed.ports.virtio.socket import Rendezvous
from wirespeed.sync.rcu import GraceTimeout

FULL = 2**64 - 2
DEADLINE_S = 30.0
MERGEABLE = BASIC | Feature.MRG_RXBUF


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "vm.sock"


@pytest.fixture
def device(at: Path, pool) -> Iterator[VhostUser]:
    made = port(f"vhost_user:{at}")
    assert isinstance(made, VhostUser)
    made.open(pool, 1, 1)
    yield made
    in_time(made.close)


@pytest.fixture
def guest(at: Path, device: VhostUser) -> Iterator[Guest]:
    made = Guest(str(at), MERGEABLE).start()
    yield made
    made.leave()


def in_time(function: Callable[[], Any]) -> None:
    """Call it in a thread that may hang without hanging the test."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it hangs"


def fill(fd: int) -> None:
    """Whoever signals this eventfd from now on waits."""
    os.set_blocking(fd, True)
    os.eventfd_write(fd, FULL)


def said(device: VhostUser) -> str:
    return "\n".join(f"{event.kind}: {event.text}" for event in device.events.since(0))


# Eventfds ------------------------------------------------------------------------------------------------


def test_an_error_eventfd_that_blocks(device, guest, worker) -> None:
    fill(guest.rings[1].err)
    guest.rings[1].announce(64)
    assert worker.burst(device) == []
    eventually(lambda: "ring 1 is stopped" in said(device), "the event")
    in_time(device.close)
    eventually(lambda: "wirespeed-signal" not in [each.name for each in threading.enumerate()], "the signal")


def test_a_worker_that_hangs_in_telling_the_guest(device, guest, worker) -> None:
    """Nobody asks the port anything meanwhile."""
    guest.give(100)
    packet = worker.make(bytes(60))
    worker.send(device, [])  # compiled by now: the worker hangs before anybody looks
    fill(guest.rings[0].call)
    in_time(lambda: worker.free([packet][worker.send(device, [packet]) :]))
    eventually(lambda: "has filled the counter" in said(device), "the refusal")


def test_a_worker_that_hangs_is_let_go_before_it_is_waited_for(device, guest, monkeypatch) -> None:
    fill(guest.rings[0].call)
    readable = []
    monkeypatch.setattr(device.session, "_quiesce", lambda: readable.append(os.get_blocking(guest.rings[0].call)))
    guest.tell(Request.SET_VRING_ENABLE, b"\0" * 8)
    assert readable == [False]


# Talking -------------------------------------------------------------------------------------------------


def test_a_front_end_that_talks_without_end(device, guest) -> None:
    def talk() -> None:
        try:
            while True:
                guest.channel.send(Message(Request.SET_OWNER))
        except VhostError:
            pass

    talker = threading.Thread(target=talk)
    talker.start()
    looked = threading.Event()
    device._attendant.call(looked.set)
    assert looked.wait(DEADLINE_S)
    in_time(device.close)
    talker.join()


# Workers that do not come out --------------------------------------------------------------------------


def stuck(times: int) -> Callable[[], None]:
    """A ``quiesce`` that fails so many times."""
    left = iter(range(times))

    def quiesce() -> None:
        if next(left, None) is not None:
            raise GraceTimeout("a worker is stuck")

    return quiesce


@pytest.mark.parametrize("role", ["server", "client"])
def test_a_worker_that_is_still_inside_at_the_end(at, pool, monkeypatch, role) -> None:
    """The connection's memory stays until it is out; then the next one is served."""
    made = port(f"vhost_user:{at},role={role}")
    monkeypatch.setattr(made, "quiesce", stuck(2))
    listener = Rendezvous("test", str(at), True) if role == "client" else None
    made.open(pool, 1, 1)
    if listener is not None:
        for _ in range(2):
            channel = Channel(eventually(listener.meet, "the connection"))
            channel.ask(Message(Request.GET_FEATURES))
            channel.close()
        listener.close()
    else:
        for _ in range(2):
            eventually(lambda: made.session is None, "the one before to be gone")
            guest = Guest(str(at))
            guest.ask(Request.GET_FEATURES)
            guest.leave()
    eventually(lambda: said(made).count("disconnected") == 2, "both ends")
    assert said(made).count("a worker is stuck") == 2
    made.close()


def test_a_request_that_a_stuck_worker_prevents(device, guest, monkeypatch) -> None:
    """It cannot be answered, and what it asked for is half done: the connection ends."""
    monkeypatch.setattr(device.session, "_quiesce", stuck(1))
    with pytest.raises(VhostError, match="closed"):
        guest.tell(Request.SET_VRING_NUM, b"\0\0\0\0\x40\0\0\0")
    eventually(lambda: device.session is None, "the end")
    assert "error: a worker is stuck" in said(device)


# Memory --------------------------------------------------------------------------------------------------


@needs_compiler
def test_memory_that_cannot_be_guarded(guest, monkeypatch) -> None:
    guest.fds.append(plain := os.memfd_create("cannot-be-sealed"))
    os.ftruncate(plain, SIZE)
    monkeypatch.setattr(memory, "guard", lambda *_: -1)
    with pytest.raises(VhostError, match="no more memory can be guarded"):
        memory.map_region(MemoryRegion(GUEST, SIZE, USER, 0), plain)
    memory.map_region(MemoryRegion(GUEST, SIZE, USER, 0), guest.fd).close()  # sealed, it need not be


@needs_compiler
def test_sealed_huge_pages_are_guarded(guest) -> None:
    """F_SEAL_SHRINK lets holes be punched, and a hole in huge pages is filled only while there are some."""
    fd = os.memfd_create("huge", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB | os.MFD_HUGE_2MB)
    guest.fds.append(fd)
    os.ftruncate(fd, 2 << 20)
    try:
        mapped = memory.map_region(MemoryRegion(GUEST, 2 << 20, USER, 0), fd)
    except VhostError as error:
        pytest.skip(f"no huge page is free: {error}")
    assert mapped.sealed
    assert mapped.guard >= 0
    mapped.close()


# The socket ----------------------------------------------------------------------------------------------


def test_a_living_socket_of_another_kind_is_left_alone(at, pool) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.bind(str(at))
        other.listen()
        for driver in ("vhost_user", "virtio_user"):
            with pytest.raises(PortError, match="another program"):
                port(f"{driver}:{at},role=server").open(pool, 1, 1)
            assert at.exists()
