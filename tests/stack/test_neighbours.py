"""The neighbour table, driven by hand: no clock, no packets."""

import pytest

from wirespeed.stack.neighbours import REACHABLE_S, RETRY_S, TRIES, Neighbours, State

A, B, C, D = 0x0A010002, 0x0A010003, 0x0A010004, 0x0A010005
MAC, OTHER = 0x0200_0000_000A, 0x0200_0000_000B


class Recorder:
    """Effects, written down."""

    def __init__(self):
        self.asked, self.sent, self.lost, self.installed = [], [], [], {}
        self.room = True

    def solicit(self, neighbour):
        self.asked.append((neighbour.address, neighbour.mac))

    def reachable(self, neighbour, held):
        if self.room:
            self.installed[neighbour.address] = neighbour.mac
            self.sent += held
        return self.room

    def gone(self, neighbour, held):
        self.installed.pop(neighbour.address, None)
        self.lost += held


@pytest.fixture
def effects():
    return Recorder()


@pytest.fixture
def table(effects):
    return Neighbours(effects, limit=3, held=2)


def test_resolved_packets_go_in_order(table, effects):
    table.resolve(A, 0, b"1", 0.0)
    table.resolve(A, 0, b"2", 0.1)
    assert effects.asked == [(A, 0)]
    assert table.get(A).state is State.INCOMPLETE
    table.heard(A, 0, MAC, 0.2, create=False)
    assert effects.sent == [b"1", b"2"]
    assert effects.installed == {A: MAC}
    assert table.get(A).state is State.REACHABLE
    assert table.stats.resolved == 1


def test_what_is_held_is_bounded_and_the_latest_stay(table, effects):
    """RFC 1122 section 2.3.2.2."""
    for number in range(5):
        table.resolve(A, 0, b"%d" % number, 0.0)
    table.heard(A, 0, MAC, 0.2, create=False)
    assert effects.sent == [b"3", b"4"]
    assert table.stats.held_dropped == 3


def test_three_requests_a_second_apart_and_then_it_is_unreachable(table, effects):
    table.resolve(A, 0, b"1", 0.0)
    for tick in range(1, 40):
        table.tick(tick * 0.1)
        assert len(effects.asked) == min(1 + int(tick * 0.1 / RETRY_S), TRIES)
        assert len(table) == (tick * 0.1 < TRIES * RETRY_S)
    assert effects.lost == [b"1"]
    assert table.stats.unreachable == 1


def test_a_stale_neighbour_is_used_while_it_is_asked(table, effects):
    table.heard(A, 0, MAC, 0.0, create=True)
    table.tick(REACHABLE_S - 0.1)
    assert effects.asked == []
    table.tick(REACHABLE_S)
    assert table.get(A).state is State.STALE
    assert effects.asked == [(A, MAC)]
    assert effects.installed == {A: MAC}
    table.heard(A, 0, MAC, REACHABLE_S + 0.1, create=False)
    assert table.get(A).state is State.REACHABLE
    table.tick(REACHABLE_S + 5)
    assert len(effects.asked) == 1


def test_a_stale_neighbour_that_does_not_answer_goes(table, effects):
    table.heard(A, 0, MAC, 0.0, create=True)
    for second in range(TRIES + 1):
        table.tick(REACHABLE_S + second * RETRY_S)
    assert table.get(A) is None
    assert effects.installed == {}
    assert effects.asked == [(A, MAC)] * TRIES


def test_answers_that_nobody_asked_for_are_not_learned(table, effects):
    table.heard(A, 0, MAC, 0.0, create=False)
    assert len(table) == 0
    assert effects.installed == {}


def test_a_neighbour_that_moved(table, effects):
    table.heard(A, 0, MAC, 0.0, create=True)
    table.heard(A, 0, OTHER, 1.0, create=False)
    assert effects.installed == {A: OTHER}
    assert table.stats.moved == 1
    table.heard(A, 1, MAC, 2.0, create=True)  # from another port: not believed
    assert effects.installed == {A: OTHER}


def test_a_scan_evicts_what_never_answered_first(table, effects):
    table.heard(A, 0, MAC, 0.0, create=True)
    table.resolve(B, 0, b"b", 1.0)
    table.resolve(C, 0, b"c", 2.0)
    table.resolve(D, 0, b"d", 3.0)
    assert {n.address for n in table} == {A, C, D}
    assert table.stats.evicted == 1
    assert table.stats.held_dropped == 1
    assert effects.installed == {A: MAC}


def test_then_the_oldest_stale_one(table, effects):
    for at, address in enumerate((A, B, C)):
        table.heard(address, 0, MAC, float(at), create=True)
    table.tick(REACHABLE_S + 1)
    assert [n.state for n in table] == [State.STALE, State.STALE, State.REACHABLE]
    table.resolve(D, 0, b"d", REACHABLE_S + 1)
    assert {n.address for n in table} == {B, C, D}
    assert A not in effects.installed


def test_neighbours_that_answered_are_not_evicted_for_strangers(table, effects):
    for address in (A, B, C):
        table.heard(address, 0, MAC, 0.0, create=True)
    assert table.resolve(D, 0, b"d", 1.0) is None
    table.heard(D, 0, OTHER, 1.0, create=True)
    assert table.stats.refused == 2
    assert set(effects.installed) == {A, B, C}


def test_a_flood_never_grows_the_table():
    table = Neighbours(Recorder(), limit=64)
    for number in range(5000):
        table.resolve(0x0A010000 + number, 0, b"x", number * 0.001)
        table.tick(number * 0.001)
        assert len(table) <= 64


def test_a_pinned_next_hop_stays_and_is_asked_again_when_needed(table, effects):
    table.pin(A, 0)
    for other in (B, C, D):
        table.resolve(other, 0, b"x", 0.0)
    table.resolve(A, 0, b"1", 0.0)
    for second in range(TRIES + 1):
        table.tick(second * RETRY_S)
    assert table.get(A).state is State.IDLE
    assert b"1" in effects.lost
    effects.asked.clear()
    table.resolve(A, 0, b"2", 10.0)
    assert effects.asked == [(A, 0)]
    table.heard(A, 0, MAC, 10.1, create=False)
    assert effects.sent == [b"2"]


def test_a_static_neighbour_is_never_asked_and_never_changes(table, effects):
    table.pin(A, 0, MAC)
    table.tick(1e6)
    table.heard(A, 0, OTHER, 1e6, create=True)
    assert effects.asked == []
    assert effects.installed == {A: MAC}
    table.resolve(A, 0, b"1", 1e6)
    assert effects.sent == [b"1"]


def test_no_room_in_the_forwarding_table(table, effects):
    effects.room = False
    table.heard(A, 0, MAC, 0.0, create=True)
    assert len(table) == 0
