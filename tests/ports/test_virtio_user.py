"""virtio_user: the port, against a back end in plain Python that speaks vhost-user over a real socket."""

import contextlib
import os
import select
import socket
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import eventually
from virtio_device import Device

from wirespeed.errors import PortError
from wirespeed.jit import kernel
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port as make_port
from wirespeed.ports.vhost.channel import Channel, close_all
from wirespeed.ports.vhost.messages import (
    Config,
    Message,
    Request,
    VhostError,
    VringAddress,
    VringState,
    pack_u64,
    unpack_memory,
    unpack_u64,
    unpack_vring_fd,
)
from wirespeed.ports.virtio.features import Feature, ProtocolFeature
from wirespeed.ports.virtio.path import arm
from wirespeed.ports.virtio.record import HEADER, PACKED, VirtioQueue
from wirespeed.sync.rcu import GraceTimeout

FRAME = bytes(range(60))
EVERYTHING = (
    Feature.VERSION_1 | Feature.PROTOCOL_FEATURES | Feature.RING_PACKED | Feature.MRG_RXBUF | Feature.INDIRECT_DESC
    | Feature.EVENT_IDX | Feature.IN_ORDER | Feature.CSUM | Feature.GUEST_CSUM | Feature.HOST_TSO4 | Feature.HOST_TSO6
    | Feature.GUEST_TSO4 | Feature.MAC | Feature.STATUS | Feature.MTU | Feature.MQ | Feature.ACCESS_PLATFORM
)  # fmt: skip
PROTOCOL = (
    ProtocolFeature.MQ | ProtocolFeature.REPLY_ACK | ProtocolFeature.CONFIG | ProtocolFeature.STATUS
    | ProtocolFeature.NET_MTU
)  # fmt: skip
CONFIG = bytes.fromhex("020304050607") + struct.pack("<HHH", 1, 4, 1400)


class BackEnd:
    """Answers one front end, in a thread of its own.

    Attributes:
        said: the requests that came, in order.
        replies: what to answer to a request instead of what is right.
    """

    def __init__(self, path: str, connects: bool, features: Any = EVERYTHING, protocol: Any = PROTOCOL) -> None:
        self.path, self.connects, self.features, self.protocol = path, connects, features, protocol
        self.said: list[Message] = []
        self.states: dict[tuple[int, int], int] = {}
        self.replies: dict[int, Any] = {}
        self.agreed = Feature(0)
        self.ready = threading.Event()
        self.over = threading.Event()
        self.channel: Channel | None = None
        self.failure: Exception | None = None
        self._listener: socket.socket | None = None
        if not connects:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
            self._listener.listen(1)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            if self._listener is not None:
                connected = self._listener.accept()[0]
            else:
                connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
                eventually(lambda: connected.connect_ex(self.path) == 0, "the port listens")
            self.channel = Channel(connected)
            while True:
                message = self.channel.receive()
                if message is None:
                    select.select([self.channel], [], [])
                    continue
                self._answer(message)
        except (OSError, VhostError) as error:
            self.failure = error
        finally:
            self.over.set()

    def _answer(self, message: Message) -> None:
        assert self.channel is not None
        self.said.append(message)
        close_all(message.fds)
        answer = self.replies.get(message.request)
        if answer is None:
            answer = self._right_answer(message)
        if isinstance(answer, Message):
            self.channel.send(answer)
        elif answer:
            self.channel.send(message.reply(answer))
        elif message.needs_reply:
            self.channel.send(message.reply(pack_u64(0)))

    def _right_answer(self, message: Message) -> bytes:
        request, payload = message.request, message.payload
        if request == Request.GET_FEATURES:
            return pack_u64(self.features)
        if request == Request.SET_FEATURES:
            self.agreed = Feature(unpack_u64(payload))
        if request == Request.GET_PROTOCOL_FEATURES:
            return pack_u64(self.protocol)
        if request == Request.GET_QUEUE_NUM:
            return pack_u64(4)
        if request == Request.GET_CONFIG:
            asked = Config.unpack(payload)
            return Config(asked.offset, CONFIG[: len(asked.data)]).pack()
        if request in (Request.SET_VRING_NUM, Request.SET_VRING_BASE, Request.SET_VRING_ENABLE):
            state = VringState.unpack(payload)
            self.states[request, state.index] = state.number
            if request == Request.SET_VRING_ENABLE:
                self.ready.set()
        if request == Request.GET_VRING_BASE:
            return VringState(VringState.unpack(payload).index, 7).pack()
        return b""

    def count(self, request: Request) -> int:
        return sum(message.request == request for message in self.said)

    def leave(self) -> None:
        """Die: the connection breaks."""
        if self.channel is not None:
            with contextlib.suppress(OSError):
                self.channel._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.leave()
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            with contextlib.suppress(OSError):
                os.unlink(self.path)
        self._thread.join()
        if self.channel is not None:
            self.channel.close()


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "vhost.sock")


@pytest.fixture
def back_end(path: str) -> Iterator[Any]:
    """``back_end(connects=..., features=...)``."""
    made: list[BackEnd] = []

    def make(connects: bool = False, **options: Any) -> BackEnd:
        made.append(BackEnd(path, connects, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


@contextlib.contextmanager
def opened(pool: Any, spec: str, rx: int = 1, tx: int = 1) -> Iterator[Any]:
    port = make_port(spec)
    port.open(pool, rx, tx)
    try:
        yield port
    finally:
        port.close()


def kinds(port: Any) -> list[str]:
    return [event.kind for event in port.events.since()]


def live(port: Any) -> bool:
    return all(VirtioQueue(queue).live for queue in (*port.rx, *port.tx))


# Agreeing ------------------------------------------------------------------------------------------------


def test_what_is_said(pool, path, back_end):
    other = back_end()
    with opened(pool, f"virtio_user:{path},offloads=yes,packed=auto") as port:
        assert port.link().up
        assert port.mac == 0x020304050607
        assert port.mtu == 1400
        facts = port.facts()
        assert facts["layout"] == "packed"
        assert "in order" in facts["agreed"]
        assert Offload.TX_CHECKSUM | Offload.MULTI_BUFFER | Offload.ZERO_COPY in port.offloads
        assert kinds(port) == ["connected", "link-up"]
        eventually(other.ready.is_set, "the rings are enabled")
        assert other.agreed & Feature.ACCESS_PLATFORM == 0
        assert other.states[Request.SET_VRING_NUM, 1] == 256
        (memory,) = (each for each in other.said if each.request == Request.SET_MEM_TABLE)
        regions = unpack_memory(memory.payload)
        assert next((each.guest, each.user, each.size) for each in regions) == (
            pool.region.address, pool.region.address, pool.region.size,
        )  # fmt: skip
        assert len(memory.fds) == len(regions) == 2
        for message in other.said:
            if message.request == Request.SET_VRING_ADDR:
                areas = VringAddress.unpack(message.payload)
                for at in (areas.descriptors, areas.used, areas.available):
                    assert regions[1].user <= at < regions[1].user + regions[1].size
            if message.request in (Request.SET_VRING_KICK, Request.SET_VRING_CALL):
                assert unpack_vring_fd(message.payload)[1]
                assert len(message.fds) == 1
    eventually(other.over.is_set, "the connection ends")
    assert other.count(Request.GET_VRING_BASE) == 2


@pytest.mark.parametrize(
    ("options", "absent", "layout"),
    [
        ("packed=no", Feature.RING_PACKED, "split"),
        ("mergeable=no,offloads=yes", Feature.MRG_RXBUF | Feature.GUEST_TSO4, "packed"),
        ("mtu=1500", Feature.MRG_RXBUF | Feature.CSUM, "packed"),
        ("indirect=no", Feature.INDIRECT_DESC, "packed"),
        ("in_order=no", Feature.IN_ORDER, "packed"),
        ("event_index=no", Feature.EVENT_IDX, "packed"),
        (
            "offloads=no,mergeable=yes",
            Feature.CSUM | Feature.GUEST_CSUM | Feature.HOST_TSO4 | Feature.GUEST_TSO4,
            "packed",
        ),
    ],
)
def test_options_leave_features_out(pool, path, back_end, options, absent, layout):
    other = back_end()
    packed = "" if "packed" in options else ",packed=auto"
    with opened(pool, f"virtio_user:{path},{options}{packed}") as port:
        assert other.agreed & absent == 0
        assert port.facts()["layout"] == layout


def test_a_back_end_that_can_little(pool, path, back_end):
    """Without protocol features rings are enabled by their kick, and nothing is acknowledged."""
    other = back_end(features=Feature.VERSION_1)
    with opened(pool, f"virtio_user:{path},mac=02:00:00:00:00:01,mtu=900") as port:
        assert port.link().up
        assert (port.mac, port.mtu) == (0x020000000001, 900)
        eventually(lambda: other.count(Request.SET_VRING_KICK) == 2, "all is said")
        assert other.agreed == Feature.VERSION_1
        assert other.count(Request.SET_VRING_ENABLE) == 0


def test_several_pairs(pool, path, back_end):
    other = back_end()
    with opened(pool, f"virtio_user:{path},queues=3", 3, 2):
        assert other.count(Request.SET_VRING_ENABLE) == 6
        assert other.agreed & Feature.MQ


def test_the_mtu_is_told(pool, path, back_end):
    other = back_end(protocol=ProtocolFeature.NET_MTU)
    with opened(pool, f"virtio_user:{path},mtu=1300") as port:
        assert port.mtu == 1300
        eventually(lambda: other.count(Request.NET_SET_MTU) == 1, "the MTU is told")


@pytest.mark.parametrize(
    ("options", "request_", "answer", "reason"),
    [
        ("packed=yes", Request.GET_FEATURES, pack_u64(Feature.VERSION_1), "does not offer RING_PACKED"),
        ("queues=1", Request.GET_FEATURES, pack_u64(Feature.RING_PACKED), "does not offer VERSION_1"),
        ("queues=2", Request.GET_QUEUE_NUM, pack_u64(1), "ask for queues=1"),
        ("queues=1", Request.GET_FEATURES, b"short", "5 bytes of payload"),
        (
            "queues=1",
            Request.GET_FEATURES,
            Message(Request.GET_QUEUE_NUM, bytes(8), flags=5),
            "was answered by GET_QUEUE_NUM",
        ),
        ("queues=1", Request.SET_MEM_TABLE, pack_u64(1), "SET_MEM_TABLE failed there"),
        ("queues=1", Request.SET_VRING_KICK, pack_u64(12), "SET_VRING_KICK failed there (12)"),
        ("queues=1", Request.GET_CONFIG, bytes(2000), "a message of 2000 bytes"),
        ("queues=1", Request.GET_CONFIG, bytes(100), "configuration space"),
    ],
)
def test_a_back_end_that_is_refused(pool, path, back_end, options, request_, answer, reason):
    other = back_end()
    other.replies[request_] = answer
    pairs = 2 if options == "queues=2" else 1
    with opened(pool, f"virtio_user:{path},{options}", pairs, pairs) as port:
        assert not port.link().up
        assert reason in port.link().detail
        assert kinds(port) == ["refused"]
        assert not live(port)
    eventually(other.over.is_set, "the connection ends")


def test_a_back_end_that_speaks_unasked(pool, path, back_end):
    other = back_end()
    with opened(pool, f"virtio_user:{path}") as port:
        other.channel.send(Message(Request.IOTLB_MSG, bytes(8)))
        eventually(lambda: "refused" in kinds(port), "it is sent away")
        assert "IOTLB_MSG without being asked" in port.link().detail
        assert not live(port)


# Moving packets, coming and going ------------------------------------------------------------------------


def _exchange(worker: Any, port: Any) -> None:
    """One packet each way."""
    mode = VirtioQueue(port.rx[0]).mode
    incoming, outgoing = Device(VirtioQueue(port.rx[0])), Device(VirtioQueue(port.tx[0]))
    assert bool(mode & PACKED) == (port.facts()["layout"] == "packed")
    assert worker.burst(port) == []
    buffer = incoming.take()
    assert buffer is not None
    buffer.put(bytes(10) + b"\1\0" + FRAME)
    incoming.give((buffer, HEADER + 60))
    assert worker.send(port, worker.burst(port)) == 1
    sent = outgoing.take()
    assert sent is not None
    assert sent.data()[HEADER:] == FRAME


@pytest.mark.parametrize("role", ["client", "server"])
def test_a_peer_comes_and_goes(pool, worker, path, back_end, role):
    """Whichever role; what was given to the peer comes back when it leaves, and the next one starts afresh."""
    made = [] if role == "server" else [back_end()]
    with opened(pool, f"virtio_user:{path},role={role}") as port:
        for turn in range(5):
            if turn or role == "server":
                assert not port.link().up
                assert worker.burst(port) == []
                made.append(back_end(connects=role == "server"))
            eventually(lambda: live(port), "connected")
            _exchange(worker, port)
            assert pool.in_use == 256
            made[-1].leave()
            eventually(lambda: pool.in_use == 0, "the cells come back")
            if role == "client":
                made[-1].close()
        assert port.extended()["connections"] == 5
        assert kinds(port).count("disconnected") == 5
        assert worker.burst(port) == []


def test_a_second_peer_is_sent_away(pool, worker, path, back_end):
    with opened(pool, f"virtio_user:{path},role=server") as port:
        first = back_end(connects=True)
        eventually(lambda: live(port), "connected")
        second = back_end(connects=True)
        eventually(second.over.is_set, "it is sent away")
        assert not first.over.is_set()
        _exchange(worker, port)


def test_cells_come_back_at_close(pool, worker, path, back_end):
    back_end()
    with opened(pool, f"virtio_user:{path},size=64") as port:
        _exchange(worker, port)
        assert pool.in_use == 64


def test_a_device_that_lies_is_sent_away(pool, worker, path, back_end):
    """A worker finds it out; control code says why, and takes the cells back."""
    other = back_end()
    with opened(pool, f"virtio_user:{path},in_order=no,packed=no") as port:
        worker.burst(port)
        Device(VirtioQueue(port.rx[0])).give_raw(999, 100)
        assert worker.burst(port) == []
        eventually(other.over.is_set, "it is sent away")
        eventually(lambda: pool.in_use == 0, "the cells come back")
        assert port.link().detail == "it used a buffer that does not exist"
        assert "refused" in kinds(port)


@kernel
def _arm(queue, on):  # type: ignore[no-untyped-def]
    return arm(queue, on)


def test_a_descriptor_to_sleep_on(pool, worker, path, back_end):
    back_end()
    with opened(pool, f"virtio_user:{path}") as port:
        (fd,) = port.descriptors(0)
        assert select.select([fd], [], [], 0)[0]  # the connection itself rouses a worker
        _arm(port.rx[0], 0)
        assert not select.select([fd], [], [], 0)[0]
        os.eventfd_write(VirtioQueue(port.rx[0]).call, 1)
        assert select.select([fd], [], [], 0)[0]


# A device that tries to keep us ---------------------------------------------------------------------------

FULL = 2**64 - 2
DEADLINE_S = 30.0


def in_time(function: Any) -> None:
    """Call it in a thread that may hang without hanging the test."""
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    thread.join(DEADLINE_S)
    assert not thread.is_alive(), "it hangs"


def test_an_eventfd_to_wake_us_that_blocks(pool, path, back_end):
    back_end()
    with opened(pool, f"virtio_user:{path}") as port:
        call = VirtioQueue(port.rx[0]).call
        os.set_blocking(call, True)
        in_time(lambda: _arm(port.rx[0], 0))


def test_a_worker_that_hangs_in_telling_the_device(pool, worker, path, back_end):
    back_end()
    with opened(pool, f"virtio_user:{path}") as port:
        record = VirtioQueue(port.tx[0])
        Device(record).wants_kicks(True)
        packet = worker.make(FRAME)
        worker.send(port, [])  # compiled by now: the worker hangs before anybody looks
        os.eventfd_write(record.kick, FULL)
        os.set_blocking(record.kick, True)
        in_time(lambda: worker.free([packet][worker.send(port, [packet]) :]))
        eventually(lambda: "it made an eventfd blocking" in port.link().detail, "it is sent away")
        eventually(lambda: pool.in_use == 0, "the cells come back")


def test_answers_with_file_descriptors(pool, path, back_end, open_files):
    other = back_end()
    fds = (os.memfd_create("one"), os.memfd_create("two"))
    other.replies[Request.GET_FEATURES] = Message(Request.GET_FEATURES, pack_u64(EVERYTHING), fds, flags=5)
    with opened(pool, f"virtio_user:{path}") as port:
        assert "was answered with file descriptors" in port.link().detail
        eventually(other.over.is_set, "the connection ends")
        assert not [fd for fd in os.listdir("/proc/self/fd") if int(fd) not in fds and _is_memfd(fd)]
    for fd in fds:
        os.close(fd)


def _is_memfd(fd: str) -> bool:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/self/fd/{fd}").startswith(("/memfd:one", "/memfd:two"))
    return False


def test_a_listener_that_accepts_nobody(pool, path):
    """Its backlog is full: that is nobody there, not a wait."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(path)
        listener.listen(0)
        for _ in range(2):
            waiting = stack.enter_context(socket.socket(socket.AF_UNIX))
            waiting.setblocking(False)
            waiting.connect_ex(path)

        def open_and_close() -> None:
            with opened(pool, f"virtio_user:{path}") as port:
                assert not port.link().up

        in_time(open_and_close)


def test_nobody_comes_while_workers_are_inside(pool, worker, path, back_end, monkeypatch):
    """The cells of the connection before are still the device's; its place is free when they are back."""
    stuck = threading.Event()

    def quiesce() -> None:
        if not stuck.is_set():
            raise GraceTimeout("a worker is stuck")

    with opened(pool, f"virtio_user:{path},role=server") as port:
        monkeypatch.setattr(port, "quiesce", quiesce)
        first = back_end(connects=True)
        eventually(lambda: live(port), "connected")
        _exchange(worker, port)
        first.leave()
        eventually(lambda: "error" in kinds(port), "the worker is waited for")
        second = back_end(connects=True)
        eventually(second.over.is_set, "it is sent away")
        assert pool.in_use == 256
        stuck.set()
        eventually(lambda: pool.in_use == 0, "the cells come back")
        back_end(connects=True)
        eventually(lambda: live(port), "connected")
        _exchange(worker, port)


def test_who_hangs_up_is_not_called_at_once(pool, path, back_end, monkeypatch):
    pauses: list[float] = []
    with opened(pool, f"virtio_user:{path}") as port:
        monkeypatch.setattr(port, "_later", pauses.append)
        other = back_end()
        eventually(lambda: live(port), "connected")
        other.leave()
        eventually(lambda: pauses, "what comes next")
        assert pauses[0] >= 0.1


def test_nothing_is_left(pool, worker, path, back_end, open_files):
    before, threads = open_files(), threading.active_count()
    other = back_end()
    with opened(pool, f"virtio_user:{path}") as port:
        _exchange(worker, port)
    other.close()
    assert (open_files(), threading.active_count()) == (before, threads)
    with opened(pool, f"virtio_user:{path},role=server"):
        assert os.path.exists(path)
    assert not os.path.exists(path)
    assert (open_files(), threading.active_count()) == (before, threads)


# Bad input -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("role=master", "must be client or server"),
        ("packed=maybe", "must be auto, yes or no"),
        ("mergeable=perhaps", "must be auto, yes or no"),
        ("queues=0", "must be 1 to 64"),
        ("queues=65", "must be 1 to 64"),
        ("size=8", "must be a power of two, 16 to 32768"),
        ("size=100", "must be a power of two, 16 to 32768"),
        ("size=65536", "must be a power of two, 16 to 32768"),
        ("mtu=10", "must be 68 to 65521"),
        ("mtu=9000,mergeable=no", "say mergeable=yes"),
        ("mac=nonsense", "mac"),
        ("mergable=no", "did you mean 'mergeable'?"),
    ],
)
def test_options_that_cannot_be(options, text):
    with pytest.raises(PortError, match=text.replace("?", r"\?")):
        make_port(f"virtio_user:/tmp/x.sock,{options}")


def test_paths_that_cannot_be(pool, tmp_path):
    (tmp_path / "file").write_text("")
    for path, text in (
        (tmp_path / "none" / "x.sock", "mkdir -p"),
        (tmp_path / "file", "no socket"),
        (tmp_path / ("x" * 200), "1 to 107 bytes"),
    ):
        with pytest.raises(PortError, match=text), opened(pool, f"virtio_user:{path}"):
            pass


def test_a_socket_in_use(pool, path):
    with opened(pool, f"virtio_user:{path},role=server"):
        with pytest.raises(PortError, match="another program listens"), opened(pool, f"virtio_user:{path},role=server"):
            pass
        assert os.path.exists(path)


def test_a_socket_that_was_left(pool, path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as left:
        left.bind(path)
    with opened(pool, f"virtio_user:{path},role=server"):
        pass
