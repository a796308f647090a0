"""FlowTable: flows come with packets and go after silence or when it is full, counted."""

import threading

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, View, kernel, le64
from wirespeed.tables.flow import NEVER, FlowTable
from wirespeed.tables.keys import FiveTuple4, FiveTuple6


class Traffic(View):
    """What is counted of a flow."""

    packets = le64(0)
    bytes = le64(8)


def test_flows_come_and_start_anew():
    with FlowTable(int, 10, idle=100, record=Traffic) as flows:
        slot = flows.touch(7, 1000)
        assert (len(flows), flows.seen(slot), flows.value(slot)) == (1, 1000, 0)
        flows.record(slot).packets += 3
        flows.set_value(slot, 44)
        assert flows.touch(7, 1099) == slot
        assert (flows.record(slot).packets, flows.value(slot), flows.stats().expired) == (3, 44, 0)
        assert flows.find(7, 1198) == slot
        assert flows.find(7, 1199) == flows.find(8, 1000) == -1
        assert flows.touch(7, 1199) == slot  # silent for 100: another flow with the same key
        assert (flows.record(slot).packets, flows.value(slot), flows.stats().expired) == (0, 0, 1)
        assert (7 in flows, flows[7]) == (True, 0)
        assert flows.delete(7) == slot
        assert len(flows) == 0


def test_sweeping():
    with FlowTable(int, 100, idle=10) as flows:
        for key in range(60):
            flows.touch(key, key)
        assert flows.expire(now=9) == 0
        assert flows.expire(now=39) == 30  # seen at 0 to 29
        assert sorted(key for key, _ in flows) == list(range(30, 60))
        buckets = flows._buckets
        assert sum(flows.expire(1000, 1) for _ in range(buckets)) == 30  # a bucket a call, all in turn
        assert (len(flows), flows.stats().expired) == (0, 60)
        assert flows.expire(5000) == 0


def test_idle_may_change():
    with FlowTable(int, 10) as flows:
        assert flows.idle == NEVER
        flows.touch(1, 0)
        assert flows.expire(1 << 61) == 0
        flows.idle = 5
        assert flows.expire(4) == 0
        assert flows.expire(5) == 1
        with pytest.raises(TableError, match="idle=0 is not 1 to"):
            flows.idle = 0
    with pytest.raises(TableError, match="idle=-1 is not 1 to"):
        FlowTable(int, 10, idle=-1)


@pytest.mark.parametrize("writers", ["one", "many"])
@pytest.mark.parametrize("capacity", [1, 2, 8, 50, 1000])
def test_full_of_strangers(capacity, writers):
    """Ten times more flows than there is room for: each gets a slot, somebody goes, and nothing is lost."""
    if capacity > 50 and not COMPILED:
        pytest.skip("interpreted, it takes minutes")
    with FlowTable(np.uint32, capacity, record=Traffic, writers=writers) as flows:
        for key in range(10 * capacity):
            slot = flows.touch(key, key)
            if slot >= 0:
                assert flows.record(slot).packets == 0
                flows.record(slot).packets = 1 + key
        stats = flows.stats()
        gone = 10 * capacity - stats.refused - stats.evicted
        assert len(flows) == stats.entries == gone
        if writers == "one":
            assert (stats.entries, stats.refused) == (capacity, 0)
        slots = flows.slots().tolist()
        assert len(set(slots)) == len(slots)
        for key, _ in flows:
            assert flows.record(flows.find(key, 0)).packets == 1 + key


def test_the_longest_silent_goes():
    """With two buckets every flow is in one of the two of every other: what is seen again and again stays."""
    with FlowTable(int, 7) as flows:
        assert flows._buckets == 2
        flows.touch_many(range(7), 0)
        for now in range(1, 400):
            flows.touch(5, now)
            flows.touch(1000 + now, now)
        assert 5 in flows
        assert flows.stats().evicted == 399


@kernel
def forwards(table, first, count, rounds, now):
    """A worker's packets: ``rounds`` over its flows; how many found no slot."""
    view = VIEW(table)
    lost = 0
    for turn in range(rounds):
        for key in range(first, first + count):
            slot = view.touch(key, now + turn)
            lost += slot < 0
        view.expire(now + turn, 2)
    return lost


VIEW = FlowTable(int, 1).View


def test_two_workers_in_a_full_table():
    each, rounds = (2000, 60) if COMPILED else (30, 2)
    with FlowTable(int, each, idle=20, writers="many") as flows:
        threads = [
            threading.Thread(target=forwards, args=(flows.address, start, each, rounds, 100)) for start in (0, 1 << 20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        keys = [key for key, _ in flows]
        assert len(set(keys)) == len(keys) == len(flows) <= each
        flows.expire(1 << 40)
        assert len(flows) == 0
        flows.touch_many(np.arange(each // 2), 1 << 40)
        assert len(flows) == each // 2


def test_one_writer_and_many_workers():
    with FlowTable(int, 10) as flows:
        flows.prepare(1)
        with pytest.raises(TableError, match='one writer and there are 2 workers: make it with writers="many"'):
            flows.prepare(2)
    with FlowTable(int, 10, writers="many") as flows:
        flows.prepare(2)


def test_in_a_graph_and_traced():
    """The same node, compiled on a thousand packets and interpreted on one."""
    flows = FlowTable(FiveTuple4, 1000, idle=1 << 40, record=Traffic)
    clock = ws.per_worker(now=0)

    @ws.node(drops=["no-room"])
    def account(pkt):
        """Count packets and bytes of flows."""
        clock.now += 1
        ip, udp = pkt.ipv4, pkt.udp
        slot = flows.touch(ip.src, ip.dst, udp.sport, udp.dport, ip.protocol, clock.now)
        if slot < 0:
            return "no-room"
        flow = flows.record(slot)
        flow.packets += 1
        flow.bytes += pkt.length
        flows.expire(clock.now, 1)

    with flows:
        if COMPILED:
            graph = ws.Graph()
            graph.add(ws.port("generator:dst=10.0.0.0/24,count=1000") >> account >> ws.port("sink"))
            report = ws.run(graph)
            assert report.sent == 1000
            assert sum(flows.record(slot).packets for slot in flows.slots().tolist()) == 1000
            flows.clear()
        trace = account.trace(bytes(12) + b"\x08\x00" + bytes(46))
        assert trace.door == ""
        if COMPILED:  # what is interpreted besides the node shows too
            assert not any(touch.header.startswith(("Hash", "Flow")) for touch in trace.touched)
        ((key, _),) = flows
        assert key == (0, 0, 0, 0, 0)
        assert flows.record(flows.find(key, 0)).bytes == 60


def test_ipv6_in_a_graph():
    seen = ws.HashTable(FiveTuple6, 100)

    @ws.node
    def look(pkt):
        """Find what Python has added."""
        ip = pkt.ipv6
        found = seen.find(ip.src, ip.dst, pkt.udp.sport, pkt.udp.dport, pkt.protocol)
        if found >= 0:
            seen.set_value(found, seen.value(found) + 1)

    with seen:
        seen[0, 0, 0, 0, 0] = 5
        look.trace(bytes(12) + b"\x08\x00" + bytes(46))
        assert seen[0, 0, 0, 0, 0] == 6
        if COMPILED:
            graph = ws.Graph()
            graph.add(ws.port("generator:count=10") >> look >> ws.port("sink"))
            assert ws.run(graph).sent == 10


# A model ------------------------------------------------------------------------------------------------------


class FlowMachine(RuleBasedStateMachine):
    """Against a dict of last times; who is evicted is the table's choice, that it was somebody is not."""

    CAPACITY, IDLE = 12, 50

    @initialize(writers=st.sampled_from(["one", "many"]))
    def start(self, writers):
        self.table = FlowTable(8, self.CAPACITY, idle=self.IDLE, record=Traffic, writers=writers)
        self.model, self.packets, self.now, self.expired, self.evicted = {}, {}, 0, 0, 0

    @rule(number=st.integers(0, 20), later=st.integers(0, 30))
    def touch(self, number, later):
        self.now += later
        key = bytes([number]) * 8
        full = len(self.model) == self.CAPACITY
        before = self.table.stats()
        slot = self.table.touch(key, self.now)
        if slot < 0:
            assert key not in self.model
            assert full
            return
        if key in self.model and self.now - self.model[key] >= self.IDLE:
            self.expired += 1
            self.packets[key] = 0
        if key not in self.model and full:
            (gone,) = set(self.model) - {other for other, _ in self.table}
            del self.model[gone], self.packets[gone]
            assert self.table.stats().evicted == before.evicted + 1
        self.model[key] = self.now
        self.packets[key] = self.packets.get(key, 0) + 1
        self.table.record(slot).packets += 1

    @rule(later=st.integers(0, 60))
    def expire(self, later):
        self.now += later
        gone = [key for key, seen in self.model.items() if self.now - seen >= self.IDLE]
        assert self.table.expire(self.now) == len(gone)
        self.expired += len(gone)
        for key in gone:
            del self.model[key], self.packets[key]

    @rule(number=st.integers(0, 20))
    def delete(self, number):
        key = bytes([number]) * 8
        assert (self.table.delete(key) >= 0) == (key in self.model)
        self.model.pop(key, None)
        self.packets.pop(key, None)

    @invariant()
    def same(self):
        if not hasattr(self, "table"):
            return
        found = {key: self.table.record(int(self.table.find_many([key])[0])) for key, _ in self.table}
        assert {key: record.packets for key, record in found.items()} == self.packets
        assert {key: self.table.seen(int(self.table.find_many([key])[0])) for key in found} == self.model
        assert self.table.stats().expired == self.expired
        assert len(self.table) == len(self.model)

    def teardown(self):
        if hasattr(self, "table"):
            self.table.close()


FlowMachine.TestCase.settings = settings(max_examples=40 if COMPILED else 6, stateful_step_count=40, deadline=None)
TestFlowMachine = FlowMachine.TestCase
