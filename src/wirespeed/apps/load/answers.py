"""What an answer says: a kind for each protocol, by which it is counted.

A memcached answer may be several datagrams (its frame header has a number and how many there are): the last of them is
the answer, since a client has it then; on a path that keeps the order that is when all are there.
"""
# mypy: no-warn-return-any

from typing import Any

from wirespeed.apps.load.state import DNS, MEMCACHED, UDP
from wirespeed.jit import bswap16, inline, load8, load16

_FRAME = 8  # of memcached over UDP: request id, number of the datagram, how many, 0
_TRUNCATED, _OTHER_RCODE = 12, 13

NAMES: dict[int, tuple[str, ...]] = {
    UDP: ("answer",),
    DNS: (
        "noerror", "formerr", "servfail", "nxdomain", "notimp", "refused", "yxdomain", "yxrrset", "nxrrset", "notauth",
        "notzone", "dsotypeni", "truncated", "other-rcode", "not-an-answer",
    ),
    MEMCACHED: (
        "hit", "miss", "stored", "not-stored", "error", "client-error", "server-error", "other",
    ),
}  # fmt: skip
"""Kinds of answers, by protocol, in the order of their numbers."""

ERRORS: dict[int, frozenset[str]] = {
    UDP: frozenset(),
    DNS: frozenset(NAMES[DNS]) - {"noerror", "nxdomain", "truncated"},
    MEMCACHED: frozenset({"error", "client-error", "server-error", "other"}),
}
"""Those that say that something is wrong with the server, or the request."""


@inline
def kind_of(protocol: int, at: int, length: int) -> int:
    """The kind of an answer of eight bytes or more; -1: more of it is to come."""
    if protocol == DNS:
        if load8(at + 2) & 0x80 == 0:
            return 14
        if load8(at + 2) & 0x02 != 0:
            return _TRUNCATED
        return min(load8(at + 3) & 15, _OTHER_RCODE) if load8(at + 3) & 15 < _TRUNCATED else _OTHER_RCODE
    if protocol == MEMCACHED:
        return _memcached(at, length)
    return 0


@inline
def _memcached(at: int, length: int) -> int:
    if bswap16(load16(at + 2)) + 1 < bswap16(load16(at + 4)):
        return -1
    if bswap16(load16(at + 4)) > 1:
        return 0  # only a value is so long
    if length < _FRAME + 3:
        return 7
    first, second, third = load8(at + 8), load8(at + 9), load8(at + 10)
    if first == 0x56:  # VALUE
        return 0
    if first == 0x45:  # END, ERROR
        return 1 if second == 0x4E else 4
    if first == 0x53:  # STORED, SERVER_ERROR
        return 2 if second == 0x54 else 6
    if first == 0x4E and third == 0x54:  # NOT_STORED
        return 3
    return 5 if first == 0x43 else 7  # CLIENT_ERROR


def names_of(protocol: int, counts: list[int]) -> dict[str, int]:
    """Counts by kind, those that are none left out."""
    return {name: count for name, count in zip(NAMES[protocol], counts, strict=False) if count}


def errors_of(protocol: int, kinds: dict[str, Any]) -> int:
    """How many of these say that something is wrong."""
    return sum(count for name, count in kinds.items() if name in ERRORS[protocol])


__all__ = ["ERRORS", "NAMES", "errors_of", "kind_of", "names_of"]
