"""ipv4_lookup: with and without prefetch the same next hops, in marks that survive the borders of regions."""

import random

import pytest
from feed import Collect, Feed, hexed, ipv4_udp

import wirespeed as ws
from wirespeed.engine.engine import Engine
from wirespeed.nodes import ipv4_lookup
from wirespeed.tables.lpm import MAX_HOP, Lpm4

FEW, MANY = 40, 4097  # 4096 routes are what the cache is said to hold


@ws.node(outputs=["odd"])
def fork(pkt):
    """Two doors to one node: that node starts a region, whatever the lookup did."""
    return "odd" if pkt.ipv4.dst & 1 else None


@ws.node
def stamp(pkt):
    """The mark, where it can be seen."""
    pkt.eth.src = pkt.mark


def routes(count):
    """Random prefixes of 16 to 32 bits under 10/8 and 20/8, and as many hops, the largest among them."""
    rng = random.Random(count)
    made = {}
    while len(made) < count:
        length = rng.choice([16, 20, 24, 24, 24, 24, 28, 32] if len(made) < 200 else [24])
        address = (rng.choice([10, 20]) << 24 | rng.randrange(1 << 24)) >> (32 - length) << (32 - length)
        made[address, length] = rng.choice([0, 1, MAX_HOP, rng.randrange(MAX_HOP)])
    return made


@pytest.mark.parametrize("count", [FEW, MANY])
def test_marks_are_next_hops(count):
    rng, fib = random.Random(5), Lpm4(groups=256)
    known = routes(count)
    fib.add_many(list(known), list(known.values()))
    assert fib.outgrows_cache() == (count == MANY)

    def hop(address):
        """The model: the longest of all prefixes that cover it."""
        covering = [(n, known[address >> (32 - n) << (32 - n), n]) for n in (16, 20, 24, 28, 32)
                    if (address >> (32 - n) << (32 - n), n) in known]  # fmt: skip
        return max(covering)[1] if covering else -1

    frames, wanted, lost = [], [], 0
    for i in range(300):
        address, length = rng.choice(list(known))
        address = address | rng.randrange(1 << (32 - length)) if i % 5 else rng.randrange(1 << 32)
        frame = ipv4_udp(dst=".".join(str(byte) for byte in address.to_bytes(4, "big")))
        frames.append(frame)
        found = hop(address)
        lost += found < 0
        if found >= 0:
            wanted.append(frame[:6] + found.to_bytes(6, "big") + frame[12:])
    strange = [b"", bytes(13), bytes(60), frames[0][:30]]  # not IPv4: the destination of an absent header is 0.0.0.0
    others = [ipv4_udp(dst="30.0.0.1", sport=i) for i in range(100)]  # these pass no lookup: their mark is 0

    graph, lookup, out = ws.Graph(), ipv4_lookup(fib), Collect()
    graph.add(Feed(frames + strange) >> lookup >> fork >> stamp >> out)
    graph.add(fork["odd"] >> stamp)
    graph.add(Feed(others, "others") >> stamp)
    engine = Engine(graph, burst=16)
    assert (lookup in engine.plan.entries, stamp in engine.plan.entries) == (True, True)
    engine.start()
    assert engine.wait()
    report = engine.stop()
    fib.close()
    wanted += [frame[:6] + bytes(6) + frame[12:] for frame in others]
    assert sorted(hexed(out.packets)) == sorted(hexed(wanted))
    assert report.drops == {"ipv4_lookup: no-route": lost + len(strange)}
    assert report.in_use == 0
