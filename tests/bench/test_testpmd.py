"""testpmd's text is understood, its command is right, a stand-in takes turns, and the real one runs."""

import shutil
import signal
import sys
from pathlib import Path

import pytest

from wirespeed.bench import testpmd
from wirespeed.bench.capture import write_capture
from wirespeed.bench.errors import BenchError
from wirespeed.bench.prompt import Prompt
from wirespeed.bench.synthetic import forward_frames
from wirespeed.bench.testpmd import Calibration, Setting, Testpmd, calibrate, parse_sent, version

# printed by DPDK 22.11.11 (Debian 12) for "show port stats 0"
STATS = """
  ######################## NIC statistics for port 0  ########################
  RX-packets: 127917472  RX-missed: 0          RX-bytes:  7675048320
  RX-errors: 0
  RX-nombuf:  0
  TX-packets: 127627776  TX-errors: 0          TX-bytes:  7657666560

  Throughput (since last show)
  Rx-pps:     38924470          Rx-bps:  18683745696
  Tx-pps:     38924533          Tx-bps:  18683776288
  ############################################################################
"""

STAND_IN = f"""#!{sys.executable}
import sys
log = open({{log!r}}, "a")
print("testpmd> ", end="", flush=True)
sent = 0
for line in sys.stdin:
    print(line.strip(), file=log, flush=True)
    if line.startswith("show"):
        sent += {{step}}
        print("  TX-packets:", sent, " TX-errors: 0")
    if "nonsense" in line:
        print("Bad arguments")
    print("testpmd> ", end="", flush=True)
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "forward.pcap"
    write_capture(path, forward_frames(8))
    return path


def stand_in(tmp_path: Path, step: int = 1000) -> tuple[str, Path]:
    """A program that answers like testpmd and writes down what it was told."""
    program, log = tmp_path / "stand-in", tmp_path / "log"
    program.write_text(STAND_IN.format(log=str(log), step=step))
    program.chmod(0o755)
    return str(program), log


def test_packets_sent_are_read_from_the_statistics() -> None:
    assert parse_sent(STATS) == 127627776
    with pytest.raises(BenchError, match="no TX-packets"):
        parse_sent("Bad arguments")


def test_the_command(tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, _ = stand_in(tmp_path)
    monkeypatch.setattr(testpmd, "huge_pages_free", lambda: 512)
    command = Testpmd(source, Setting("io", 64, 512, 1024), cores=(0, 1), binary=program).command
    assert command == [
        program, "--no-pci", "--in-memory", "--single-file-segments", "--no-telemetry",
        "--lcores", "0@0,1@1", "-n", "4",
        f"--vdev=net_pcap0,rx_pcap={source},infinite_rx=1",
        "--", "-i", "--forward-mode=io", "--burst=64", "--total-num-mbufs=16384",
        "--mbcache=512", "--rxd=1024",
    ]  # fmt: skip
    monkeypatch.setattr(testpmd, "huge_pages_free", lambda: 3)
    peer = Testpmd(None, Setting(mbcache=None), cores=(0, 0), size=64, binary=program)
    assert peer.command == [
        program, "--no-pci", "--no-huge", "--no-shconf", "-m", "256", "--no-telemetry",
        "--lcores", "0@0,1@0", "-n", "4", "--vdev=net_null0,size=64,copy=1",
        "--", "-i", "--forward-mode=macswap", "--burst=32", "--total-num-mbufs=16384",
    ]  # fmt: skip
    assert "nr_hugepages" in peer.note


def test_each_turn_starts_and_stops_and_the_process_stays(tmp_path: Path, source: Path) -> None:
    program, log = stand_in(tmp_path)
    with Testpmd(source, binary=program) as peer:
        pid = peer.pid
        assert peer.measure(0, 0) > 0 and peer.measure(0, 0) > 0
        peer.change(mode="io", burst=64)
        assert (peer.pid, peer.setting.mode, peer.setting.burst) == (pid, "io", 64)
        with pytest.raises(BenchError, match="refused 'set fwd nonsense'"):
            peer.change(mode="nonsense")
        assert peer.setting.mode == "io"
    turn = ["start", "show port stats 0", "show port stats 0", "stop"]
    assert log.read_text().splitlines() == [*turn, *turn, "set fwd io", "set burst 64", "set fwd nonsense"]
    assert not Path(f"/proc/{pid}").exists()


def test_a_peer_that_sends_nothing_is_no_peer(tmp_path: Path, source: Path) -> None:
    program, log = stand_in(tmp_path, step=0)
    with Testpmd(source, binary=program) as peer, pytest.raises(BenchError, match="sent no packet"):
        peer.measure(0, 0)
    assert log.read_text().splitlines()[-1] == "stop"


def test_missing_things_are_named_with_their_remedy(tmp_path: Path, source: Path) -> None:
    with pytest.raises(BenchError, match=r"no-such-testpmd: not found.*apt-get install dpdk"):
        Testpmd(source, binary="no-such-testpmd")
    with pytest.raises(BenchError, match="apt-get install dpdk"):
        version("no-such-testpmd")
    program, _ = stand_in(tmp_path)
    with pytest.raises(BenchError, match="no such capture"):
        Testpmd(tmp_path / "missing.pcap", binary=program)


def test_a_start_that_fails_says_why_and_leaves_no_process(tmp_path: Path, source: Path) -> None:
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho 'EAL: No free hugepages reported'\nexit 1\n")
    program.chmod(0o755)
    with pytest.raises(BenchError, match=r"ended \(1\).*No free hugepages.*echo 512 > /proc"):
        Testpmd(source, binary=str(program)).__enter__()


def test_a_child_that_will_not_leave_is_ended_by_its_own_id() -> None:
    code = "import signal as s; s.signal(s.SIGTERM, s.SIG_IGN); print('> ', flush=True); s.pause()"
    with Prompt([sys.executable, "-c", code], "> ", patience=0.05) as stubborn:
        stubborn.read()
    assert stubborn.child.returncode == -signal.SIGKILL


def test_calibration_says_what_it_took() -> None:
    slow, fast = Setting(burst=32), Setting(burst=64, mbcache=None)
    found = Calibration(fast, {slow: 30e6, fast: 31e6})
    assert str(found) == (
        "taken: macswap, burst 64, mbcache default (tried macswap, burst 32, mbcache 512: 30.0 Mpps; "
        "macswap, burst 64, mbcache default: 31.0 Mpps)"
    )


@pytest.mark.skipif(shutil.which("dpdk-testpmd") is None, reason="dpdk-testpmd is not installed (apt-get install dpdk)")
def test_the_real_one_forwards(source: Path) -> None:
    assert version().startswith("DPDK 2")
    with Testpmd(source) as peer:
        assert peer.measure(0.05, 0.01) > 0
        peer.change(mode="io")
        assert peer.measure(0.05, 0.01) > 0
    with Testpmd(None) as peer:
        assert peer.measure(0.05, 0.01) > 0
    found = calibrate(source, bursts=(32, 64), caches=(512,), rounds=1, seconds=0.05)
    assert found.best in found.figures and len(found.figures) == 2
