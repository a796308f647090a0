"""Sections: cycles of a part of a node, per worker, from control code and in a graph."""

import pytest

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel
from wirespeed.mem.section import Section, SectionStats, SectionView


@kernel
def run(address, rounds):
    total = 0
    for turn in range(rounds):
        SectionView(address).begin()
        total += turn
        SectionView(address).end()
    return total


def test_each_worker_has_a_line():
    section = Section()
    assert section.stats() == SectionStats(0, 0, 0, (0,))
    assert section.stats().cycles_per_call == 0.0
    run(section.address, 10)
    run(section.address + 2 * section.stride, 5)
    found = section.stats()
    assert found.calls == 15
    assert len(found.by_worker) == 3
    assert found.by_worker[1] == 0
    assert sum(found.by_worker) == found.cycles >= found.longest_cycles > 0
    assert found.cycles_per_call == found.cycles / 15
    assert "15 calls of" in repr(section)
    section.reset()
    assert section.stats().calls == 0
    section.close()


def test_an_end_without_a_beginning_is_ignored():
    section = Section()
    section.end()
    assert section.stats().calls == 0
    section.begin()
    section.begin()  # the last one counts
    section.end()
    section.end()
    assert section.stats().calls == 1
    section.close()


def test_control_code(tmp_path, monkeypatch):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path))
    section = Section("test-section")
    with section:
        pass
    found = section.stats()
    assert (found.calls, found.by_worker) == (1, (0,))
    there = Section.attach("test-section")
    assert there.stats() == found
    for change in (there.reset, there.begin, there.end, there.__enter__):
        with pytest.raises(TableError, match="attached read-only"):
            change()
    there.close()
    section.close()


def test_in_a_graph():
    section = ws.Section()

    @ws.node
    def look(pkt):
        section.begin()
        length = pkt.length
        section.end()
        if length < 0:
            return

    graph = ws.Graph()
    graph.add(ws.port("generator:flows=4,count=500") >> look >> ws.port("sink"))
    ws.run(graph)
    found = section.stats()
    assert found.calls == 500
    assert not COMPILED or found.cycles_per_call < 100_000
    section.close()
