"""Maglev against the algorithm as the paper prints it, and the properties it promises (Eisenbud et al., NSDI 2016)."""

import hashlib
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import wirespeed as ws
from wirespeed.errors import TableError
from wirespeed.jit import COMPILED
from wirespeed.tables.maglev import Maglev

SIZE = 65537 if COMPILED else 997


def paper(names, size):
    """Algorithm 1 of the paper, line by line, with its permutation lists written out."""
    lists = []
    for name in names:
        digest = hashlib.blake2b(f"{name}\0{0}".encode(), digest_size=16).digest()
        offset, skip = int.from_bytes(digest[:8]) % size, int.from_bytes(digest[8:]) % (size - 1) + 1
        lists.append([(offset + j * skip) % size for j in range(size)])
    following, entry, n = [0] * len(names), [-1] * size, 0
    while True:
        for i in range(len(names)):
            c = lists[i][following[i]]
            while entry[c] >= 0:
                following[i] += 1
                c = lists[i][following[i]]
            entry[c] = i
            following[i] += 1
            n += 1
            if n == size:
                return entry


@settings(max_examples=30)
@given(st.lists(st.text(max_size=8), min_size=1, max_size=12, unique=True), st.sampled_from((13, 101, 499)))
def test_the_table_is_the_papers(names, size):
    with Maglev(names, size) as table:
        assert (table._entries().astype(int) - 1).tolist() == paper(names, size)


def test_shares_are_even_and_follow_weights():
    with Maglev([f"b{i}" for i in range(10)], SIZE) as table:
        shares = table.stats().shares
        assert max(shares.values()) - min(shares.values()) <= 1
        table.set({"one": 1, "three": 3})
        shares = table.stats().shares
        assert shares["three"] == pytest.approx(3 * shares["one"], abs=4)
        assert table.names == ("one", "three")


def test_few_flows_move_when_a_backend_leaves():
    names = [f"10.0.0.{i}" for i in range(20)]
    hashes = np.random.default_rng(1).integers(0, 1 << 32, 20_000 if COMPILED else 500)
    with Maglev(names, SIZE) as table:
        before = np.array(names)[table.pick_many(hashes)]
        kept = [name for name in names if name != "10.0.0.7"]
        table.set(kept)
        after = np.array(kept)[table.pick_many(hashes)]
    moved = (before != after) & (before != "10.0.0.7")
    assert (after != "10.0.0.7").all()
    assert moved.mean() < 0.03


def test_none_and_one():
    with Maglev(size=101) as table:
        assert (table.pick(5), len(table)) == (-1, 0)
        table.set(["only"])
        assert (table.pick(5), table.pick(0xFFFF_FFFF), table.pick(-1)) == (0, 0, 0)
        table.set([])
        assert table.pick_many([1, 2]).tolist() == [-1, -1]


def test_readers_see_a_whole_table():
    """Backend sets {0} and {0, 1} in turn: a lookup of a slot that both give to 0 never differs."""
    with Maglev(["a", "b"], 101) as table:
        hashes = np.arange(0, 1 << 32, 1 << 20)
        both = table.pick_many(hashes)
        mine = hashes[both == 0]
        wrong, stop = [], threading.Event()

        def read():
            while not stop.is_set():
                if (table.pick_many(mine) != 0).any():
                    wrong.append(1)

        class Slow:
            """Stands for an engine's grace periods: nobody reads across two calls here."""

            def synchronize(self):
                done = threading.Event()
                done.wait(0.0005)

            def defer(self, action):
                action()

        table.reclaimer = Slow()
        reader = threading.Thread(target=read)
        reader.start()
        for turn in range(50):
            table.set(["a"] if turn % 2 else ["a", "b"])
        stop.set()
        reader.join()
        assert not wrong


def test_another_process_sees_the_table(monkeypatch, tmp_path):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path / "run"))
    with Maglev(["a", "b"], 101, name="backends") as table, ws.attach("backends") as copy:
        assert copy.pick_many(range(1000)).tolist() == table.pick_many(range(1000)).tolist()
        table.set(["c"])
        assert copy.pick(77) == 0
        assert len(copy) == 1
        with pytest.raises(TableError, match="attached read-only"):
            copy.set(["d"])


def test_bad_arguments():
    for make, message in (
        (lambda: Maglev(["a"], 1), "1 entries are not possible"),
        (lambda: Maglev(["a", "a"]), "backend 'a' is there twice"),
        (lambda: Maglev({"a": 0}), "backend 'a' has weight 0"),
        (lambda: Maglev({"a": 900}, 13), "weights of 900 in all need as many entries, it has 13"),
    ):
        with pytest.raises(TableError, match=message):
            make()
