"""vhost_user against a guest, and a front end, that break the rules: each is stopped with a reason, nothing is touched
outside its memory (interpreted, every access is checked) and the next one is served."""

import mmap
import os
import random
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import needs_compiler
from vhost_guest import AVAIL, BASIC, BUFFERS, GUEST, INDIRECT, NEXT, SIZE, USED, USER, WRITE, Guest, eventually

from wirespeed.ports.port import port
from wirespeed.ports.vhost.channel import Channel
from wirespeed.ports.vhost.messages import (
    HEADER,
    REPLY,
    VERSION,
    MemoryRegion,
    Message,
    Request,
    VringAddress,
    VringState,
    pack_memory,
    pack_slot,
    pack_u64,
    pack_vring_fd,
)
from wirespeed.ports.vhost.port import VhostUser
from wirespeed.ports.virtio.features import Feature

SPLIT, PACKED = BASIC | Feature.MRG_RXBUF, BASIC | Feature.MRG_RXBUF | Feature.RING_PACKED
ROUNDS = int(os.environ.get("WIRESPEED_FUZZ", "150"))
END = GUEST + SIZE


@pytest.fixture
def at(tmp_path: Path) -> Path:
    return tmp_path / "vm.sock"


@pytest.fixture
def device(at: Path, pool) -> Iterator[VhostUser]:
    made = port(f"vhost_user:{at}")
    assert isinstance(made, VhostUser)
    made.open(pool, 1, 1)
    yield made
    made.close()


@pytest.fixture
def connect(at: Path, device: VhostUser) -> Iterator[Callable[..., Guest]]:
    """Make guests; the one before has gone when the next comes."""
    made: list[Guest] = []

    def make(features: int = SPLIT) -> Guest:
        if made:
            made[-1].leave()
            eventually(lambda: device.session is None, "the guest before to be gone")
        made.append(Guest(str(at), features))
        return made[-1]

    yield make
    if made:
        made[-1].leave()


def said(device: VhostUser) -> str:
    return "\n".join(f"{event.kind}: {event.text}" for event in device.events.since(0))


def works(connect, device, worker, features: int = SPLIT) -> None:
    """The next guest, which behaves, is served."""
    guest = connect(features).start()
    guest.send(b"\2" * 60)
    got = worker.burst(device)
    assert [worker.packet(desc) for desc in got] == [b"\2" * 60]
    guest.give(100)
    assert worker.send(device, got) == 1
    assert [data for _, data in guest.received()] == [b"\2" * 60]


# Rings ---------------------------------------------------------------------------------------------------


def descriptor(guest: Guest, ring: int, entry: int, address: int, length: int, flags: int, last: int = 0) -> None:
    """Write a descriptor of either layout; ``last``: its id, or the next one's index."""
    record = guest.rings[ring]
    if record.packed:
        word = struct.pack("<QIHH", address, length, last, flags | AVAIL)
    else:
        word = struct.pack("<QIHH", address, length, flags, last)
    guest.write(record.at + entry * 16, word)


def jump(guest: Guest, ring: int) -> None:
    guest.write(guest.rings[ring].driver + 2, struct.pack("<H", 65))


def head(guest: Guest, ring: int) -> None:
    guest.rings[ring].announce(64)


def one(address: int, length: int, flags: int = 0) -> Callable[[Guest, int], None]:
    def act(guest: Guest, ring: int) -> None:
        descriptor(guest, ring, 0, address, length, flags | (WRITE if ring == 0 and not flags & INDIRECT else 0))
        if not guest.rings[ring].packed:
            guest.rings[ring].announce(0)

    return act


def wrong_way(guest: Guest, ring: int) -> None:
    descriptor(guest, ring, 0, GUEST + BUFFERS, 100, 0 if ring == 0 else WRITE)
    if not guest.rings[ring].packed:
        guest.rings[ring].announce(0)


def loop(guest: Guest, ring: int) -> None:
    flags = NEXT | (WRITE if ring == 0 else 0)
    for entry in range(64):
        descriptor(guest, ring, entry, GUEST + BUFFERS, 100, flags, 0 if entry else 1)
    if not guest.rings[ring].packed:
        guest.rings[ring].announce(0)


def next_outside(guest: Guest, ring: int) -> None:
    descriptor(guest, ring, 0, GUEST + BUFFERS, 100, NEXT | (WRITE if ring == 0 else 0), 64)
    guest.rings[ring].announce(0)


def nested(guest: Guest, ring: int) -> None:
    flags = INDIRECT | (WRITE if ring == 0 else 0)
    last = (0, flags) if guest.rings[ring].packed else (flags, 0)
    guest.write(BUFFERS, struct.pack("<QIHH", GUEST + BUFFERS, 16, *last))
    one(GUEST + BUFFERS, 16, INDIRECT)(guest, ring)


def empty(guest: Guest, ring: int) -> None:
    descriptor(guest, ring, 0, GUEST + BUFFERS, 0, WRITE)
    if not guest.rings[ring].packed:
        guest.rings[ring].announce(0)


FAULTS = {
    "outside": (one(END, 100), "leads outside"),
    "below": (one(GUEST - 1, 100), "leads outside"),
    "zero": (one(0, 100), "leads outside"),
    "over the end": (one(END - 50, 100), "leads outside"),
    "last address": (one(2**64 - 1, 100), "leads outside"),
    "wraps": (one(2**64 - 100, 2**32 - 1), "leads outside"),
    "largest": (one(2**63 - 1, 2**32 - 1), "leads outside"),
    "endless length": (one(GUEST, 2**32 - 1), "leads outside"),
    "wrong direction": (wrong_way, "only be written, or the other way round"),
    "loop": (loop, "does not end"),
    "table outside": (one(END, 32, INDIRECT), "leads outside"),
    "table over the end": (one(END - 16, 32, INDIRECT), "leads outside"),
    "table of odd size": (one(GUEST + BUFFERS, 17, INDIRECT), "impossible size"),
    "table of nothing": (one(GUEST + BUFFERS, 0, INDIRECT), "impossible size"),
    "table and more": (one(GUEST + BUFFERS, 16, INDIRECT | NEXT), "impossible size"),
    "huge table": (one(GUEST, 2**32 - 16, INDIRECT), "impossible size"),
    "table in a table": (nested, "inside another"),
}
SPLIT_FAULTS = {
    "index jumped": (jump, "jumped"),
    "head outside": (head, "index lies outside"),
    "next outside": (next_outside, "index lies outside"),
}


@pytest.mark.parametrize("ring", [0, 1])
@pytest.mark.parametrize("name", [*FAULTS, *SPLIT_FAULTS, "empty"])
def test_a_ring_that_breaks_the_rules_is_stopped(connect, device, worker, name, ring) -> None:
    for turn, features in enumerate((SPLIT,) if name in SPLIT_FAULTS else (SPLIT, PACKED)):
        act, reason = {**FAULTS, **SPLIT_FAULTS, "empty": (empty, "no room for a byte")}[name]
        if name == "empty" and ring == 1:
            pytest.skip("an empty packet is no frame, and only looked at by the compiler")  # counted as an error
        guest = connect(features).start()
        act(guest, ring)
        if ring == 1:
            assert worker.burst(device) == []
        else:
            desc = worker.make(b"\2" * 3000)
            assert worker.send(device, [desc]) == 0
            worker.free([desc])
        eventually(lambda: said(device).count(f"ring {ring} is stopped") == turn + 1, "the event")  # noqa: B023
        assert reason in said(device).rpartition(f"ring {ring} is stopped")[2]
        eventually(lambda: readable(guest.rings[ring].err), "the error descriptor")  # noqa: B023
        if ring == 0:  # the other one goes on
            guest.send(b"\2" * 60)
            worker.free(worker.burst(device))
        else:
            guest.give(100)
            assert worker.send(device, [worker.make(b"\2" * 60)]) == 1
        works(connect, device, worker, features)


def readable(fd: int) -> bool:
    try:
        return bool(os.eventfd_read(fd))
    except BlockingIOError:
        return False


def test_a_ring_that_was_stopped_starts_when_it_is_set_up_anew(connect, device, worker) -> None:
    guest = connect().start()
    jump(guest, 1)
    assert worker.burst(device) == []
    eventually(lambda: "ring 1 is stopped" in said(device), "the event")
    guest.rings.pop()
    guest.set_up(1)
    guest.send(b"\2" * 60)
    worker.free(worker.burst(device))
    assert device.stats().rx_packets == 1


@pytest.mark.parametrize("features", [SPLIT, PACKED, SPLIT | Feature.CSUM | Feature.GUEST_CSUM | Feature.EVENT_IDX])
def test_rings_of_anything(connect, device, worker, features) -> None:
    """Ring memory full of almost sense: whatever comes of it, nothing outside is touched and no cell is lost."""
    dice = random.Random(4711)
    guest = connect(features).start()
    near = [GUEST, GUEST + BUFFERS, END - 200, END - 20, END, GUEST - 10, 0, 2**63, 2**64 - 20, USER]
    flags = [0, 0, 0, WRITE, WRITE, NEXT, NEXT | WRITE, INDIRECT, INDIRECT | WRITE, 7, 0xFFFF]
    marks = [AVAIL, AVAIL, AVAIL, USED, 0, AVAIL | USED] if features & Feature.RING_PACKED else [0]
    faults = 0
    for _ in range(ROUNDS):
        for ring in guest.rings:
            words = b""
            for _ in range(64):
                address = dice.choice(near) + dice.randrange(-4, 3000)
                length = dice.choice(
                    [0, 1, 12, 14, 26, 60, 100, 1600, 3000, 70000, 2**31, 2**32 - 1, 16 * dice.randrange(70)]
                )
                extra = dice.choice(flags) | dice.choice(marks)
                parts = (dice.randrange(80), extra) if ring.packed else (extra & 0xFFFF, dice.randrange(66))
                words += struct.pack("<QIHH", address % 2**64, length, *parts)
            guest.write(ring.at, words)
            if dice.random() < 0.5:
                guest.write(BUFFERS, words[: 16 * dice.randrange(1, 60)])
            if not ring.packed:
                heads = struct.pack("<64H", *(dice.randrange(66) for _ in range(64)))
                guest.write(ring.driver + 4, heads)
                (now,) = struct.unpack("<H", guest.read(ring.device + 2, 2))
                guest.write(ring.driver + 2, struct.pack("<H", (now + dice.choice([0, 1, 5, 64, 65])) & 0xFFFF))
        worker.free(worker.burst(device, room=dice.choice([1, 7, 32])))
        sent = [worker.make(bytes(dice.choice([14, 60, 1600, 1601, 5000]))) for _ in range(5)]
        worker.free(sent[worker.send(device, sent) :])
        for number, ring in enumerate(guest.rings):
            record = device.session.vrings[number].record
            if record.fault:
                faults += 1
                guest.tell(Request.SET_VRING_BASE, VringState(number, ring.base).pack())
                guest.tell(Request.SET_VRING_KICK, pack_vring_fd(number), ring.kick)
    assert faults > ROUNDS / 4
    works(connect, device, worker)


@needs_compiler
@pytest.mark.parametrize("features", [SPLIT, PACKED])
def test_memory_that_changes_while_it_is_read(connect, device, worker, features) -> None:
    dice = random.Random(1)
    guest = connect(features).start()
    over = threading.Event()

    def scribble() -> None:
        while not over.is_set():
            for ring in guest.rings:
                at = ring.at + dice.randrange(64) * 16
                guest.write(at + dice.choice([0, 8]), dice.randbytes(8))
                if not ring.packed:
                    guest.write(ring.driver + 2, dice.randbytes(2))

    thread = threading.Thread(target=scribble)
    thread.start()
    until = time.monotonic() + 6  # each reset of a ring waits for its turn beside the thread that scribbles
    for _ in range(2000):
        if time.monotonic() > until:
            break
        worker.free(worker.burst(device))
        sent = [worker.make(bytes(60)) for _ in range(4)]
        worker.free(sent[worker.send(device, sent) :])
        for number, ring in enumerate(guest.rings):
            if device.session.vrings[number].record.fault:
                guest.tell(Request.SET_VRING_BASE, VringState(number, ring.base).pack())
                guest.tell(Request.SET_VRING_KICK, pack_vring_fd(number), ring.kick)
    over.set()
    thread.join()
    works(connect, device, worker)


# Messages ------------------------------------------------------------------------------------------------


def region(guest: int = GUEST, size: int = SIZE, user: int = USER, offset: int = 0) -> MemoryRegion:
    return MemoryRegion(guest, size, user, offset)


SENSELESS: dict[str, tuple[int, bytes, int, str]] = {
    "unknown": (77, b"", 0, "request 77: not agreed on"),
    "not agreed": (Request.SET_LOG_BASE, bytes(16), 1, "SET_LOG_BASE: not agreed on"),
    "too short": (Request.SET_VRING_NUM, bytes(7), 0, "7 bytes"),
    "too long": (Request.SET_OWNER, bytes(1), 0, "1 bytes of payload"),
    "features": (Request.SET_FEATURES, pack_u64(1 << 33), 0, "ACCESS_PLATFORM were not offered"),
    "packed without 1.0": (Request.SET_FEATURES, pack_u64(1 << 34), 0, "VERSION_1 is missing"),
    "protocol": (Request.SET_PROTOCOL_FEATURES, pack_u64(1 << 1), 0, "LOG_SHMFD were not offered"),
    "ring": (Request.SET_VRING_NUM, VringState(2, 64).pack(), 0, "no ring 2"),
    "ring fd": (Request.SET_VRING_KICK, pack_vring_fd(200), 1, "no ring 200"),
    "entries": (Request.SET_VRING_NUM, VringState(0, 0).pack(), 0, "0 entries"),
    "more entries": (Request.SET_VRING_NUM, VringState(0, 65536).pack(), 0, "65536 entries"),
    "no power of two": (Request.SET_VRING_NUM, VringState(0, 60).pack(), 0, "power of two"),
    "ring outside": (
        Request.SET_VRING_ADDR,
        VringAddress(0, USER + SIZE - 64, USER, USER).pack(),
        0,
        "does not lie in",
    ),
    "ring nowhere": (Request.SET_VRING_ADDR, VringAddress(0, 2**64 - 16, USER, USER).pack(), 0, "does not lie in"),
    "used outside": (Request.SET_VRING_ADDR, VringAddress(0, USER, USER + SIZE - 8, USER).pack(), 0, "does not lie in"),
    "odd": (Request.SET_VRING_ADDR, VringAddress(0, USER + 8, USER, USER).pack(), 0, "not aligned to 16"),
    "enable": (Request.SET_VRING_ENABLE, VringState(0, 2).pack(), 0, "neither on nor off"),
    "no memory": (Request.SET_MEM_TABLE, pack_memory([]), 0, "0 regions"),
    "no descriptors": (Request.SET_MEM_TABLE, pack_memory([region()]), 0, "0 file descriptors"),
    "two descriptors": (Request.SET_MEM_TABLE, pack_memory([region()]), 2, "2 file descriptors"),
    "longer than its file": (Request.SET_MEM_TABLE, pack_memory([region(size=SIZE + 1)]), 1, "of a file of"),
    "beyond its file": (Request.SET_MEM_TABLE, pack_memory([region(offset=SIZE)]), 1, "of a file of"),
    "offset wraps": (Request.SET_MEM_TABLE, pack_memory([region(offset=2**64 - SIZE)]), 1, "of a file of"),
    "empty region": (Request.SET_MEM_TABLE, pack_memory([region(size=0)]), 1, "no machine"),
    "huge region": (Request.SET_MEM_TABLE, pack_memory([region(size=1 << 47)]), 1, "no machine"),
    "high region": (Request.SET_MEM_TABLE, pack_memory([region(guest=2**63 - 100)]), 1, "no machine"),
    "wrapping region": (Request.SET_MEM_TABLE, pack_memory([region(guest=2**64 - 4096)]), 1, "no machine"),
    "user wraps": (Request.SET_MEM_TABLE, pack_memory([region(user=2**64 - 4096)]), 1, "beyond the front end's"),
    "overlap": (Request.SET_MEM_TABLE, pack_memory([region(), region(GUEST + 4096, user=1)]), 2, "overlap"),
    "user overlap": (Request.SET_MEM_TABLE, pack_memory([region(), region(1, user=USER + 1)]), 2, "overlap"),
    "slot overlap": (Request.ADD_MEM_REG, pack_slot(region(GUEST + SIZE - 1, user=1)), 1, "overlap"),
    "no such slot": (Request.REM_MEM_REG, pack_slot(region(1)), 0, "no region"),
    "mtu": (Request.NET_SET_MTU, pack_u64(67), 0, "MTU of 67"),
    "kick without": (Request.SET_VRING_KICK, pack_vring_fd(0), 0, "0 file descriptors"),
    "kick with more": (Request.SET_VRING_CALL, pack_vring_fd(0, False), 1, "1 file descriptors"),
}


@pytest.mark.parametrize("name", SENSELESS)
def test_a_message_that_makes_no_sense_ends_the_connection(connect, device, worker, name) -> None:
    request, payload, count, reason = SENSELESS[name]
    before = len(os.listdir("/proc/self/fd"))
    guest = connect().start()
    guest.send(b"\2" * 60)
    fds = [os.dup(guest.fd if "MEM" in Message(request).name else guest.rings[0].kick) for _ in range(count)]
    guest.channel.send(Message(request, payload, tuple(fds)))
    for fd in fds:
        os.close(fd)
    eventually(lambda: "refused: " in said(device), "the refusal")
    assert reason in said(device).rpartition("refused: ")[2]
    assert worker.burst(device) == []  # the ring went with the connection
    works(connect, device, worker)
    guest.fds = []
    eventually(lambda: device.session is not None, "the good guest")
    assert len(os.listdir("/proc/self/fd")) < before + 20


@pytest.mark.parametrize("kind", ["pipe", "file", "socket"])
def test_only_eventfds_notify(connect, device, worker, kind) -> None:
    guest = connect().start()
    fds = list(os.pipe()) if kind == "pipe" else [os.memfd_create("x")]
    if kind == "socket":
        fds.append(socket.socket().detach())
    guest.channel.send(Message(Request.SET_VRING_CALL, pack_vring_fd(0), (fds[-1],)))
    eventually(lambda: "not of an eventfd" in said(device), "the refusal")
    for fd in fds:
        os.close(fd)
    works(connect, device, worker)


def test_a_notification_that_would_block(connect, device, worker) -> None:
    guest = connect().start()
    os.eventfd_write(guest.rings[0].call, 2**64 - 2)
    eventually(lambda: "has filled the counter" in said(device), "the refusal")
    works(connect, device, worker)


def test_memory_is_a_file(connect, device, worker) -> None:
    guest = connect()
    guest.agree()
    read, write = os.pipe()
    guest.channel.send(Message(Request.SET_MEM_TABLE, pack_memory([region()]), (read,)))
    eventually(lambda: "its descriptor is no memory" in said(device), "the refusal")
    os.close(read)
    os.close(write)
    works(connect, device, worker)


def test_memory_is_sealed(connect, device) -> None:
    guest = connect().start()
    with pytest.raises(PermissionError):
        os.ftruncate(guest.fd, 4096)
    assert device.facts()["sealed"] == "yes"


@needs_compiler
def test_memory_that_is_taken_away(connect, device, worker) -> None:
    guest = connect()
    guest.fds.append(plain := os.memfd_create("cannot-be-sealed"))
    os.ftruncate(plain, SIZE)
    guest.agree()
    guest.tell(Request.SET_MEM_TABLE, pack_memory([region()]), plain)
    guest.fd = plain
    guest.memory = mmap.mmap(plain, SIZE)
    for index in (0, 1):
        guest.set_up(index)
    guest.send(b"\2" * 60)
    guest.send(b"\2" * 60)
    worker.free(worker.burst(device, room=1))
    assert device.facts()["sealed"] == "no"
    os.ftruncate(plain, 0)
    worker.free(worker.burst(device))
    desc = worker.make(bytes(60))
    worker.free([desc][worker.send(device, [desc]) :])
    eventually(lambda: "has truncated the memory" in said(device), "the refusal")
    works(connect, device, worker)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (HEADER.pack(1, 2, 0), "version 2"),
        (HEADER.pack(5, VERSION, 1 << 31), "of 2147483648 bytes"),
        (HEADER.pack(1, VERSION | REPLY, 0), "an answer where a question belongs"),
        (b"GET / HTTP/1.1\r\n\r\n", "version"),
        (bytes(100), "version 0"),
    ],
)
def test_what_is_no_message(connect, device, worker, at, data, reason) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(at))
        stranger.sendall(data)
        eventually(lambda: reason in said(device), "the refusal")
    works(connect, device, worker)


def test_half_a_message_and_gone(connect, device, worker, at) -> None:
    with socket.socket(socket.AF_UNIX) as stranger:
        stranger.connect(str(at))
        stranger.sendall(HEADER.pack(8, VERSION, 8) + b"\0\0\0")
    eventually(lambda: "disconnected" in said(device), "the end")
    works(connect, device, worker)


def test_messages_of_anything(connect, device, worker, at) -> None:
    """Sequences of messages with payloads of almost sense: the port outlives them, nothing is left open."""
    dice = random.Random(815)
    works(connect, device, worker)
    fds = len(os.listdir("/proc/self/fd"))
    numbers = [0, 1, 2, 63, 64, 255, 256, 4096, SIZE, GUEST, USER, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    for _ in range(max(20, ROUNDS // 5)):
        guest = connect(dice.choice([SPLIT, PACKED]))
        if dice.random() < 0.7:
            guest.start()
        for _ in range(dice.randrange(1, 12)):
            request = dice.randrange(1, 42)
            good = b"".join(struct.pack("<Q", dice.choice(numbers)) for _ in range(dice.randrange(6)))
            payload = dice.choice([good, dice.randbytes(dice.randrange(300)), pack_memory([region()]), pack_u64(1)])
            carried = tuple(dice.choice([guest.fd, 0]) for _ in range(dice.choice([0, 0, 1, 2])))
            try:
                guest.channel.send(Message(request, payload, carried, VERSION | dice.choice([0, 0, 8])))
            except Exception:  # it was refused and is gone
                break
        if device.session is not None and dice.random() < 0.5:
            worker.free(worker.burst(device))
        eventually_gone(guest.channel, device)
    works(connect, device, worker)
    assert len(os.listdir("/proc/self/fd")) <= fds
    assert "error: " not in said(device)


def eventually_gone(channel: Channel, device: VhostUser) -> None:
    """Leave without a word."""
    channel.close()
    eventually(lambda: device.session is None, "the guest to be gone")
