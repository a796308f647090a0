"""memif: memory that is not what it seems, and ends of connections in which something hangs. Nothing stays behind, and
nobody waits for a peer."""

import contextlib
import fcntl
import mmap
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from memif_peer import ACK, RawClient, closing, event, init, up
from netns import eventually

from wirespeed.jit import COMPILED, kernel, load64
from wirespeed.mem.pool import Pool
from wirespeed.ports.memif.memory import LentRegion
from wirespeed.ports.memif.messages import Init, Refusal
from wirespeed.ports.port import port
from wirespeed.sync.rcu import GraceTimeout

_HUGE = 2 << 20


@pytest.fixture
def path(tmp_path: Any) -> str:
    """A socket's path."""
    return str(tmp_path / "memif.sock")


@pytest.fixture
def server(pool: Pool, path: str) -> Iterator[Any]:
    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    with closing(made):
        yield made


def _huge_file(pages: int) -> int:
    try:
        fd = os.memfd_create("lent", os.MFD_ALLOW_SEALING | os.MFD_HUGETLB)
        os.ftruncate(fd, pages * _HUGE)
        os.posix_fallocate(fd, 0, pages * _HUGE)
    except OSError:
        pytest.skip("no huge pages reserved")
    return fd


def _mapped() -> list[str]:
    """Mappings of what was lent to us, and reservations without access."""
    with open("/proc/self/maps") as maps:
        return [line.split()[0] for line in maps if "memfd:lent" in line or " ---p " in line]


# Memory ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [3 * 4096 + 128, 4 * 4096, 4097])
def test_a_region_of_odd_size_is_given_back_whole(size: int) -> None:
    fd = os.memfd_create("lent", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 4 * 4096)
    before = _mapped()
    region = LentRegion(fd, size, unsealed=False)
    assert region.size == size
    region.close()
    assert _mapped() == before


def test_a_region_of_a_part_of_a_huge_page() -> None:
    """The kernel maps whole huge pages, whatever it is asked for: what lies behind ours stays what it was."""
    fd = _huge_file(2)
    before = _mapped()
    canary = mmap.mmap(-1, 2 * _HUGE)  # what is mapped next comes to lie below it
    canary.write(b"\xa5" * len(canary))
    region = LentRegion(fd, _HUGE + 4096, unsealed=False)
    for at in range(0, len(canary), 4096):
        assert canary[at] == 0xA5
    region.close()
    canary.close()
    assert _mapped() == before


def test_huge_pages_that_let_nobody_seal_them() -> None:
    fd = _huge_file(1)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_SEAL)
    before = _mapped()
    LentRegion(fd, _HUGE, unsealed=False).close()
    assert _mapped() == before


def test_a_lender_may_lend_to_others_too() -> None:
    """No seal of ours keeps anybody else from mapping its memory."""
    fd = _huge_file(1)
    region = LentRegion(os.dup(fd), _HUGE, unsealed=False)
    mmap.mmap(fd, _HUGE).close()
    region.close()
    os.close(fd)


@pytest.mark.skipif(not COMPILED, reason="interpreted there is no guard")
def test_more_than_can_be_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    fd = _huge_file(1)
    before = _mapped()
    monkeypatch.setattr("wirespeed.ports.memif.memory.guard", lambda *_: -1)
    with pytest.raises(Refusal, match="no more memory can be guarded"):
        LentRegion(fd, _HUGE, unsealed=False)
    assert _mapped() == before


@kernel
def _touch(address):  # type: ignore[no-untyped-def]
    return load64(address)


@pytest.mark.skipif(not COMPILED, reason="interpreted there is no guard")
def test_memory_that_is_taken_away(server: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads as zeros, and the peer is sent away. A file that shrinks does what huge pages do that have run out."""
    server.unsealed = True
    monkeypatch.setattr("wirespeed.ports.memif.memory.fcntl.F_ADD_SEALS", fcntl.F_GET_SEALS)
    with closing(RawClient(path, seal=False)) as raw:
        raw.connect()
        up(server)
        (region,) = server._session.regions
        os.ftruncate(raw.memory.fd, 4096)
        assert _touch(region.address + 8192) == 0
        assert raw.line.refused() == "it took memory away that it had lent"


# The end of a connection -----------------------------------------------------------------------------------


def test_a_bell_that_is_made_to_block_while_we_hang_up(server: Any, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the peer did it between our two system calls; it is empty, so that reading it would wait for ever."""
    with closing(RawClient(path)) as raw:
        raw.connect()
        up(server)
        monkeypatch.setattr(os, "get_blocking", lambda _: False)
        for bell in raw.bells:
            os.set_blocking(bell, True)
        monkeypatch.setattr(os, "set_blocking", lambda *_: None)
    eventually(lambda: not server.busy, "the end")


def test_nobody_is_let_in_while_a_worker_is_still_inside(
    server: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next peer would find records that a worker of the last connection is about to write."""
    hangs = True

    def quiesce() -> None:
        if hangs:
            raise GraceTimeout("a worker did not move")

    monkeypatch.setattr("wirespeed.ports.memif.port._AGAIN_S", 0.01)
    monkeypatch.setattr(server, "quiesce", quiesce)
    with closing(RawClient(path)) as raw:
        raw.connect()
        up(server)
    assert event(server, "error") == "a worker did not move"
    assert not server.link().up
    with closing(RawClient(path)) as next_one:
        next_one.greet()
        assert next_one.line.refused() == "already connected"
    with open("/proc/self/maps") as maps:
        assert "memfd:raw" in maps.read()  # the worker may touch it
    hangs = False
    eventually(lambda: not server.busy, "the worker to move")
    with open("/proc/self/maps") as maps:
        assert "memfd:raw" not in maps.read()
    with closing(RawClient(path)) as last:
        last.connect()
        up(server)


def test_a_port_is_closed_with_a_worker_inside(pool: Pool, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """By then it has stopped: everything is given back at once."""

    def quiesce() -> None:
        raise GraceTimeout("a worker did not move")

    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    monkeypatch.setattr(made, "quiesce", quiesce)
    with closing(RawClient(path)) as raw, closing(made):
        raw.connect()
        up(made)
        raw.memory.close()
    with open("/proc/self/maps") as maps:
        assert "memfd:raw" not in maps.read()


def test_nobody_is_let_in_while_the_port_goes(server: Any, path: str) -> None:
    server._closing = True  # close() has begun, and waits for its turn
    asked = Init(0x200, 0, 0, b"", b"raw")
    with pytest.raises(Refusal):
        server._listener._admit(asked)
    with closing(RawClient(path)) as raw:
        raw.line.receive()
        raw.line.send(init())
        assert raw.line.refused() == "already connected"
        assert raw.line.receive()[0] != ACK


def test_who_connects_and_leaves_in_a_loop(pool: Pool, path: str) -> None:
    """Faster than we accept: the port can be closed all the same."""
    made = port(f"memif:{path},role=server")
    made.open(pool, 1, 1)
    over = threading.Event()

    def knock() -> None:
        while not over.is_set():
            with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as one, contextlib.suppress(OSError):
                one.settimeout(0.1)
                one.connect(path)

    knocking = [threading.Thread(target=knock, daemon=True) for _ in range(2)]
    for each in knocking:
        each.start()
    try:
        eventually(lambda: made._listener._strangers, "somebody at the door")
        made.close()
    finally:
        over.set()
        for each in knocking:
            each.join()
