"""The memif bench's arithmetic: turns of one distance are compared, and nothing else."""

from wirespeed.bench.hop import hop_ns
from wirespeed.bench.port_memif import Turn, _rows_of


def test_distance() -> None:
    assert Turn(1.0, 60, 70).distance == "near"
    assert Turn(1.0, 260, 240).distance == "far"
    assert Turn(1.0, 60, 240).distance == ""


def test_rows_compare_one_distance(monkeypatch) -> None:
    monkeypatch.setattr("wirespeed.bench.port_memif.version", lambda: "DPDK 1")
    ours = [Turn(40.0, 60, 60), Turn(10.0, 250, 250), Turn(99.0, 60, 250), Turn(12.0, 250, 250)]
    theirs = [Turn(20.0, 60, 60), Turn(11.0, 250, 250), Turn(1.0, 250, 60)]
    found = [(row.metric, row.value, row.peer_value, row.ratio) for row in _rows_of("echo", ours, theirs)]
    assert found == [("echo, cores near", 40.0, 20.0, 2.0), ("echo, cores far", 11.0, 11.0, 1.0)]
    (row,) = _rows_of("echo", ours[2:3], [])
    assert row.ratio is None


def test_a_core_is_next_to_itself() -> None:
    assert hop_ns(0, 0) == 0.0
