"""The runner of DPDK's own tests: its command, its outcomes, nothing left behind; and the real one once."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from wirespeed.bench import dpdk_test
from wirespeed.bench.dpdk_test import figures, peer, program, recall, run, section, version
from wirespeed.bench.errors import BenchError

# printed by DPDK 22.11.11 (Debian 12), shortened
RING = """ring_perf_autotest

### Testing single element enq/deq ###
legacy APIs: SP/SC: single: 15.75
legacy APIs: MP/MC: single: 21.05

### Testing using two physical cores ###
legacy APIs: SP/SC: bulk (size: 8): 17.97
legacy APIs: MP/MC: bulk (size: 8): 47.52
Test OK
"""

STAND_IN = f"""#!{sys.executable}
import os, signal, sys
log = open({{log!r}}, "a")
print(os.getpid(), os.environ["RUNTIME_DIRECTORY"], *sys.argv[1:], file=log, flush=True)
if "--" in sys.argv:
    print("Lookup: 12.5 cycles")
    sys.exit(int(sys.argv[-1]))
print("RTE>>", end="", flush=True)
for line in sys.stdin:
    word = line.strip()
    print(word, flush=True)
    if word == "good":
        print("Average: 1,234.5 cycles", flush=True)
        print("Test OK")
    elif word == "bad":
        print("it broke")
        print("Test Failed")
    elif word == "shy":
        print("needs 3 cores")
        print("Test Skipped")
    elif word == "endless":
        print("Average: 7 cycles", flush=True)
        signal.pause()
    else:
        print("Command not found")
    print("RTE>>", end="", flush=True)
"""


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """A program that answers like dpdk-test and writes down its id, its folder and its options."""
    path, log = tmp_path / "stand-in", tmp_path / "log"
    path.write_text(STAND_IN.format(log=str(log)))
    path.chmod(0o755)
    log.touch()
    monkeypatch.setattr(dpdk_test, "huge_pages_free", lambda: 512)
    monkeypatch.setattr(dpdk_test, "_turns", {})
    return str(path), log


def left_behind(log: Path) -> list[str]:
    """Processes and folders of past runs that are still there."""
    runs = [line.split()[:2] for line in log.read_text().splitlines()]
    return [there for pid, folder in runs for there in (f"/proc/{pid}", folder) if Path(there).exists()]


def test_the_command(stand_in: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    binary, log = stand_in
    core = min(os.sched_getaffinity(0))
    run("good", binary=binary, cores=(core, core), options=["--single-file-segments"])
    monkeypatch.setattr(dpdk_test, "huge_pages_free", lambda: 511)
    run("good", binary=binary, cores=(core,))
    first, second = (line.split() for line in log.read_text().splitlines())
    name = Path(first[1]).name
    assert first[2:] == [
        "--no-pci", "--in-memory", "-m", "1024", "--no-telemetry", "--lcores", f"0@{core},1@{core}",
        "--file-prefix", name, "--single-file-segments",
    ]  # fmt: skip
    assert second[3:8] == ["--no-huge", "--no-shconf", "-m", "1024", "--no-telemetry"]
    assert first[1] != second[1]
    assert not left_behind(log)


def test_progress_is_told_line_by_line(stand_in: tuple[str, Path]) -> None:
    told: list[str] = []
    text = run("good", binary=stand_in[0], progress=told.append)
    assert "Average: 1,234.5 cycles" in text
    assert told[-2:] == ["Average: 1,234.5 cycles", "Test OK"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("bad", "bad: failed; .*it broke"),
        ("shy", "shy: skipped; .*needs 3 cores"),
        ("what", "has no 'what'.*not found"),
    ],
)
def test_what_is_not_a_result_is_an_error(stand_in: tuple[str, Path], command: str, message: str) -> None:
    with pytest.raises(BenchError, match=message):
        run(command, binary=stand_in[0])
    assert not left_behind(stand_in[1])


def test_it_is_ended_once_the_pattern_is_there(stand_in: tuple[str, Path]) -> None:
    text = run("endless", binary=stand_in[0], until=r"^Average: \d+ cycles$")
    assert figures(text, average=r"^Average: (\d+) cycles$") == {"average": 7}
    assert not left_behind(stand_in[1])
    with pytest.raises(BenchError, match="ended before 'Median' was found"):
        run("good", binary=stand_in[0], until="Median")


def test_it_may_not_take_for_ever(stand_in: tuple[str, Path]) -> None:
    with pytest.raises(BenchError, match=r"not done after 1 s; it last said: .*Average: 7 cycles"):
        run("endless", binary=stand_in[0], timeout_s=1)
    assert not left_behind(stand_in[1])


def test_an_interrupt_leaves_nothing_behind(stand_in: tuple[str, Path]) -> None:
    def interrupt(line: str) -> None:
        if "cycles" in line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("endless", binary=stand_in[0], progress=interrupt)
    assert not left_behind(stand_in[1])


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed (util-linux)")
def test_it_ends_with_us_even_if_we_are_killed(stand_in: tuple[str, Path]) -> None:
    code = (
        "from wirespeed.bench import dpdk_test\n"
        f"dpdk_test.run('endless', binary={stand_in[0]!r}, progress=lambda line: print(line, flush=True))\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "TMPDIR": str(stand_in[1].parent)}
    ours = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment)
    assert ours.stdout is not None
    while "cycles" not in ours.stdout.readline():
        pass
    pid = int(stand_in[1].read_text().split()[0])
    watch = os.pidfd_open(pid)
    ours.send_signal(signal.SIGKILL)
    ours.wait()
    assert select.select([watch], [], [], 10)[0]
    os.close(watch)


def test_turns_are_run_once_and_shared(stand_in: tuple[str, Path]) -> None:
    binary, log = stand_in
    texts = [recall("good", turn, binary=binary) for turn in (0, 1, 0, 1, 0)]
    assert len(set(texts)) == 1 and len(log.read_text().splitlines()) == 2
    recall("good", 0, binary=binary, memory_mib=64)
    assert len(log.read_text().splitlines()) == 3


def test_a_program_runs_to_its_end(stand_in: tuple[str, Path]) -> None:
    binary, log = stand_in
    assert figures(program(binary, ["-n", "0"]), lookup=r"Lookup: ([\d.]+)") == {"lookup": 12.5}
    assert log.read_text().split()[-3:] == ["--", "-n", "0"]
    with pytest.raises(BenchError, match=r"ended \(3\).*Lookup: 12.5 cycles"):
        program(binary, ["3"])
    assert not left_behind(log)


def test_figures_and_sections() -> None:
    two = section(RING, "two physical cores")
    assert figures(two, sp=r"SP/SC: bulk \(size: 8\): ([\d.]+)", mp=r"MP/MC: .*: ([\d.]+)") == {
        "sp": 17.97,
        "mp": 47.52,
    }
    assert section(RING, "single element", "###").count("single") == 2
    assert figures("1,234.5 cycles", cost=r"(.*) cycles") == {"cost": 1234.5}
    with pytest.raises(BenchError, match=r"no figure 'x' \(no such \(\.\)\).*Test OK"):
        figures(RING, x="no such (.)")
    with pytest.raises(BenchError, match="'single', not a number"):
        figures(RING, x="SP/SC: (single)")
    with pytest.raises(BenchError, match="no section 'four cores'"):
        section(RING, "four cores")


def test_missing_things_are_named_with_their_remedy() -> None:
    with pytest.raises(BenchError, match=r"no-such-test: not found.*apt install dpdk-dev"):
        run("ring_perf_autotest", binary="no-such-test")
    with pytest.raises(BenchError, match=r"cores \(4095,\) are not all among"):
        run("ring_perf_autotest", binary=sys.executable, cores=(4095,))


@pytest.mark.skipif(shutil.which("dpdk-test") is None, reason="dpdk-test is not installed (apt install dpdk-dev)")
def test_the_real_one() -> None:
    before = set(Path(tempfile.gettempdir()).glob("wirespeed-dpdk-*"))
    text = run("cpuflags_autotest", memory_mib=64, timeout_s=60)
    assert figures(text, sse=r"Check for SSE(2):.*OK") == {"sse": 2}
    with pytest.raises(BenchError, match="has no 'nonsense_autotest'"):
        run("nonsense_autotest", memory_mib=64, timeout_s=60)
    assert peer("x") == f"{version()} x"
    assert not set(Path(tempfile.gettempdir()).glob("wirespeed-dpdk-*")) - before
