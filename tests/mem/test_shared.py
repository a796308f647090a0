"""What another process sees: attaching by name, refusals, the owner's death, names that are used twice."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import wirespeed as ws
from wirespeed.errors import ArenaError, TableError
from wirespeed.mem import directory
from wirespeed.mem.shared import Shared

SOURCES = Path(ws.__file__).parents[1]


@pytest.fixture(autouse=True)
def own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))
    return tmp_path / "run"


@contextlib.contextmanager
def another(code):
    """A second process that runs ``code``, then waits for a line; it has said "ready" when this begins."""
    script = f"import os, sys\nimport wirespeed as ws\n{code}\nprint('ready', flush=True)\nsys.stdin.readline()"
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCES)},
    )  # fmt: skip
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


def tell(process):
    """Let it go on to its end."""
    process.stdin.write("\n")
    process.stdin.flush()
    process.wait()


def test_the_same_bytes():
    with (
        another("c = ws.counter('packets'); c.add(5)\nt = ws.Tally(100, workers=2, name='talkers'); t.add(7, 3)") as it,
        ws.Counter.attach("packets") as counter,
        ws.attach("talkers") as tally,
    ):
        assert (counter.value, counter.owner, counter.alive) == (5, it.pid, True)
        assert isinstance(tally, ws.Tally)
        assert (dict(tally), tally.workers, tally.capacity) == ({7: 3}, 2, 100)
        assert tally.stats().keys == 1


def test_read_only_says_whose_it_is():
    with another("c = ws.counter('packets')") as it, ws.attach("packets") as counter:
        for change in (counter.add, counter.reset):
            with pytest.raises(TableError, match=f"packets belongs to process {it.pid} and is attached read-only"):
                change()
        with pytest.raises(ArenaError, match="a counter has one writer"):
            ws.attach("packets", writable=True)


@pytest.mark.parametrize("ending", ["kill", "exit"])
def test_the_owner_dies_and_its_figures_stay(ending, own_directory):
    with another("c = ws.counter('packets'); c.add(41)") as it, ws.attach("packets") as counter:
        assert counter.alive
        if ending == "kill":
            os.kill(it.pid, signal.SIGKILL)
            it.wait()
        else:
            tell(it)
        assert not counter.alive
        assert counter.value == 41
        with pytest.raises(ArenaError, match="no memory called 'packets' in any running process: there is none"):
            ws.attach("packets")
    assert not list(own_directory.rglob("*.json"))


def test_absent_names_say_what_there_is():
    counter = ws.counter("packets")
    with pytest.raises(ArenaError, match=r"no memory called 'drops' in any running process: there is packets;"):
        ws.attach("drops")
    with pytest.raises(ArenaError, match=r"no memory called 'packets' in process 1:"):
        ws.attach("packets", pid=1)
    counter.close()


def test_two_processes_with_one_name():
    mine = ws.counter("packets")
    with another("c = ws.counter('packets'); c.add(2)") as it:
        with pytest.raises(ArenaError, match=r"2 processes have memory called 'packets': say which, pid="):
            ws.attach("packets")
        with ws.attach("packets", pid=it.pid) as theirs:
            assert (theirs.value, mine.value) == (2, 0)


def test_another_kind_and_another_layout(monkeypatch):
    counter = ws.counter("packets")
    with pytest.raises(ArenaError, match="is of kind counter, not tally: attach it as what it is"):
        ws.Tally.attach("packets")
    monkeypatch.setattr(ws.Counter, "VERSION", 2)
    with pytest.raises(ArenaError, match="has layout 1 of counter, this is wirespeed with layout 2"):
        ws.attach("packets")
    counter.close()


def test_a_class_that_is_not_here():
    class Local(Shared):
        KIND = "local"

        def __init__(self, name):
            self._create(64, name)

    thing = Local("mine")
    with pytest.raises(ArenaError, match=r"'mine' of process \d+ is a local, and .*Local cannot be imported here"):
        ws.attach("mine")
    assert Local.attach("mine").address != thing.address
    thing.close()


@pytest.mark.parametrize("name", ["", "a/b", "../x", ".hidden", "x" * 64, "a b", "ü"])
def test_names_that_cannot_be(name, open_files):
    before = open_files()
    with pytest.raises(ArenaError, match="memory cannot be called"):
        ws.counter(name)
    assert open_files() == before


def test_the_newest_of_a_name_is_found():
    first, second = ws.counter("packets"), ws.counter("packets")
    second.add(9)
    first.close()  # takes its own memory away, not the name
    assert ws.attach("packets").value == 9
    second.close()
    assert not list(directory.entries())


def test_closed_twice_and_dropped(open_files):
    before = open_files()
    counter = ws.counter("packets")
    counter.close()
    counter.close()
    ws.counter("packets")
    copy = None
    with another("c = ws.counter('packets')"):
        copy = ws.attach("packets")
        copy.close()
        copy.close()
        ws.attach("packets")
    assert open_files() == before
    assert not list(directory.entries())


def test_a_number_that_is_used_again(own_directory):
    """What a dead process left is not taken for a living one's of the same number."""
    counter = ws.counter("packets")
    (path,) = own_directory.rglob("packets.json")
    old = msgspec.structs.replace(msgspec.json.decode(path.read_bytes(), type=directory.Entry), name="old", born=1)
    path.with_name("old.json").write_bytes(msgspec.json.encode(old))
    assert [entry.name for entry in directory.entries()] == ["packets"]
    assert [path.name for path in own_directory.rglob("*.json")] == ["packets.json"]
    counter.close()


def test_a_descriptor_that_leads_elsewhere_by_now(own_directory):
    counter = ws.counter("packets")
    (path,) = own_directory.rglob("packets.json")
    entry = msgspec.json.decode(path.read_bytes(), type=directory.Entry)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, fd=0)))
    with pytest.raises(ArenaError, match=r"'packets' of process \d+ was closed just now|cannot attach"):
        ws.attach("packets")
    counter.close()


def test_a_folder_that_others_can_write_is_refused(own_directory):
    own_directory.mkdir(mode=0o777)
    own_directory.chmod(0o777)
    with pytest.raises(ArenaError, match="can be written by others: remove it, or set WIRESPEED_RUN"):
        ws.counter("packets")
    with pytest.raises(ArenaError, match="can be written by others"):
        ws.attach("packets")


def test_rubbish_in_the_folder_is_passed_over(own_directory):
    counter = ws.counter("packets")
    (path,) = own_directory.rglob("packets.json")
    path.with_name("broken.json").write_bytes(b"{")
    (own_directory / "not-a-number").mkdir()
    assert [entry.name for entry in directory.entries()] == ["packets"]
    counter.close()


def test_a_child_leaves_the_listing_alone():
    counter = ws.counter("packets")
    child = os.fork()
    if child == 0:
        counter.close()
        os._exit(0)
    os.waitpid(child, 0)
    assert ws.attach("packets").value == 0
    counter.close()


def test_a_folder_that_goes_while_something_is_listed(own_directory, monkeypatch):
    """The collector may close the last listed object in the middle of listing the next."""
    sweep, times = directory._sweep_own, []

    def and_gone(place, born):
        sweep(place, born)
        if not times:
            times.append(place.rmdir())

    monkeypatch.setattr(directory, "_sweep_own", and_gone)
    with ws.counter("packets"):
        assert [entry.name for entry in directory.entries()] == ["packets"]
    assert len(times) == 1


def test_a_descriptor_that_leads_to_an_empty_pipe_by_now(own_directory, tmp_path):
    """Opening it would wait for a writer."""
    counter = ws.counter("packets")
    os.mkfifo(tmp_path / "pipe")
    pipe = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    (path,) = own_directory.rglob("packets.json")
    entry = msgspec.json.decode(path.read_bytes(), type=directory.Entry)
    inode = os.fstat(pipe).st_ino
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, fd=pipe, inode=inode)))
    with pytest.raises(ArenaError, match=r"'packets' of process \d+ was closed just now"):
        ws.attach("packets")
    os.close(pipe)
    counter.close()


def test_a_module_that_fails_when_imported(tmp_path, monkeypatch, own_directory):
    (tmp_path / "failing.py").write_text("raise SystemExit(3)\n")
    monkeypatch.syspath_prepend(tmp_path)
    counter = ws.counter("packets")
    (path,) = own_directory.rglob("packets.json")
    entry = msgspec.json.decode(path.read_bytes(), type=directory.Entry)
    path.write_bytes(msgspec.json.encode(msgspec.structs.replace(entry, home="failing:Table")))
    with pytest.raises(ArenaError, match="failing:Table cannot be imported here"):
        ws.attach("packets")
    counter.close()
