"""Asking ahead: it changes nothing but time, whatever is asked for and never served, or served and never asked for."""

import dns.message
import dns.rcode
import pytest

from wirespeed.apps.dns.serve import ahead, serve
from wirespeed.apps.dns.state import DnsView
from wirespeed.jit import kernel, read_bytes, write_bytes

CELL = 640


@kernel
def _ahead(state, request, length):
    ahead(DnsView(state), request, length)


@kernel
def _serve(state, request, length):
    return serve(DnsView(state), 0, 1, request, length, request, CELL)


def question(name):
    return dns.message.make_query(name, "A", use_edns=False).to_wire()


@pytest.fixture
def asker(serving):
    return serving("$ORIGIN a.\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n$GENERATE 0-99 h$ A 10.0.0.$\n")


def answer(asker, at, asked):
    length = _serve(asker.server.address, at, len(asked))
    return dns.message.from_wire(read_bytes(at, length))


@pytest.mark.parametrize("burst", [1, 7, 8, 9, 64, 100])
def test_bursts(asker, burst):
    asked = [question(f"h{i}.a") for i in range(burst)]
    for _ in range(2):
        for i, each in enumerate(asked):
            write_bytes(asker.requests.address + i * CELL, each)
        for i, each in enumerate(asked):
            _ahead(asker.server.address, asker.requests.address + i * CELL, len(each))
        for i, each in enumerate(asked):
            assert str(answer(asker, asker.requests.address + i * CELL, each).answer[0][0]) == f"10.0.0.{i}"


def test_another_question_where_one_was_asked_for(asker):
    """A hash that is kept may be of what stood there before."""
    at = asker.requests.address
    for before, after in (("h1.a", "h2.a"), ("h1.a", "nobody.a"), ("nobody.a", "h1.a")):
        write_bytes(at, question(before))
        _ahead(asker.server.address, at, len(question(before)))
        write_bytes(at, question(after))
        found = answer(asker, at, question(after))
        if after == "nobody.a":
            assert found.rcode() == dns.rcode.NXDOMAIN
        else:
            assert str(found.answer[0][0]) == f"10.0.0.{after[1]}"


def test_what_is_no_question_is_not_asked_for(asker):
    for each in (b"", b"\0" * 16, question("h1.a")[:-5], b"\0" * 12 + b"\xff" * 20):
        at = asker.requests.address + asker.requests.size - len(each)
        write_bytes(at, each)
        _ahead(asker.server.address, at, len(each))
    assert asker.server[0].asked == 0
