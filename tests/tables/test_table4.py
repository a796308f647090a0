"""What every IPv4 table does: arrays in and out, files, limits, other processes. Lookups: test_lpm, test_poptrie."""

import gzip
import ipaddress
import os
import subprocess
import sys

import numpy as np
import pytest
from table_model import watched

from wirespeed.errors import ArenaError, TableError
from wirespeed.jit import COMPILED
from wirespeed.tables.lpm import Lpm4
from wirespeed.tables.poptrie import Poptrie4
from wirespeed.tables.rib4 import MAX_HOP, MAX_ROUTES
from wirespeed.tables.routes import load_routes

KINDS = [Lpm4, Poptrie4]
MANY = 3000 if COMPILED else 60


@pytest.fixture(params=KINDS, ids=lambda kind: kind.__name__)
def make(request):
    made = []

    def make(**options):
        options.setdefault("routes", 4096)
        made.append(request.param(**options))
        return made[-1]

    make.kind = request.param
    yield make
    for table in made:
        table.close()


def random_routes(count, seed, longest=32):
    """Arrays of different prefixes, crowded enough to nest; none shorter than /20."""
    random = np.random.default_rng(seed)
    found = {}
    while len(found) < count:
        length = int(random.integers(20, longest + 1))
        address = 0x0A00_0000 | int(random.integers(0, 1 << 17))
        found[address >> (32 - length) << (32 - length), length] = int(random.integers(0, 1000))
    addresses, lengths = (np.array(part) for part in zip(*found, strict=True))
    return addresses.astype(np.uint32), lengths.astype(np.uint8), np.array(list(found.values()))


def test_arrays_in_and_out(make):
    table = make(groups=512) if make.kind is Lpm4 else make()
    addresses, lengths, hops = random_routes(MANY, 1)
    table.add_many((addresses, lengths), hops)
    assert len(table) == MANY
    order = np.lexsort((lengths, addresses))
    for got, given in zip(table.to_arrays(), (addresses, lengths, hops), strict=True):
        assert got.tolist() == given[order].tolist()
    assert [hop for _, hop in table] == hops[order].tolist()
    half = order[::2]
    table.delete_many((addresses[half], lengths[half]))
    rest = order[1::2]
    assert table.to_arrays()[2].tolist() == hops[rest].tolist()
    again = make(groups=512) if make.kind is Lpm4 else make()
    again.add_many(table.to_arrays()[:2], table.to_arrays()[2])
    ips = addresses + np.random.default_rng(2).integers(0, 256, MANY, dtype=np.uint32)
    assert table.lookup_many(ips).tolist() == again.lookup_many(ips).tolist()
    table.delete_many(prefix for prefix, _ in again)
    assert (len(table), list(table)) == (0, [])


def test_save_and_load(make, tmp_path):
    table = make()
    table.add_many(["10.0.0.0/20", "192.0.2.0/24", "192.0.2.128/25", "255.255.255.255/32"], [0, 7, 100, MAX_HOP])
    table.save(tmp_path / "routes.txt")
    text = f"10.0.0.0/20 0\n192.0.2.0/24 7\n192.0.2.128/25 100\n255.255.255.255/32 {MAX_HOP}\n"
    assert (tmp_path / "routes.txt").read_text() == text
    table.save(str(tmp_path / "routes.txt.gz"))
    assert gzip.decompress((tmp_path / "routes.txt.gz").read_bytes()).decode() == text
    addresses, lengths, skipped = load_routes(tmp_path / "routes.txt.gz")
    assert skipped == 0
    assert addresses.tolist() == table.to_arrays()[0].tolist()
    assert lengths.tolist() == table.to_arrays()[1].tolist()
    with pytest.raises(TableError, match="cannot write routes: No such file"):
        table.save(tmp_path / "none" / "routes.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["routes.txt", "routes.txt.gz"]


def test_more_routes_than_there_may_be(make):
    table = make(routes=3)
    table.add_many(["10.0.0.0/24", "10.0.1.0/24"], [1, 2])
    with pytest.raises(TableError, match=r"2 more routes are too many, 2 of 3 are taken: create it with routes=6"):
        table.add_many(["10.0.0.0/24", "10.0.2.0/24", "10.0.3.0/24"], [9, 9, 9])
    assert dict(table) == {"10.0.0.0/24": 1, "10.0.1.0/24": 2}
    assert table.lookup("10.0.0.1") == 1
    table.add("10.0.2.0/24", 3)
    table.add("10.0.2.0/24", 4)  # is there already
    with pytest.raises(TableError, match="1 more routes are too many, 3 of 3"):
        table.add("10.0.3.0/24", 5)
    table.delete("10.0.0.0/24")
    table.add("10.0.3.0/24", 5)
    assert [table.lookup(f"10.0.{i}.0") for i in range(4)] == [-1, 2, 4, 5]
    assert (table.stats().routes, table.stats().routes_limit) == (3, 3)


@pytest.mark.parametrize("routes", [0, -1, MAX_ROUTES + 1])
def test_limits_that_cannot_be(make, routes):
    with pytest.raises(TableError, match=f"a table of {routes} routes is not possible: use 1 to {MAX_ROUTES}"):
        make(routes=routes)


def test_deleting_many_is_all_or_nothing(make):
    table = make()
    table.add_many(["10.0.0.0/24", "10.0.1.0/24"], [1, 2])
    with pytest.raises(TableError, match=r"no route 10\.0\.1\.0/25 to delete"):
        table.delete_many(["10.0.0.0/24", "10.0.1.0/25"])
    with pytest.raises(TableError, match="host bits"):
        table.delete_many(["10.0.0.0/24", "10.0.0.1/24"])
    assert [table.lookup("10.0.0.0"), len(table)] == [1, 2]
    table.delete_many(["10.0.0.0/24", "10.0.0.0/24"])  # once is enough
    table.delete_many([])
    assert dict(table) == {"10.0.1.0/24": 2}


def test_lookup_many_takes_addresses_of_all_kinds(make):
    table = make()
    table.add("10.0.0.0/24", 1)
    ip = 0x0A000001
    for kind in (np.uint32, np.int64, np.uint64):
        assert table.lookup_many(np.array([ip, 0], kind)).tolist() == [1, -1]
    assert table.lookup_many(["10.0.0.1", ip, ipaddress.ip_address("10.0.1.1")]).tolist() == [1, 1, -1]
    assert table.lookup_many(np.array([ip, 0, ip])[::2]).tolist() == [1, 1]
    assert table.lookup_many([]).tolist() == []
    for bad, why in [
        (np.array([1.5]), "float64 are no addresses"),
        (np.array([[1]]), "2-dimensional"),
        (np.array([0, 1 << 32]), "address 4294967296 is out of range"),
        (np.array([-1, 5]), "address -1 is out of range"),
        (["10.0.0.1", "ten"], "'ten' is not an IPv4 address"),
    ]:
        with pytest.raises(TableError, match=why):
            table.lookup_many(bad)


def test_next_hops_that_are_none(make):
    table = make()
    with pytest.raises(TableError, match="next hops of type float64"):
        table.add_many(["10.0.0.0/24"], np.array([1.0]))
    with pytest.raises(TableError, match=f"next hop {1 << 63} of"):
        table.add_many(["10.0.0.0/24"], np.array([1 << 63], np.uint64))
    assert len(table) == 0


def test_no_growth(make):
    """Adding and deleting at 90 % of the routes, over and over: at the end it is what it was."""
    table = make(groups=512, routes=MANY) if make.kind is Lpm4 else make(routes=MANY)
    addresses, lengths, hops = random_routes(MANY, 3)
    most = MANY * 9 // 10
    table.add_many((addresses[:most], lengths[:most]), hops[:most])
    before, random = table.stats(), np.random.default_rng(4)
    for _ in range(200 if COMPILED else 5):
        some = random.permutation(most)[: MANY // 10]
        table.delete_many((addresses[some], lengths[some]))
        table.add_many((addresses[some], lengths[some]), hops[some])
    assert table.stats() == before
    table.clear()
    assert table.stats() == make(**_same(make, before)).stats()


def _same(make, stats):
    return {"groups": 512, "routes": stats.routes_limit} if make.kind is Lpm4 else {"routes": stats.routes_limit}


def test_closed_tables_say_so(make):
    table = make()
    table.close()
    table.close()
    assert repr(table) == f"<{make.kind.__name__} {make.kind.KIND}: closed>"


LOOK = """
import sys, importlib
module, kind, name = sys.argv[1:]
table = getattr(importlib.import_module(module), kind).attach(name)
print(table.lookup("10.0.0.200"), table.lookup_many(["10.0.0.1", "11.0.0.1"]).tolist(), table.get("10.0.0.0/24"),
      table.get("10.0.0.0/25"), "10.0.0.128/25" in table, len(table), dict(table), table.stats().routes, table.alive)
for change in (lambda: table.add("1.0.0.0/24", 1), lambda: table.delete("10.0.0.0/24"), lambda: table.clear(),
               lambda: table.add_many([], []), lambda: table.delete_many([])):
    try:
        change()
    except Exception as error:
        print(type(error).__name__, str(error)[-34:])
"""


def test_another_process_attaches(make, tmp_path, monkeypatch):
    monkeypatch.setenv("WIRESPEED_RUN", str(tmp_path))
    table = make(name="fib")
    table.add_many(["10.0.0.0/24", "10.0.0.128/25"], [4, 5])
    kind = make.kind
    done = subprocess.run(
        [sys.executable, "-c", LOOK, kind.__module__, kind.__name__, "fib"],
        capture_output=True, text=True, env=dict(os.environ), check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "5 [4, -1] 4 None True 2 {'10.0.0.0/24': 4, '10.0.0.128/25': 5} 2 True"
    assert lines[1:] == ["TableError ad-only: change it in that process"] * 5
    with pytest.raises(ArenaError, match="has one writer"):
        kind.attach("fib", writable=True)
    with kind.attach("fib") as same:  # in this process: live
        table.add("10.0.0.64/26", 6)
        assert (same.lookup("10.0.0.65"), len(same), same.get("10.0.0.64/26")) == (6, 3, 6)
        table.clear()
        assert (same.lookup("10.0.0.65"), list(same)) == (-1, [])


def test_a_name_that_cannot_be(make):
    with pytest.raises(ArenaError, match="cannot be called"):
        make(name="a b")


def test_bulk_updates_under_a_reader(make):
    """Thousands of routes come and go in single calls; each address has its own two legal answers at any time."""
    count = 2000 if COMPILED else 20
    table = make(groups=512) if make.kind is Lpm4 else make()
    addresses, lengths, _ = random_routes(count, 5)
    table.add_many(["10.0.0.0/15", "10.0.0.0/16"], [1, 1])
    ips = addresses[:: max(count // 500, 1)] | np.uint32(1)
    with watched(table, {int(ip): (1, 2) for ip in ips}):
        for turn in range(100 if COMPILED else 3):
            table.add_many((addresses, lengths), np.full(count, 2))
            table.delete_many((addresses[turn % 2 :: 2], lengths[turn % 2 :: 2]))
            table.delete("10.0.0.0/16")
            table.add("10.0.0.0/16", 1)
            table.delete_many((addresses[1 - turn % 2 :: 2], lengths[1 - turn % 2 :: 2]))
    assert dict(table) == {"10.0.0.0/15": 1, "10.0.0.0/16": 1}
    assert (table.lookup_many(ips) == 1).all()
