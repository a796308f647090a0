"""Thousands of random commands to Debian's memcached and to ours: all answers are equal.

Ours is asked in memory, memcached by UDP on loopback. What may differ is left out: unique numbers (each is used with
the server that gave it), versions, statistics; and what differs by design: memcached numbers the datagrams of each
command's answer for itself (ours, as its protocol says, those of the whole answer), and waits for the rest of a value
in the next datagram.
"""

import random
import re
import sys
from pathlib import Path

import pytest

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1] / "apps" / "memcached")]
from asked import Asked
from memcached_peer import memcached  # noqa: F401

VALUE = re.compile(rb"^(VALUE ([^ ]+) \d+ (\d+)) (\d+)\r\n", re.M)
KEYS = [b"a", b"b", b"key", b"12345678", b"123456789", b"sixteen-bytes-ok", b"seventeen-bytes-k", b"k" * 250, b"x\ty"]
NUMBERS = [
    b"0",
    b"1",
    b"2",
    b"9",
    b"10",
    b"99",
    b"18446744073709551615",
    b"18446744073709551616",
    b"-1",
    b"+3",
    b"1x",
    b"x",
]
EXPIRIES = [b"0"] * 6 + [b"1000", b"2592000", b"2592001", b"-1", b"99999999999", b"4102444800", b"abc", b"-"]
FLAGS = [b"0"] * 4 + [b"5", b"4294967295", b"4294967296", b"-1", b"f", b"99999999999999999999"]


class Differ:
    """Both, and what each knows of unique numbers."""

    def __init__(self, theirs):
        self.ours, self.theirs = Asked(memory_bytes=64 << 20), theirs.client
        self.uniques = ({}, {})
        assert self.theirs.ask(b"flush_all\r\n") == b"OK\r\n"

    def ask(self, make):
        """Send what ``make(uniques)`` gives to both; their answer."""
        requests = [make(each) for each in self.uniques]
        ours, theirs = self.ours(requests[0]), self.theirs.all_of(requests[1])
        ours = b"" if ours == "incomplete" else ours
        shown = []
        for answer, uniques in ((ours, self.uniques[0]), (theirs, self.uniques[1])):
            shown.append(self.without_uniques(answer, requests[0], uniques))
        assert shown[0] == shown[1], (requests[0][:200], ours[:300], theirs[:300])
        return theirs

    @staticmethod
    def without_uniques(answer, request, uniques):
        if not (request.startswith((b"gets", b"gats"))):
            return answer
        out, at = b"", 0
        while (found := VALUE.match(answer, at)) is not None:
            uniques[found[2]] = found[4]
            end = found.end() + int(found[3]) + 2
            out += found[1] + answer[found.end() : end]
            at = end
        return out + answer[at:]


def value(dice):
    kind = dice.random()
    if kind < 0.3:
        return dice.choice([n for n in NUMBERS if n.isdigit()] + [b" 12", b"7 ", b"8 9", b""])
    if kind < 0.9:
        return dice.randbytes(dice.choice([1, 2, 5, 16, 100, 101, 300]))
    return dice.randbytes(dice.randrange(8193))


def good(dice):
    """A command with all that belongs to it."""
    key, quiet = dice.choice(KEYS), dice.choice([b"", b"", b"", b" noreply"])
    kind = dice.randrange(12)
    if kind < 3:
        keys = b" ".join(dice.choice(KEYS) for _ in range(dice.choice([1, 1, 1, 2, 5])))
        name = dice.choice([b"get", b"gets", b"gat 0", b"gats 0", b"gat 1000", b"get ", b"gets  "])
        return lambda uniques: name + b" " + keys + b"\r\n"
    if kind < 8:
        name = dice.choice([b"set", b"set", b"add", b"replace", b"append", b"prepend", b"cas"])
        data, flags, expiry = value(dice), dice.choice(FLAGS[:7]), dice.choice(EXPIRIES[:12])
        if name in (b"append", b"prepend"):
            data = data[:300]  # else a value grows to where only ours ends

        def store(uniques):
            unique = b" " + uniques.get(key, b"1") if name == b"cas" else b""
            return b"%b %b %b %b %d%b%b\r\n%b\r\n" % (name, key, flags, expiry, len(data), unique, quiet, data)

        return store
    number, expiry = dice.choice(NUMBERS), dice.choice(EXPIRIES)
    line = (
        b"delete %b" % key,
        b"%b %b %b" % (dice.choice([b"incr", b"decr"]), key, number),
        b"touch %b %b" % (key, expiry),
        dice.choice([b"delete %b 0" % key, b"delete %b 1" % key, b"incr %b 1" % key, b"decr %b 1" % key]),
    )[kind - 8]
    return lambda uniques: line + quiet + b"\r\n"


def broken(dice):
    """A line of words that might be a command's."""
    words = [b"get", b"gets", b"gat", b"gats", b"set", b"add", b"replace", b"append", b"prepend", b"cas", b"delete",
             b"incr", b"decr", b"touch", b"flush_all", b"Get", b"ge", b"", b"g", b"setx"]  # fmt: skip
    rest = [dice.choice([*KEYS, *NUMBERS, *EXPIRIES, b"k" * 251, b"noreply", b""]) for _ in range(dice.randrange(7))]
    if words[0] == b"flush_all":
        rest = []
    line = b" ".join([dice.choice(words), *rest])
    if line.split(b" ")[0] == b"flush_all" and rest:
        line = b"flush_all"
    end = dice.choice([b"\r\n", b"\r\n", b"\r\n", b"\n", b"\r\r\n", b" \r\n"])
    # A value that is announced and does not come would have memcached wait for it.
    waits = re.match(rb"\s*(set|add|replace|append|prepend|cas) ", line)
    return None if waits and len(line.split()) > 4 else lambda uniques: line + end


@pytest.fixture(scope="module")
def differ(memcached):  # noqa: F811
    made = Differ(memcached)
    yield made
    made.ours.close()


@pytest.mark.parametrize("seed", range(4))
def test_random_commands(differ, seed):
    dice = random.Random(seed)
    for _ in range(700):
        differ.ask(good(dice))


def test_random_lines(differ):
    dice = random.Random(99)
    for _ in range(1500):
        make = broken(dice)
        if make is not None:
            differ.ask(make)


def test_several_commands_in_a_datagram(differ):
    dice = random.Random(7)
    for _ in range(300):
        several = [good(dice) for _ in range(dice.randrange(1, 5))]
        text = b"".join(each({}) for each in several)
        if b"gets" not in text and b"gats" not in text:
            differ.ask(lambda uniques, text=text: text)


def test_values_that_do_not_fit_their_length(differ):
    for text in (
        b"set s 0 0 3\r\nabcd\r\n", b"set s 0 0 3\r\nabcdefgh\r\nget a\r\n", b"set s 0 0 -1\r\n",
        b"set s 0 0 1x\r\n1\r\n",
        b"set %b 0 0 1\r\n1\r\n" % (b"k" * 251), b"set %b 0 0 1 noreply\r\n1\r\n" % (b"k" * 251),
        b"set s 0 0 1 2 3 4\r\n1\r\n", b"cas s 0 0 1\r\n8\r\n", b"cas s 0 0 1 -1\r\n8\r\n",
        b"set s 0 0 1 noreply x\r\n1\r\n",
        b"set s 0 0 1 x\r\n1\r\n", b"set s 0 0 3 noreply\r\nabcd\r\n", b"get s\r\n",
    ):  # fmt: skip
        differ.ask(lambda uniques, text=text: text)


def test_frames(differ):
    """Frames that say other things than that this is the one datagram of a request, and what is too short."""
    for frame, text in (
        ("1234 0003 0002 0000", b"get nothing\r\n"), ("1234 0000 0000 0000", b"get nothing\r\n"),
        ("1234 0007 0001 0707", b"get nothing\r\n"), ("1234 0000 0001 0000", b""), ("1234 0000 0001", b""),
        ("1234 0000 0001 0000", b"\r\n"), ("1234 0000 0001 0000", b"\n"),
    ):  # fmt: skip
        datagram = bytes.fromhex(frame) + text
        ours = differ.ours.datagrams(datagram)
        differ.theirs.socket.send(datagram)
        last, theirs = differ.theirs.send(b"version\r\n"), []
        while (got := differ.theirs.receive(20))[:2] != last:
            theirs.append(got)
        assert ([] if isinstance(ours, str) else ours) == theirs
