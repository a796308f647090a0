"""Placement on described machines; pinning against the scheduler's own account in /proc."""

import os
import subprocess
import threading
from pathlib import Path

import pytest

from wirespeed.eal import cores, numa
from wirespeed.errors import ConfigError, WirespeedError

EVERYTHING_BUT_ISOLATED = (0, 1, 2, 4, 5, 6)


def in_a_thread(function):
    """Run it in a thread of its own, so that its pin dies with it."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function()))
    thread.start()
    thread.join()
    return result[0]


def core(index, node=0, isolated=False, siblings=None):
    return cores.Core(index, node, isolated, siblings or (index,))


def test_online_is_what_getconf_says():
    count = subprocess.run(["getconf", "_NPROCESSORS_ONLN"], capture_output=True, text=True, check=True).stdout
    assert len(cores.online()) == int(count)


def test_allowed_is_the_affinity_mask():
    assert set(cores.allowed()) == os.sched_getaffinity(0)


def test_node_of_agrees_with_lscpu():
    rows = subprocess.run(["lscpu", "-p=CPU,NODE"], capture_output=True, text=True, check=True).stdout
    for row in rows.splitlines():
        if not row.startswith("#"):
            index, _, node = row.partition(",")
            assert cores.node_of(int(index)) == int(node or 0)


def test_pin_is_for_this_thread_only_and_undone():
    before = os.sched_getaffinity(0)
    target = max(before)

    def pinned():
        mask = cores.pin(target)
        listed = Path(f"/proc/self/task/{threading.get_native_id()}/status").read_text()
        inside = next(line.split()[1] for line in listed.splitlines() if line.startswith("Cpus_allowed_list"))
        cores.unpin(mask)
        return mask, inside, os.sched_getaffinity(0)

    mask, inside, after = in_a_thread(pinned)
    assert (mask, inside, after) == (before, str(target), before)
    assert os.sched_getaffinity(0) == before


def test_threads_avoid_cores_but_those_that_have_no_others_and_those_that_are_pinned():
    before = os.sched_getaffinity(0)
    closed = {max(before)}
    others = before - closed or before
    asked, told = threading.Event(), threading.Event()
    masks = []

    def waiting():
        cores.pin(max(before))
        told.set()
        asked.wait(10)
        masks.append(os.sched_getaffinity(0))

    thread = threading.Thread(target=waiting)
    thread.start()
    told.wait(10)

    def avoiding(taken):
        kept = cores.avoid(taken)
        try:
            return os.sched_getaffinity(0), os.sched_getaffinity(threading.main_thread().native_id)
        finally:
            cores.restore(kept)

    try:
        assert in_a_thread(lambda: avoiding(closed)) == (others, others)
        assert in_a_thread(lambda: avoiding(before | {max(before) + 1})) == (before, before)
    finally:
        asked.set()
        thread.join()
    assert masks == [closed]
    assert os.sched_getaffinity(0) == before


def test_who_was_pinned_meanwhile_stays_pinned():
    before = os.sched_getaffinity(0)
    if len(before) == 1:
        pytest.skip("there is one core only")

    def pinned_meanwhile():
        kept = cores.avoid({min(before)})
        os.sched_setaffinity(0, {min(before)})
        cores.restore(kept)
        return os.sched_getaffinity(0)

    assert in_a_thread(pinned_meanwhile) == {min(before)}
    assert os.sched_getaffinity(0) == before


@pytest.mark.parametrize("absent", [-1, 1000, 1 << 40])
def test_pin_to_an_absent_core_names_what_there_is(absent):
    with pytest.raises(WirespeedError, match=rf"to core {absent}: .*online are 0.*choose one of these"):
        cores.pin(absent)


def test_two_sockets_are_read(two_sockets):
    found = cores.usable(two_sockets, EVERYTHING_BUT_ISOLATED)
    assert found[3] == cores.Core(3, 1, True, (3, 7))
    assert [node.cores for node in numa.nodes(two_sockets)] == [(0, 1, 4, 5), (2, 3, 6, 7)]


def test_isolated_cores_are_usable_although_not_in_the_mask(two_sockets):
    assert [c.index for c in cores.usable(two_sockets, EVERYTHING_BUT_ISOLATED)] == list(range(8))


def test_a_narrowed_mask_is_obeyed(two_sockets):
    assert [c.index for c in cores.usable(two_sockets, (1, 2))] == [1, 2]


@pytest.mark.parametrize(
    ("workers", "node", "chosen"),
    [
        (0, None, ()),
        (1, None, (3,)),  # isolated
        (2, None, (3, 7)),  # an isolated hyper-thread before a core that everyone uses
        (3, 0, (3, 7, 1)),
        (3, 1, (3, 7, 2)),
        (5, None, (3, 7, 1, 2, 4)),  # whole cores, then siblings of busy ones
    ],
)
def test_choice_on_two_sockets(two_sockets, workers, node, chosen):
    placement = cores.choose(workers, node, cores.usable(two_sockets, EVERYTHING_BUT_ISOLATED))
    assert (placement.control, placement.workers, placement.shared) == (0, chosen, False)


def test_hyper_thread_of_the_control_core_comes_last():
    machine = (
        core(0, siblings=(0, 2)),
        core(1, siblings=(1, 3)),
        core(2, siblings=(0, 2)),
        core(3, siblings=(1, 3)),
    )
    assert cores.choose(3, cores=machine).workers == (1, 2, 3)


def test_a_full_machine_gives_the_control_core_last():
    placement = cores.choose(2, cores=(core(0), core(1)))
    assert (placement.workers, placement.shared) == ((1, 0), True)
    assert "one worker shares the control core" in placement.why


def test_too_few_cores_wrap():
    placement = cores.choose(5, cores=(core(0), core(1)))
    assert placement.workers == (1, 0, 1, 0, 1)
    assert "5 workers share 2 cores" in placement.why
    assert cores.choose(2, cores=(core(4),)).workers == (4, 4)


def test_why_names_a_node_that_is_too_small():
    assert "not all on node 1" in cores.choose(1, 1, (core(0), core(1))).why


@pytest.mark.parametrize(("workers", "machine"), [(-1, (core(0),)), (1, ())])
def test_nothing_to_place_is_refused(workers, machine):
    with pytest.raises(ConfigError, match="cannot place"):
        cores.choose(workers, cores=machine)
