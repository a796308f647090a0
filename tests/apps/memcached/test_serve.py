"""Requests and answers as bytes; the texts are those of memcached's doc/protocol.txt."""

import random
import re
import threading

import pytest
from asked import FRAME, NOW, Asked
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.apps.memcached.layout import BUCKETS, KEY_MAX
from wirespeed.apps.memcached.serve import _AROUND
from wirespeed.apps.memcached.server import MemcachedError, MemcachedServer
from wirespeed.apps.memcached.state import PLACES
from wirespeed.jit import COMPILED, load64, store64
from wirespeed.tables.hash_memory import _STATE, overflows


def test_bytes_in_and_out(asked):
    """A set and a get, byte by byte."""
    request = bytes.fromhex("abcd 0000 0001 0000") + b"set greeting 42 0 5\r\nhello\r\n"
    assert asked.datagrams(request) == [bytes.fromhex("abcd 0000 0001 0000") + b"STORED\r\n"]
    request = bytes.fromhex("0102 0000 0001 0000") + b"get greeting\r\n"
    answer = bytes.fromhex("0102 0000 0001 0000") + b"VALUE greeting 42 5\r\nhello\r\nEND\r\n"
    assert asked.datagrams(request) == [answer]
    assert asked.datagrams(request, in_place=True) == [answer]
    assert len(answer) == _AROUND + len(b"greeting 42 5\r\nhello\r\n")


def test_an_answer_of_several_datagrams(asked):
    value = bytes(range(256)) * 32
    assert asked(b"set large 0 0 8192\r\n" + value + b"\r\n") == b"STORED\r\n"
    found = asked.datagrams(FRAME + b"get large\r\n")
    text = b"VALUE large 0 8192\r\n" + value + b"\r\nEND\r\n"
    assert [len(each) for each in found] == [1400] * 5 + [8 + len(text) - 5 * 1392]
    assert asked(b"get large\r\n") == text
    assert asked(b"get large large none\r\n") == 2 * text[:-5] + b"END\r\n"


@pytest.mark.parametrize("length", [1373, 1374, 1375, 1376, 1377, 1390])
def test_around_the_end_of_a_datagram(asked, length):
    value = b"v" * length
    asked(b"set k 0 0 %d\r\n%b\r\n" % (length, value))
    for in_place in (False, True):
        assert asked(b"get k\r\n", in_place) == b"VALUE k 0 %d\r\n%b\r\nEND\r\n" % (length, value)


def test_answers_have_a_limit(asked):
    asked(b"set large 0 0 8192\r\n" + bytes(8192) + b"\r\n")
    assert asked(b"get" + 20 * b" large" + b"\r\n") == b"SERVER_ERROR out of memory writing get response\r\n"
    assert asked(b"set large 0 0 8193\r\n" + bytes(8193) + b"\r\n") == b"SERVER_ERROR object too large for cache\r\n"
    assert asked(b"get large\r\n") == b"END\r\n"  # nobody gets the old value
    assert asked.server.stats().answer_too_large == 1


def test_values_of_all_lengths(asked):
    for length in (0, 1, 7, 8, 9, 100, 8191, 8192):
        for name in (b"k", b"k" * 250):
            value = b"\r\n" * (length // 2) + b"x" * (length % 2)
            assert asked(b"set %b 4294967295 0 %d\r\n%b\r\n" % (name, length, value)) == b"STORED\r\n"
            assert asked(b"get %b\r\n" % name) == b"VALUE %b 4294967295 %d\r\n%b\r\nEND\r\n" % (name, length, value)
    assert asked(b"append k 0 0 1\r\nx\r\n") == b"SERVER_ERROR object too large for cache\r\n"


def test_keys_asked_for_ahead_have_their_places_whatever_becomes_of_them(asked):
    """Every bucket says that keys of its are in their second one, so each key that is not there is noted twice."""
    store = asked.server._store
    for bucket in range(store.address + BUCKETS, store.address + BUCKETS + asked.server._buckets * 64, 64):
        store64(bucket + _STATE, load64(bucket + _STATE) | 1)
        assert overflows(bucket)
    asked(b"set k0000 0 0 1\r\nx\r\n")
    chosen = random.Random(2026)
    for _ in range(300):
        keys = [b"k%04d" % chosen.randrange(2000) for _ in range(chosen.randrange(1, 65))]
        served = chosen.choice((0, 1, 2, len(keys) // 2, len(keys)))
        assert asked.burst([FRAME + b"get %b\r\n" % key for key in keys], min(served, len(keys))) <= PLACES
    assert asked(b"get k0000 k0001\r\n") == b"VALUE k0000 0 1\r\nx\r\nEND\r\n"


def test_expiry(asked):
    hit = b"VALUE k 0 1\r\n1\r\nEND\r\n"
    for given_s, lives_s in ((10, 10), (60 * 60 * 24 * 30, 60 * 60 * 24 * 30), (0, None), (-1, 0)):
        asked(b"set k 0 %d 1\r\n1\r\n" % given_s)
        if lives_s is None:
            asked.later(1 << 30)
            assert asked(b"get k\r\n") == hit
            continue
        if lives_s:
            asked.later(lives_s - 1)
            assert asked(b"get k\r\n") == hit
            asked.later(1)
        assert asked(b"get k\r\n") == b"END\r\n"
    assert asked.server.stats().curr_items == 0


def test_unix_time(asked):
    asked(b"set k 0 %d 1\r\n1\r\n" % (NOW + 100))
    asked.later(99)
    assert asked(b"get k\r\n") != b"END\r\n"
    assert asked(b"touch k %d\r\n" % (NOW + 200)) == b"TOUCHED\r\n"
    asked.later(1)
    assert asked(b"gat %d k\r\n" % (NOW + 150)) != b"END\r\n"
    asked.later(50)
    for command in (b"append k 0 0 1\r\n1\r\n", b"replace k 0 0 1\r\n1\r\n"):
        assert asked(command) == b"NOT_STORED\r\n"
    assert asked(b"incr k 1\r\n") == b"NOT_FOUND\r\n"
    assert asked(b"add k 0 0 1\r\n2\r\n") == b"STORED\r\n"


def test_flush(asked):
    asked(b"set a 0 0 1\r\n1\r\n")
    assert asked(b"flush_all 10\r\n") == b"OK\r\n"
    asked.later(9)
    asked(b"set b 0 0 1\r\n1\r\n")
    assert asked(b"get a\r\n") != b"END\r\n"
    asked.later(1)
    assert asked(b"get a\r\n") == asked(b"get b\r\n") == b"END\r\n"
    asked(b"set b 0 0 1\r\n1\r\n")
    assert asked(b"get b\r\n") != b"END\r\n"


def test_statistics(asked):
    asked(b"set a 0 0 1\r\n1\r\n")
    asked(b"get a b\r\n")
    found = dict(re.findall(r"STAT (\S+) (\S+)\r\n", asked(b"stats\r\n").decode()))
    assert (found["get_hits"], found["get_misses"], found["cmd_set"], found["curr_items"]) == ("1", "1", "1", "1")
    assert found["time"] == str(NOW) and found["limit_maxbytes"] == "1048576" and int(found["bytes"]) == 24 + 10
    assert asked(b"stats reset\r\n") == b"RESET\r\n"
    assert asked.server.stats().get_hits == 0 and asked.server.stats().curr_items == 1


def test_drops(asked):
    assert asked.datagrams(b"") == asked.datagrams(FRAME) == "short"
    assert asked.datagrams(FRAME + b"get k") == "incomplete"
    assert asked(b"set k 0 0 5\r\n123\r\n") == "incomplete"
    assert asked.datagrams(bytes.fromhex("0001 0000 0002 0000") + b"get k\r\n") == "several"
    assert asked.server.stats().dropped == 4 and asked.server.stats().multi_packet == 1


def check(server):
    """All that must hold of a store: each item is found by its key, each chunk is an item, free or fresh."""
    for index in range(server.shards):
        shard = server._shard(index)
        pages = [(page, shard.page(page).kind) for page in range(shard.page_used)]
        live = 0
        for page, kind in pages:
            chunk = shard.class_at(kind).chunk
            for place in range((1 << 16) // chunk):
                item = type(shard.item(0))(shard.page_start(page) + place * chunk)
                live += item.live
        assert live == shard.items
        for kind in range(32):
            each = shard.class_at(kind)
            assert sum(found == kind for _, found in pages) == each.pages
            at, seen = each.free, 0
            while at:
                assert not shard.item(at - 1).live
                at, seen = shard.item(at - 1).next, seen + 1
            if each.pages:
                page, round_trip = each.last, 0
                while round_trip < each.pages:
                    page, round_trip = shard.page(page).next, round_trip + 1
                    assert (page == each.last) == (round_trip == each.pages)


COUNT = 12_000 if COMPILED else 2000


def test_the_clock_spares_what_is_asked_for(asked):
    """Memory is full several times over; what is asked for now and then is still there."""
    value = b"v" * (100 if COMPILED else 900)
    for number in range(COUNT):
        assert asked(b"set key-%d 0 0 %d\r\n%b\r\n" % (number, len(value), value)) == b"STORED\r\n"
        if number % 200 == 0:
            assert asked(b"get key-0\r\n") != b"END\r\n"
    stats = asked.server.stats()
    assert stats.evictions > COUNT // 3 and stats.curr_items + stats.evictions == COUNT
    assert asked(b"get key-%d\r\n" % (COUNT - 1)) != b"END\r\n"
    assert asked(b"get key-1\r\n") == b"END\r\n"
    check(asked.server)


def test_the_expired_go_first(asked):
    for number in range(COUNT // 2):
        asked(b"set old-%d 0 1 900\r\n%b\r\n" % (number, bytes(900)))
    asked.later(5)
    before = asked.server.stats()
    for number in range(500):
        asked(b"set new-%d 0 0 900\r\n%b\r\n" % (number, bytes(900)))
    after = asked.server.stats()
    assert after.evictions == before.evictions and after.reclaimed > 400
    assert all(asked(b"get new-%d\r\n" % number) != b"END\r\n" for number in range(500))


def test_pages_go_where_they_are_needed(asked):
    """Memory full of items of one size, then all sizes, then another one: each gets in."""
    for number in range(COUNT // 2):
        asked(b"set small-%d 0 0 400\r\n%b\r\n" % (number, bytes(400)))
    for size in range(1, 8192, 97):
        assert asked(b"set any-%d 0 0 %d\r\n%b\r\n" % (size, size, bytes(size))) == b"STORED\r\n"
        assert asked(b"get any-%d\r\n" % size) != b"END\r\n"
    check(asked.server)
    for number in range(COUNT // 2):
        asked(b"set large-%d 0 0 2000\r\n%b\r\n" % (number, bytes(2000)))
    shard = asked.server._shard(0)
    assert max(shard.class_at(kind).pages for kind in range(32)) >= (12 if COMPILED else 5)
    assert asked.server.stats().pages_moved > 5
    check(asked.server)


@pytest.mark.skipif(not COMPILED, reason="interpreted, so many take ten seconds")
def test_more_items_than_the_table_has_places_for(asked):
    for number in range(16_000):
        assert asked(b"set %d 0 0 1\r\n1\r\n" % number) == b"STORED\r\n"
    check(asked.server)
    kept = sum(asked(b"get %d\r\n" % number) != b"END\r\n" for number in range(16_000))
    assert kept == asked.server.stats().curr_items


KEY = st.sampled_from([b"a", b"b", b"sixteen-bytes-ok", b"k" * 250, b"c", b"d"])
COMMAND = st.one_of(
    st.tuples(st.just("get"), KEY, st.none()),
    st.tuples(st.sampled_from(["set", "add", "replace", "append", "prepend"]), KEY, st.binary(max_size=40)),
    st.tuples(st.just("delete"), KEY, st.none()),
    st.tuples(st.sampled_from(["set", "incr", "decr"]), KEY, st.integers(0, (1 << 64) - 1)),
)


@given(st.lists(COMMAND, max_size=60), st.sampled_from([1, 4]))
def test_it_is_a_dictionary(commands, shards):
    asked, model = Asked(memory_bytes=shards << 20, shards=shards), {}
    for name, key, value in commands:
        data = value if isinstance(value, bytes) else b"%d" % (value or 0)
        there = key in model
        if name == "get":
            wanted = b"VALUE %b 7 %d\r\n%b\r\nEND\r\n" % (key, len(model[key]), model[key]) if there else b"END\r\n"
            assert asked(b"get %b\r\n" % key) == wanted
        elif name == "delete":
            assert asked(b"delete %b\r\n" % key) == (b"DELETED\r\n" if there else b"NOT_FOUND\r\n")
            model.pop(key, None)
        elif name in ("incr", "decr"):
            said = asked(b"%b %b %d\r\n" % (name.encode(), key, value))
            digits = model[key].rstrip(b" ") if there else b""
            if not there:
                assert said == b"NOT_FOUND\r\n"
            elif digits.isdigit() and int(digits) < 1 << 64:
                made = (int(digits) + value) % (1 << 64) if name == "incr" else max(int(digits) - value, 0)
                assert said == b"%d\r\n" % made
                model[key] = (b"%d" % made).ljust(len(model[key]))
            else:  # C's strtoull takes a little more than that
                shown = asked(b"get %b\r\n" % key)
                model[key] = shown[shown.index(b"\n") + 1 : -7]
        else:
            said = asked(b"%b %b 7 0 %d\r\n%b\r\n" % (name.encode(), key, len(data), data))
            stored = name == "set" or (name == "add") != there
            assert said == (b"STORED\r\n" if stored else b"NOT_STORED\r\n")
            if stored:
                old = model.get(key, b"")
                model[key] = old + data if name == "append" else data + old if name == "prepend" else data
    assert asked.server.stats().curr_items == len(model)
    check(asked.server)
    asked.close()


SEEDS = [
    b"get k\r\n", b"gets k l m\r\n", b"set k 1 2 3\r\nabc\r\n", b"add k 1 2 3 noreply\r\nabc\r\n",
    b"replace k 0 0 0\r\n\r\n",
    b"append k 0 0 1\r\nx\r\n", b"prepend k 0 0 1\r\nx\r\n", b"cas k 0 0 1 99\r\nx\r\n", b"delete k 0 noreply\r\n",
    b"incr k 1\r\n", b"decr k 18446744073709551615\r\n", b"touch k 100\r\n", b"gat 10 k l\r\n", b"gats 10 k\r\n",
    b"stats\r\n",
    b"flush_all 1\r\n", b"version\r\n", b"verbosity 1\r\n", b"set n 0 0 2\r\n99\r\nincr n 1\r\nget n\r\n",
]  # fmt: skip


@given(st.data())
def test_whatever_comes(data):
    """Bytes of commands changed, left out, doubled and exchanged: answered or dropped, and the store stays sound."""
    asked = Asked(memory_bytes=1 << 20, room=200)
    for _ in range(data.draw(st.integers(1, 6))):
        text = bytearray(data.draw(st.sampled_from(SEEDS)))
        for _ in range(data.draw(st.integers(0, 3))):
            at = data.draw(st.integers(0, len(text)))
            what = data.draw(st.integers(0, 3))
            if what == 0:
                text[at : at + 1] = bytes([data.draw(st.integers(0, 255))])
            elif what == 1:
                del text[at : at + data.draw(st.integers(1, 5))]
            elif what == 2:
                text[at:at] = data.draw(st.sampled_from([b" ", b"\r\n", b"\n", b"-", b"9" * 25, b"k" * 251, *SEEDS]))
            else:
                text[at:at] = text[: data.draw(st.integers(0, 20))]
        for each in asked.datagrams(FRAME + bytes(text), in_place=data.draw(st.booleans())):
            assert isinstance(each, str) or 8 < len(each) <= 200
    check(asked.server)
    asked.close()


@given(st.binary(max_size=80))
def test_any_bytes(datagram):
    asked = Asked(memory_bytes=1 << 20, room=200)
    asked.datagrams(datagram)
    asked.close()


@pytest.mark.skipif(not COMPILED, reason="interpreted, one thread runs at a time")
def test_several_workers_count_together():
    """Two workers, one key: no count is lost. Two, many keys: the store stays sound."""
    asked = [Asked(memory_bytes=1 << 20), Asked(memory_bytes=1 << 20)]
    asked[1].server.close()
    asked[1].server, asked[1].worker = asked[0].server, 1
    asked[0].server.prepare(2)
    asked[0](b"set n 0 0 1\r\n0\r\n")

    def work(worker):
        for number in range(3000):
            asked[worker](b"incr n 1\r\n")
            asked[worker](b"set %d 0 0 200\r\n%b\r\n" % (number % 700 * (worker + 1), bytes(200)))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert asked[0](b"get n\r\n") == b"VALUE n 0 4\r\n6000\r\nEND\r\n"
    check(asked[0].server)
    assert asked[0].server.stats().cmd_set == 6001
    for each in asked:
        each.close()


@pytest.mark.parametrize("key", [b"a", b"0123456789abcdef", b"k" * KEY_MAX])
def test_the_shard_of_a_request_is_that_of_its_first_key(key):
    """Whatever is asked of it: that in which it is stored."""
    asked = Asked(memory_bytes=16 << 20, shards=16)
    asked(b"set %b 0 0 1\r\n1\r\n" % key)
    (number,) = [index for index in range(16) if asked.server._shard(index).items]
    for line in (
        b"get %b", b"get %b other", b"gets %b", b"gets  %b other", b"gat 10 %b", b"gats 10 %b other", b"delete %b",
        b"incr %b 1", b"decr %b 1 noreply", b"touch %b 9", b"set %b 0 0 1", b"add %b 0 0 1", b"cas %b 0 0 1 1",
    ):  # fmt: skip
        assert asked.shard(FRAME + line % key + b"\r\n") == number, line
    asked.close()


@given(st.one_of(st.binary(max_size=80), st.builds(lambda line: FRAME + b"gat " + line, st.binary(max_size=40))))
def test_any_bytes_are_about_some_shard(datagram):
    asked = Asked(memory_bytes=16 << 20, shards=16)
    assert 0 <= asked.shard(datagram) < 16
    asked.close()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"memory_bytes": 1000}, "1 MiB to 32 GiB"),
        ({"memory_bytes": 1 << 20, "shards": 2}, "change memory or shards"),
        ({"shards": 3}, "power of two"),
        ({"answer_max": 100}, "8704"),
    ],
)
def test_settings_out_of_range(options, says):
    with pytest.raises(MemcachedError, match=says):
        MemcachedServer(**options)
