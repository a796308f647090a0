"""Top-k against collections.Counter: the guarantees of space-saving, over several workers, and while it counts."""

import threading
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.errors import TableError
from wirespeed.jit import COMPILED, kernel, load64
from wirespeed.tables.top_k import TopItem, TopK, TopKView

MANY = 60_000 if COMPILED else 500


@kernel
def in_node(sketch, key, n):
    return TopKView(sketch).add(key, n), TopKView(sketch).count(key)


@kernel
def add_cycle(sketch, keys, rounds):
    """Key k gets k each time, so that whole multiples of k are all its count can be."""
    view = TopKView(sketch)
    for _ in range(rounds):
        for key in range(1, keys + 1):
            view.add(key, key)


def check(sketch, model, size):
    """What the algorithm promises."""
    total = model.total()
    items = list(sketch)
    assert [item.count for item in items] == sorted((item.count for item in items), reverse=True)
    for item in items:
        assert item.guaranteed <= model[item.key] <= item.count
        assert item.error <= total / size
    kept = {item.key for item in items}
    assert all(key in kept for key, count in model.items() if count > total / size)
    assert sketch.total == total
    for key in list(model)[:20]:
        assert model[key] <= sketch.count(key)


@given(st.lists(st.tuples(st.integers(0, 12), st.integers(1, 50)), max_size=80), st.integers(1, 9))
def test_guarantees(events, size):
    model = Counter()
    with TopK(size, seed=1) as sketch:
        for key, n in events:
            now, count = in_node(sketch.address, key, n)
            assert now == count
            model[key] += n
        check(sketch, model, size)
        block = sketch._blocks[0]
        heap = [load64(block.address + block.heap + 16 * at) for at in range(block.used)]
        assert all(heap[(at - 1) // 2] <= heap[at] for at in range(1, len(heap)))
        if len(model) <= size:
            assert {item.key: item.count for item in sketch} == model
            assert all(item.error == 0 for item in sketch)


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(1, 9), st.integers(0, 2)), max_size=80))
def test_workers_together(events):
    model = Counter()
    with TopK(6, workers=3, seed=2) as sketch:
        for key, n, worker in events:
            in_node(sketch.address + worker * sketch.stride, key, n)
            model[key] += n
        for item in sketch:
            assert item.guaranteed <= model[item.key] <= item.count
        bound = sketch.stats().never_missed_above
        kept = {item.key for item in sketch}
        assert all(key in kept for key, count in model.items() if count > bound)
        assert bound <= model.total() / 6


@pytest.mark.parametrize("key_bytes", [0, 13])
def test_a_skewed_stream(key_bytes):
    random = np.random.default_rng(16)
    numbers = random.zipf(1.2, MANY) % 100_000
    amounts = random.integers(60, 1500, MANY)
    keys = numbers
    if key_bytes:
        keys = np.zeros((MANY, 13), dtype=np.uint8)
        keys[:, :8] = numbers.astype("<i8").view(np.uint8).reshape(-1, 8)
    model = Counter()
    for key, amount in zip(numbers.tolist(), amounts.tolist(), strict=True):
        model[key.to_bytes(8, "little") + bytes(5) if key_bytes else key] += amount
    with TopK(200, key_bytes=key_bytes, seed=3) as sketch:
        sketch.add_many(keys, amounts)
        check(sketch, model, 200)
        exact = [key for key, _ in model.most_common(5)]
        assert [item.key for item in sketch.most_common(5)] == exact


def test_from_python():
    with TopK(2, seed=4) as sketch:
        assert sketch.add(-1, 5) == 5
        assert sketch.add((1 << 64) - 1) == 6  # the same 64 bits
        assert sketch.add_many(np.array([7, 8, 9])).tolist() == [1, 2, 3]
        assert sketch.most_common() == [TopItem(-1, 6, 0), TopItem(9, 3, 2)]
        assert sketch.add(9, 0) == 3  # nothing
        assert (sketch[7], len(sketch)) == (3, 2)
        assert repr(sketch) == "<TopK top-k: 2 keys, total 9>"
        with pytest.raises(TableError, match="2 keys have 1 amounts"):
            sketch.add_many(np.arange(2), np.array([1]))


def test_readers_see_whole_items_while_keys_are_replaced():
    """More keys than places: slots change their key all the time; a torn one is not error + key * i."""
    keys, rounds = (50, 20_000) if COMPILED else (12, 20)
    with TopK(10, seed=5) as sketch:
        worker = threading.Thread(target=add_cycle, args=(sketch.address, keys, rounds))
        worker.start()
        looks = 0
        while worker.is_alive() or not looks:
            for item in sketch:
                assert 1 <= item.key <= keys
                assert item.guaranteed % item.key == 0
                assert item.guaranteed >= item.key
            looks += 1
        worker.join()
        assert sketch.total == rounds * keys * (keys + 1) // 2


@pytest.mark.parametrize(("arguments", "message"), [((0,), "0 keys"), ((1, 0), "0 workers")])
def test_bad_arguments(arguments, message):
    with pytest.raises(TableError, match=message):
        TopK(*arguments)
