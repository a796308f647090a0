"""Locks that processes share: in nodes, from control code, across processes, and after a kill -9 of the holder."""

import os
import select
import signal
import subprocess
import sys
import threading

import pytest

import wirespeed as ws
from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED, kernel, load64, store64
from wirespeed.mem.locks import (
    MAX_CONTROL,
    Holder,
    LockError,
    RwLock,
    RwUser,
    SpinLock,
    SpinUser,
    TicketLock,
    TicketUser,
)
from wirespeed.sync.waiting import identity

ROUNDS = 100_000 if COMPILED else 200
KINDS = [SpinLock, TicketLock, RwLock]


@kernel
def count_spin(lock, word, rounds):
    for _ in range(rounds):
        SpinUser(lock).lock()
        store64(word, load64(word) + 1)
        SpinUser(lock).unlock()


@kernel
def count_ticket(lock, word, rounds):
    for _ in range(rounds):
        TicketUser(lock).lock()
        store64(word, load64(word) + 1)
        TicketUser(lock).unlock()


@kernel
def count_rw(lock, word, rounds):
    for _ in range(rounds):
        RwUser(lock).lock()
        store64(word, load64(word) + 1)
        RwUser(lock).unlock()
        RwUser(lock).read_lock()
        RwUser(lock).read_unlock()


@kernel
def read_for_ever(lock):
    RwUser(lock).read_lock()


@kernel
def draw_only(lock):
    """A waiter: has a ticket, is not served."""
    user = TicketUser(lock)
    user.owner = identity()
    from_lock = user.to_lock
    user.ticket = load64(lock + from_lock) + 1
    store64(lock + from_lock, load64(lock + from_lock) + 1)


COUNT = {SpinLock: count_spin, TicketLock: count_ticket, RwLock: count_rw}

THEIRS = """
import sys
sys.path.insert(0, {here!r})
import test_locks as t
from wirespeed.mem.state import Counter
from wirespeed.mem.locks import *
lock = {kind}.attach("test-lock", {pid}, writable=True)
{what}
"""


@pytest.fixture(autouse=True)
def apart(tmp_path, monkeypatch):
    """A directory of our own."""
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))


def other(kind, what):
    """A process that has attached the lock and does ``what``; prints, and ends when its input ends."""
    code = THEIRS.format(here=os.path.dirname(__file__), kind=kind.__name__, pid=os.getpid(), what=what)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )


def kill(process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdin.close()
    process.stdout.close()


@pytest.fixture(params=KINDS, ids=lambda kind: kind.KIND)
def lock(request):
    lock = request.param("test-lock")
    yield lock
    lock.close()


def test_control_code_takes_it(lock):
    assert repr(lock) == f"<{lock.KIND} test-lock: free>"
    with lock:
        mine = lock.holder
        assert mine == Holder(os.getpid(), threading.get_native_id(), alive=True)
        assert str(mine) in repr(lock)
        with pytest.raises(LockError, match="this thread has it already"):
            lock.acquire()
    assert not lock.locked
    with pytest.raises(LockError, match="does not have it"):
        lock.release()
    assert lock.stats().dead == ()


def test_another_thread_waits_or_gives_up(lock):
    errors = []

    def late():
        try:
            lock.acquire(timeout_s=0.01)
        except LockError as error:
            errors.append(str(error))

    with lock:
        thread = threading.Thread(target=late)
        thread.start()
        thread.join()
    assert len(errors) == 1
    assert f"still held by thread {threading.get_native_id()} of process {os.getpid()} after 0.01 s" in errors[0]
    with lock:
        pass


def test_workers_and_control_code_count_exactly(lock):
    with ws.counter() as word:
        work = COUNT[type(lock)]
        rounds = ROUNDS // 50 if isinstance(lock, TicketLock) else ROUNDS
        threads = [
            threading.Thread(target=work, args=(lock.address + i * lock.stride, word.address, rounds)) for i in (0, 1)
        ]
        for thread in threads:
            thread.start()
        for _ in range(50):
            with lock:
                store64(word.address, load64(word.address) + 1)
        for thread in threads:
            thread.join()
        assert load64(word.address) == 2 * rounds + 50


@pytest.mark.skipif(not COMPILED, reason="interpreted, a step is atomic between the threads of one process only")
def test_two_processes_count_exactly(lock):
    with ws.counter("test-word") as word:
        rounds = ROUNDS // 50 if isinstance(lock, TicketLock) else ROUNDS
        what = f"""
fd = open("/proc/{os.getpid()}/fd/{word.region.fd}", "r+b")
import mmap, ctypes
memory = mmap.mmap(fd.fileno(), {word.region.size})
address = ctypes.addressof(ctypes.c_char.from_buffer(memory))
from wirespeed.jit import register
register(address, {word.region.size}, "word")
print("ready", flush=True)
t.COUNT[type(lock)](lock.address, address, {rounds})
for _ in range(20):
    with lock:
        t.store64(address, t.load64(address) + 1)
print(lock.stats(), flush=True)
"""
        process = other(type(lock), what)
        assert process.stdout.readline() == "ready\n"
        COUNT[type(lock)](lock.address, word.address, rounds)
        assert "dead=()" in process.communicate()[0]
        assert process.returncode == 0
        assert load64(word.address) == 2 * rounds + 20


HOLD = "lock.acquire(); print('held', flush=True); sys.stdin.read()"


def test_a_killed_holder_is_told_and_broken(lock):
    process = other(type(lock), HOLD)
    assert process.stdout.readline() == "held\n"
    assert lock.holder == Holder(process.pid, process.pid, alive=True)
    assert lock.break_dead() == 0
    watch = os.pidfd_open(process.pid)
    process.send_signal(signal.SIGKILL)
    select.select([watch], [], [])
    os.close(watch)
    assert not lock.holder.alive  # a zombie: nobody has waited for it yet
    kill(process)
    gone = Holder(process.pid, process.pid, alive=False)
    assert lock.stats().dead == (gone,)
    with pytest.raises(LockError, match=f"thread {process.pid} of process {process.pid}, which has ended"):
        lock.acquire()
    assert lock.break_dead() == 1
    with lock:
        assert lock.stats().dead == ()
    assert lock.break_dead() == 0


def test_a_killed_reader_is_taken_out():
    with RwLock("test-lock") as lock:
        lock.release()
        process = other(RwLock, "t.read_for_ever(lock.address); print('reads', flush=True); sys.stdin.read()")
        assert process.stdout.readline() == "reads\n"
        lock.read_lock()
        assert lock.readers == 2
        lock.read_unlock()
        kill(process)
        with pytest.raises(LockError, match=r"still held by readers after 0\.01 s"):
            lock.acquire(timeout_s=0.01)
        assert [gone.pid for gone in lock.stats().dead] == [process.pid]
        assert lock.break_dead() == 1
        assert lock.readers == 0
        lock.acquire()


def test_killed_waiters_are_skipped():
    with TicketLock("test-lock") as lock:
        what = "t.draw_only(lock.address); print('waits', flush=True); sys.stdin.read()"
        processes = [other(TicketLock, what) for _ in range(2)]
        for process in processes:
            assert process.stdout.readline() == "waits\n"
        for process in processes:
            kill(process)
        lock.release()
        assert len(lock.stats().dead) == 2
        assert lock.break_dead() == 2
        lock.acquire()


def test_read_only_looks_but_does_not_take():
    lock = SpinLock("test-lock")
    code = """
looker = type(lock).attach("test-lock", lock.owner)
print(looker.holder == lock.holder, flush=True)
try:
    looker.acquire()
except Exception as error:
    print(error, flush=True)
"""
    with lock:
        said = other(type(lock), code).communicate()[0]
    lock.close()
    assert said.splitlines()[0] == "True"
    assert "attached read-only" in said


def test_processes_that_left_make_room(lock):
    for _ in range(10):
        type(lock).attach("test-lock", writable=True).close()
    taken = [type(lock).attach("test-lock", writable=True) for _ in range(7)]
    with pytest.raises(TableError, match="8 processes use it already"):
        type(lock).attach("test-lock", writable=True)
    for each in taken:
        each.close()


def test_attached_as_another_kind(lock):
    wrong = next(kind for kind in KINDS if kind is not type(lock))
    with pytest.raises(ArenaError, match=f"is of kind {lock.KIND}, not {wrong.KIND}"):
        wrong.attach("test-lock")


def test_too_many_control_threads(lock):
    for user in lock._control:
        user.owner = 1 << 40
    with pytest.raises(TableError, match=f"{MAX_CONTROL} threads of this process want it already"):
        lock.acquire()


def test_readers_in_control_code():
    lock = RwLock()
    with lock.reading():
        assert lock.readers == 1
        assert lock.stats().readers == 1
        with pytest.raises(LockError, match="does not have it"):
            lock.release()
    assert lock.readers == 0
    lock.close()


def test_in_a_graph():
    gate = ws.SpinLock()
    seen = ws.counter()

    @ws.node
    def look(pkt):
        gate.lock()
        seen.add(1)
        gate.unlock()

    graph = ws.Graph()
    graph.add(ws.port("generator:flows=4,count=500") >> look >> ws.port("sink"))
    ws.run(graph)
    assert seen.value == 500
    assert not gate.locked
    gate.close()
