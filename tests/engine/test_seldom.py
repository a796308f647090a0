"""Sources that seldom have something: left out of most turns of a busy worker, and nothing of theirs is lost."""

from feed import Collect, Feed, FeedQueue, ipv4_udp, receive

import wirespeed as ws
from wirespeed.jit import inline

BUSY = [ipv4_udp(sport=number) for number in range(160)]
RARE = [ipv4_udp(sport=1000 + number) for number in range(20)]


@inline
def looked_at(queue, cache, vector, room):
    """Give as a Feed does, but never end, and count the looks where the Feed counts its bursts."""
    record = FeedQueue(queue)
    looks = record.calls + 1
    got = max(receive(queue, cache, vector, room), 0)
    record.calls = looks
    return got


class Seldom(Feed):
    receive = staticmethod(looked_at)
    passive = seldom = True
    looks = 0

    def close(self) -> None:
        self.looks = FeedQueue(self.rx[0]).calls
        super().close()


def run(rare: list[bytes]) -> tuple[int, list[bytes]]:
    """160 turns of one packet each, and a source of this; how often it was looked at, and what came out."""

    @ws.node
    def on(pkt):
        """On."""

    graph, seldom, out = ws.Graph(), Seldom(rare, "seldom", most=1), Collect()
    graph.add(Feed(BUSY, most=1) >> on >> out)
    graph.add(seldom >> on)
    ws.run(graph, workers=1)
    return seldom.looks, out.packets


def test_an_empty_one_is_looked_at_once_in_eight_turns_and_before_the_end() -> None:
    looks, packets = run([])
    assert packets == BUSY
    assert 160 // 8 <= looks <= 160 // 8 + 3


def test_one_that_has_something_is_looked_at_until_it_has_not() -> None:
    looks, packets = run(RARE)
    assert sorted(packets) == sorted(BUSY + RARE)
    assert [each for each in packets if each in RARE] == RARE
    assert looks <= 20 + 160 // 8 + 3
