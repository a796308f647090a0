"""memif between two ports of ours: both roles, what is agreed on, packets of all lengths, sleeping, coming back."""

import os
import random
import select
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from memif_peer import RawClient, RawServer, closing, event, hello, up
from netns import eventually

from wirespeed.errors import PortError
from wirespeed.jit import kernel
from wirespeed.mem.buffer import LONGEST
from wirespeed.mem.pool import Cache, Pool
from wirespeed.ports.memif.messages import AddRing, Hello, Init, Refusal, decode, encode
from wirespeed.ports.memif.ring import MemifQueue
from wirespeed.ports.memif.sleep import arm
from wirespeed.ports.port import port


@pytest.fixture
def path(tmp_path: Any) -> str:
    """A socket's path."""
    return str(tmp_path / "memif.sock")


def opened(pool: Pool, spec: str, rx: int = 1, tx: int = 1) -> Any:
    made = port(spec)
    made.open(pool, rx, tx)
    return made


def frame(length: int, seed: int = 0) -> bytes:
    return random.Random(length * 1000 + seed).randbytes(length)


@kernel
def _arm(queue, on):  # type: ignore[no-untyped-def]
    return arm(queue, on)


# Packets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("buffer", [128, 2048])
def test_lengths(pool: Pool, worker: Any, path: str, buffer: int) -> None:
    """Everything from a bare Ethernet header to the longest packet, over one buffer or many, both ways."""
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path},buffer={buffer}")
    with closing(server, client):
        up(server, client)
        lengths = [14, 31, 32, 33, 60, 63, 64, 65, 127, 128, 129, 1514, 1600, 1601, 2048, 2049, 9000]
        if buffer == 2048:
            lengths.append(LONGEST)
        for source, target in ((server, client), (client, server)):
            for length in lengths:
                data = frame(length)
                assert worker.send(source, [worker.make(data)]) == 1
                got = worker.burst(target)
                assert got is not None and [worker.packet(desc) for desc in got] == [data], length
                worker.free(got)
        assert server.stats().tx_packets == client.stats().rx_packets == len(lengths)
        assert server.stats().rx_bytes == client.stats().tx_bytes == sum(lengths)


def test_many_more_packets_than_indexes(pool: Pool, worker: Any, path: str) -> None:
    """Indexes have 16 bits; a ring of 16 slots is filled to the brim again and again."""
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path},size=16,zero_copy=off")
    data = [frame(60 + n) for n in range(20)]
    rounds = 66_000 // 16 if "NUMBA_DISABLE_JIT" not in os.environ else 20
    with closing(server, client):
        up(server, client)
        for source, target in ((server, client), (client, server)):
            for _ in range(rounds):
                descs = [worker.make(each) for each in data]
                assert worker.send(source, descs) == 16
                worker.free(descs[16:])
                assert worker.send(source, []) == 0
                got = worker.burst(target, 10)
                assert got is not None
                more = worker.burst(target, 10)
                assert more is not None
                assert [worker.packet(desc) for desc in got + more] == data[:16]
                worker.free(got + more)
        assert server.stats().rx_packets == client.stats().rx_packets == rounds * 16


def test_a_chain_that_does_not_fit_waits(pool: Pool, worker: Any, path: str) -> None:
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path},size=16,buffer=128")
    with closing(server, client):
        up(server, client)
        for source, target in ((server, client), (client, server)):
            long = worker.make(frame(15 * 128))
            assert worker.send(source, [worker.make(frame(60)), worker.make(frame(61)), long]) == 2
            assert [len(each) for each in worker.packet_list(target)] == [60, 61]
            assert worker.send(source, [long]) == 1
            assert worker.packet_list(target) == [frame(15 * 128)]


def test_rings_are_queues(pool: Pool, worker: Any, path: str) -> None:
    server = opened(pool, f"memif:{path},role=server,rings=3", 3, 3)
    client = opened(pool, f"memif:{path},rings=3", 3, 3)
    with closing(server, client):
        up(server, client)
        for queue in range(3):
            for source, target in ((server, client), (client, server)):
                assert worker.send(source, [worker.make(frame(64, queue))], queue) == 1
                got = worker.burst(target, queue=queue)
                assert got is not None and worker.packet(got[0]) == frame(64, queue)
                worker.free(got)
        assert [each.rx_packets for each in server.queue_stats()] == [1, 1, 1]


def test_a_client_with_more_queues_than_the_server(pool: Pool, worker: Any, path: str) -> None:
    server = opened(pool, f"memif:{path},role=server")
    client = opened(pool, f"memif:{path},rings=2", 2, 2)
    with closing(server, client):
        up(server, client)
        assert "fewer rings" in event(client, "connected")
        desc = worker.make(frame(60))
        assert worker.send(client, [desc], 1) == 0
        worker.free([desc])


def test_nobody_there(pool: Pool, worker: Any, path: str) -> None:
    """Packets are not taken: the worker drops and counts them."""
    with closing(opened(pool, f"memif:{path},role=server")) as server:
        desc = worker.make(frame(60))
        assert worker.send(server, [desc]) == 0
        assert worker.burst(server) == []
        worker.free([desc])
        assert not server.link().up


def test_no_free_cell_leaves_packets_in_the_ring(pool: Pool, worker: Any, path: str) -> None:
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path}")
    with closing(server, client):
        up(server, client)
        assert worker.send(client, [worker.make(frame(9000)), worker.make(frame(60))]) == 2
        taken = pool.get_many(pool.size)
        stack = Cache(worker.cache)
        own, stack.top = stack.top, 0
        assert worker.burst(server) == []
        stack.top = own
        pool.put_many(taken)
        assert worker.packet_list(server) == [frame(9000), frame(60)]


# What is agreed on -----------------------------------------------------------------------------------------


def test_interfaces_share_a_socket(pool: Pool, worker: Any, path: str) -> None:
    servers = [opened(pool, f"memif:{path},role=server,id={number}") for number in (0, 7)]
    clients = [opened(pool, f"memif:{path},id={number}") for number in (0, 7)]
    with closing(*servers, *clients):
        up(*servers, *clients)
        for number, (server, client) in enumerate(zip(servers, clients, strict=True)):
            assert worker.send(client, [worker.make(frame(60, number))]) == 1
            assert worker.packet_list(server) == [frame(60, number)]
        with pytest.raises(PortError, match="id=7 of this socket is another port's"):
            opened(pool, f"memif:{path},role=server,id=7")
    assert not os.path.exists(path)


def test_abstract_socket(pool: Pool, worker: Any) -> None:
    name = f"@ws{os.getpid()}-memif"
    server, client = opened(pool, f"memif:{name},role=server"), opened(pool, f"memif:{name}")
    with closing(server, client):
        up(server, client)
        assert worker.send(client, [worker.make(frame(60))]) == 1
        assert worker.packet_list(server) == [frame(60)]


def test_secrets(pool: Pool, path: str) -> None:
    with closing(opened(pool, f"memif:{path},role=server,secret=open sesame")) as server:
        with closing(opened(pool, f"memif:{path},secret=sesame")) as client:
            assert event(server, "refused") == "wrong secret"
            assert "wrong secret" in event(client, "refused")
        with closing(opened(pool, f"memif:{path}")):
            eventually(lambda: any("required" in e.text for e in server.events.since()), "a secret is required")
        with closing(opened(pool, f"memif:{path},secret=open sesame")) as client:
            up(server, client)


def test_an_unknown_interface_and_one_that_is_taken(pool: Pool, path: str) -> None:
    with closing(opened(pool, f"memif:{path},role=server")) as server:
        with closing(opened(pool, f"memif:{path},id=1")) as client:
            assert "no interface 1" in event(client, "refused")
        with closing(opened(pool, f"memif:{path}")) as first:
            up(server, first)
            with closing(opened(pool, f"memif:{path}")) as second:
                assert "already connected" in event(second, "refused")
            assert first.link().up


@pytest.mark.parametrize(("low", "high"), [(0x100, 0x1FF), (0x201, 0x300)])
def test_versions(pool: Pool, path: str, low: int, high: int) -> None:
    with closing(RawServer(path), opened(pool, f"memif:{path}")) as (server, client):
        server.accept().send(hello(low, high))
        assert "versions" in server.line.refused()
        assert "versions" in event(client, "refused")


def test_a_server_may_want_less(pool: Pool, path: str) -> None:
    with closing(RawServer(path), opened(pool, f"memif:{path},rings=3", 3, 3)) as (server, client):
        server.connect(hello(m2s=1, s2m=0, log2=5))
        up(client)
        assert sorted(server.rings) == [(0, 0), (0, 1), (1, 0)]
        assert {ring.slots for ring in server.rings.values()} == {32}


def test_messages() -> None:
    """Literal bytes: memif.h's packed structures."""
    ring = bytes.fromhex("0500 0100 0200 0300 00100000 0a 0000".replace(" ", "")).ljust(128, b"\0")
    assert decode(ring) == AddRing(1, 2, 3, 4096, 10, 0)
    assert encode(AddRing(1, 2, 3, 4096, 10, 0)) == ring
    said = b"\2\0" + b"dpdk".ljust(32, b"\0") + bytes.fromhex("00020002ff000f000e000e")
    assert decode(said.ljust(128, b"\0")) == Hello(b"dpdk".ljust(32, b"\0"), 0x200, 0x200, 255, 15, 14, 14)
    asked = b"\3\0\0\2\x07\0\0\0\0" + b"secret".ljust(24, b"\0") + b"me".ljust(32, b"\0")
    assert encode(Init(0x200, 7, 0, b"secret", b"me")) == asked.ljust(128, b"\0")
    for bad in (b"", b"\1\0", b"\0" * 128, b"\x09\0".ljust(128, b"\0"), b"\1\0".ljust(129, b"\0")):
        with pytest.raises(Refusal):
            decode(bad)


# Sleeping --------------------------------------------------------------------------------------------------


def _readable(descriptor: int, timeout_ms: int = 0) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_ms))


def test_a_sleeper_is_woken(pool: Pool, worker: Any, path: str) -> None:
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path}")
    with closing(server, client):
        up(server, client)
        for source, target in ((server, client), (client, server)):
            (descriptor,) = target.descriptors(0)
            assert _readable(descriptor)  # somebody has connected
            _arm(target.rx[0], 0)
            assert not _readable(descriptor)
            worker.send(source, [worker.make(frame(60))])
            assert not _readable(descriptor)  # it polls, and wants no notification
            assert _arm(target.rx[0], 1) == 1  # something is there: do not sleep
            _arm(target.rx[0], 0)
            assert worker.packet_list(target) == [frame(60)]
            assert _arm(target.rx[0], 1) == 0
            assert not _readable(descriptor)
            worker.send(source, [worker.make(frame(61))])
            assert _readable(descriptor)
            assert source.extended()["notifications"] == 1
            _arm(target.rx[0], 0)
            assert not _readable(descriptor)
            assert worker.packet_list(target) == [frame(61)]


# Coming and going ------------------------------------------------------------------------------------------


def test_the_client_comes_back(pool: Pool, worker: Any, path: str) -> None:
    with closing(opened(pool, f"memif:{path},role=server")) as server:
        for turn in range(5):
            with closing(opened(pool, f"memif:{path}")) as client:
                up(server, client)
                worker.send(server, [worker.make(frame(60))])  # lost: the client goes with it
                worker.send(client, [worker.make(frame(60, turn))])
                assert worker.packet_list(server) == [frame(60, turn)]
            ends = ["connected", "disconnected"] * (turn + 1)
            eventually(
                lambda ends=ends: not server.busy and [each.kind for each in server.events.since()] == ends,
                "the server to be done with it",
            )
        assert "the port was closed" in event(server, "disconnected")
        assert server.extended()["connections"] == 5


def test_the_server_comes_back(pool: Pool, worker: Any, path: str, open_files: Any) -> None:
    with closing(opened(pool, f"memif:{path}")) as client:
        before = 0
        for turn in range(5):
            eventually(lambda: not client.link().up, "the client to notice")
            with closing(opened(pool, f"memif:{path},role=server")) as server:
                up(server, client)
                worker.send(client, [worker.make(frame(60))])
                worker.send(server, [worker.make(frame(60, turn))])
                assert worker.packet_list(client) == [frame(60, turn)]
            eventually(lambda: not client.link().up, "the client to notice")
            before = before or open_files()
            eventually(lambda most=before: open_files() <= most, "descriptors to be closed")


def mappings() -> int:
    """What this process has mapped for memif ports; another test may have one open."""
    with open("/proc/self/maps") as maps:
        return sum("memif" in line for line in maps)


def test_nothing_is_left_behind(pool: Pool, path: str, open_files: Any) -> None:
    before, mapped = open_files(), mappings()
    server, client = opened(pool, f"memif:{path},role=server"), opened(pool, f"memif:{path}")
    with closing(server, client):
        up(server, client)
    assert open_files() == before
    assert not os.path.exists(path)
    assert mappings() == mapped


def test_the_file_of_a_process_that_died(pool: Pool, path: str) -> None:
    left = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.bind(path)
    left.close()
    with closing(opened(pool, f"memif:{path},role=server")), closing(opened(pool, f"memif:{path}")) as client:
        up(client)


def test_a_stranger_who_says_nothing(pool: Pool, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("wirespeed.ports.memif.server._GREETING_S", 0.05)
    with closing(opened(pool, f"memif:{path},role=server")), closing(RawClient(path)) as stranger:
        assert "too long" in stranger.line.refused()


def test_too_many_strangers(pool: Pool, path: str) -> None:
    with closing(opened(pool, f"memif:{path},role=server")) as server:
        strangers = []
        for _ in range(33):
            made = RawClient(path)
            strangers.append(made)
            kind, _ = made.line.receive()
        assert kind == 8
        for made in strangers:
            made.close()
        until = time.monotonic() + 30
        while not server.link().up and time.monotonic() < until:
            with closing(opened(pool, f"memif:{path}")) as client:
                up(client)
                break


# Bad input -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ("role=master", "role='master' must be client or server"),
        ("rol=client", "did you mean 'role'"),
        ("rings=0", "1 to 64"),
        ("rings=65", "1 to 64"),
        ("size=1000", "power of two"),
        ("size=32768", "power of two"),
        ("size=15", "power of two"),
        ("buffer=100", "128 to 65536"),
        ("buffer=65600", "128 to 65536"),
        ("mode=ip", "ethernet"),
        ("id=-1", "0 to 4294967295"),
        ("zero_copy=perhaps", "must be auto, on or off"),
        ("role=server,zero_copy=on", "the client lends the memory"),
        ("zero_copy=on,buffer=256", "leave buffer=256 away"),
        ("secret=a secret that is much too long", "24 letters"),
    ],
)
def test_options(options: str, says: str) -> None:
    with pytest.raises(PortError, match=says):
        port(f"memif:/run/x.sock,{options}")


@pytest.mark.parametrize("name", ["memif:", "memif:@", f"memif:/{'x' * 110}"])
def test_sockets_that_cannot_be(name: str) -> None:
    with pytest.raises(PortError, match=r"socket"):
        port(name)


def test_a_socket_in_use(pool: Pool, path: str) -> None:
    with closing(RawServer(path)), pytest.raises(PortError, match="another process uses it"):
        opened(pool, f"memif:{path},role=server")


def test_a_folder_that_is_not_there(pool: Pool) -> None:
    with pytest.raises(PortError, match="mkdir -p /nowhere/at/all"):
        opened(pool, "memif:/nowhere/at/all/x.sock,role=server")


def test_facts(pool: Pool, path: str) -> None:
    with closing(opened(pool, f"memif:{path},size=10,id=3")) as client:
        assert client.facts() == {
            "role": "client", "socket": path, "id": "3", "ring": "1024 slots", "buffer": "2048 bytes",
            "zero copy": "no: the rings could hold 1536 of the pool's 2048 cells",
        }  # fmt: skip
        assert "No such file" in eventually(lambda: client.link().detail.partition("server at")[2], "an attempt")
        assert MemifQueue(client.rx[0]).live == 0
