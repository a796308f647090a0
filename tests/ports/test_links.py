"""links: netlink messages as bytes, and a real interface that comes, goes and changes."""

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import Space, eventually, needs_namespaces, spaces

from wirespeed.ports.attendant import Attendant
from wirespeed.ports.links import Links, Message, parse
from wirespeed.ports.netdev import Netdev, hardware, look, within
from wirespeed.ports.status import Events

# As the kernel writes them, with the attributes that matter.
_NAME = struct.pack("=HH", 7, 3) + b"w0\0\0"
_MAC = struct.pack("=HH", 10, 1) + bytes.fromhex("02000000000a") + b"\0\0"
_MTU = struct.pack("=HHI", 8, 4, 1400)


def _message(kind: int, flags: int, *attributes: bytes, family: int = 0, index: int = 7) -> bytes:
    body = struct.pack("=BxHiII", family, 1, index, flags, 0) + b"".join(attributes)
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 0, 0) + body


def test_messages_are_read() -> None:
    data = _message(16, 0x1043, _MAC, _NAME, _MTU) + _message(17, 0, _NAME)
    there = Netdev("w0", 7, 0x0200_0000_000A, 1400, up=True, hardware=1, running=True)
    assert parse(data) == [Message(7, there), Message(7, None)]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x10",
        struct.pack("=IHHII", 3, 16, 0, 0, 0),  # shorter than its own header
        struct.pack("=IHHII", 20, 16, 0, 0, 0) + b"1234",  # no room for an interface
        _message(16, 0x1043, _NAME, struct.pack("=HHI", 8, 11, 0)),  # IFLA_WIRELESS: a scan has ended
        _message(17, 0, _NAME, family=7),  # a bridge lost a port: the interface is still there
        struct.pack("=IHHII", 16, 3, 0, 0, 0),  # NLMSG_DONE
    ],
)
def test_what_says_nothing_of_an_interface_is_left_out(data: bytes) -> None:
    assert parse(data) == []


def test_broken_attributes_end_the_message() -> None:
    (found,) = parse(_message(16, 1, _NAME, _MTU, struct.pack("=HH", 2, 4), _MAC))
    assert found.now == Netdev("w0", 7, 0, 1400, up=True, hardware=1, running=False)


@pytest.fixture(scope="module")
def space() -> Iterator[Space]:
    with spaces("links") as (made,):
        yield made


class Seen:
    """Links of interface ``w0``, and what they said."""

    def __init__(self, space: Space) -> None:
        self.events = Events("test:w0")
        self.changes: list[tuple[Netdev | None, Netdev | None]] = []
        self.attendant = Attendant("test-links", self.events)
        self.links = Links(self.attendant, self.events, "w0", space.name, lambda *both: self.changes.append(both))

    def said(self, kind: str) -> str:
        """The text of the first event of that kind, which must come."""

        def find() -> list[str]:
            return [event.text or kind for event in self.events.since() if event.kind == kind]

        return str(eventually(find, f"event {kind}")[0])

    def close(self) -> None:
        self.links.close()
        self.attendant.close()


@pytest.fixture
def seen(space: Space) -> Iterator[Seen]:
    _add(space)
    made = Seen(space)
    yield made
    made.close()
    space.run("ip", "link", "del", "w0", check=False)
    space.run("ip", "link", "del", "w9", check=False)


def _add(space: Space) -> None:
    subprocess.run(["ip", "-n", space.name, "link", "add", "w0", "type", "veth", "peer", "name", "w1"], check=True)


@needs_namespaces
def test_up_down_mtu_address_and_name(space: Space, seen: Seen) -> None:
    assert seen.links.now == within(space.name, lambda: look("w0"))
    space.run("ip", "link", "set", "w1", "up")
    space.run("ip", "link", "set", "w0", "up")
    seen.said("link-up")
    space.run("ip", "link", "set", "w0", "mtu", "1400")
    assert seen.said("changed") == "MTU 1400, was 1500"
    space.run("ip", "link", "set", "w1", "down")
    assert seen.said("link-down") == "no carrier"
    space.run("ip", "link", "set", "w0", "down", "name", "w9")
    eventually(lambda: seen.links.now is not None and seen.links.now.name == "w9", "the new name")
    space.run("ip", "link", "del", "w9")
    seen.said("gone")
    assert seen.changes[-1][1] is None


@needs_namespaces
def test_gone_and_returned(space: Space, seen: Seen) -> None:
    for turn in range(1, 4):
        space.run("ip", "link", "del", "w0")
        _add(space)
        for kind in ("gone", "returned"):
            eventually(
                lambda kind=kind, turn=turn: sum(event.kind == kind for event in seen.events.since()) == turn, kind
            )
    pairs = [(before is None, after is None) for before, after in seen.changes]
    assert pairs.count((False, True)) == pairs.count((True, False)) == 3


@needs_namespaces
def test_lost_messages_are_made_up_for(space: Space, seen: Seen) -> None:
    """Another interface has the name by the time anybody looks: it went and came."""
    seen.attendant.forget(seen.links._socket.fileno())
    space.run("ip", "link", "del", "w0")
    _add(space)
    seen.attendant.call(seen.links.check)
    seen.said("returned")
    assert [event.kind for event in seen.events.since()][:2] == ["gone", "returned"]


@needs_namespaces
def test_driver_and_speed(space: Space, seen: Seen) -> None:
    assert within(space.name, lambda: hardware("w0"))[0] == "veth"
    assert within(space.name, lambda: hardware("lo"))[1] == 0
