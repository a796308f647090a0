"""What happens to an interface of the kernel while a port uses it: up, down, gone, returned; its MTU and address.

The kernel says every change to a netlink socket of the interface's namespace. A port's :class:`Links` reads it in the
port's attendant, keeps the state, and calls the driver. The driver acts first and the event is said then: who reads
``returned`` finds a port that works.

An interface is followed by its index, so that a new name does not matter; one that has gone is waited for by its name.

References: rtnetlink(7), netlink(7); RFC 2863 section 3.1.12 (what "up" means); include/uapi/linux/if_link.h.
"""

import errno
import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace

from wirespeed.ports.attendant import Attendant
from wirespeed.ports.netdev import Netdev, look, within
from wirespeed.ports.status import Events

_RTMGRP_LINK = 1
_NEWLINK, _DELLINK = 16, 17
_ADDRESS, _NAME, _MTU = 1, 3, 4  # IFLA_*
_UP, _RUNNING = 0x1, 0x40  # IFF_*
_HEADER, _LINK = 16, 16  # struct nlmsghdr, struct ifinfomsg
_AF_BRIDGE = 7

Changed = Callable[[Netdev | None, Netdev | None], None]
"""Called with the state before and now; None: there is no such interface."""


@dataclass(frozen=True)
class Message:
    """One message about an interface: ``now`` is what it says, None: the interface with that ``index`` is gone."""

    index: int
    now: Netdev | None


def parse(data: bytes) -> list[Message]:
    """The messages about interfaces in what a netlink socket delivered; others are left out."""
    found, at = [], 0
    while at + _HEADER <= len(data):
        size, kind = struct.unpack_from("=IH", data, at)
        if size < _HEADER:
            break
        body = data[at + _HEADER : at + size]
        if kind in (_NEWLINK, _DELLINK) and len(body) >= _LINK and body[0] != _AF_BRIDGE:
            message = _message(kind, body)
            if message is not None:
                found.append(message)
        at += size + 3 & ~3
    return found


def _message(kind: int, body: bytes) -> Message | None:
    hardware, index, flags = struct.unpack_from("=HiI", body, 2)
    if kind == _DELLINK:
        return Message(index, None)
    values, at = {}, _LINK
    while at + 4 <= len(body):
        size, name = struct.unpack_from("=HH", body, at)
        if size < 4:
            break
        values[name & 0x3FFF] = body[at + 4 : at + size]
        at += size + 3 & ~3
    text = values.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
    if len(values.get(_MTU, b"")) != 4:
        return None  # about something else, as a wireless event: it does not say what the interface is
    mtu = struct.unpack("=I", values[_MTU])[0]
    mac = int.from_bytes(values.get(_ADDRESS, b"")[:6])
    up, running = bool(flags & _UP), bool(flags & _RUNNING)
    return Message(index, Netdev(text, index, mac, mtu, up, hardware, running))


class Links:
    """The state of the interface called ``name`` in namespace ``netns``, from now on until :meth:`close`.

    Args:
        attendant: in whose thread messages are read and ``changed`` is called.
        events: where changes are said, after ``changed`` returned: ``gone``, ``returned``, ``link-up``, ``link-down``,
            and ``changed`` for the MTU, the address and the name.

    Attributes:
        now: what the interface is; None while there is none.
    """

    def __init__(self, attendant: Attendant, events: Events, name: str, netns: str, changed: Changed) -> None:
        self.name, self._netns = name, netns
        self._attendant, self._events, self._changed = attendant, events, changed
        self.now: Netdev | None = None
        self._socket = within(netns, _listen)
        try:
            self.now = self._look()
        except BaseException:
            self._socket.close()
            raise
        attendant.watch(self._socket.fileno(), self._read)

    def close(self) -> None:
        """Watch no longer."""
        if self._socket.fileno() >= 0:
            self._attendant.forget(self._socket.fileno())
            self._socket.close()

    def check(self) -> None:
        """Ask instead of waiting for a message; in the attendant's thread."""
        self._turn(self._look())

    def _look(self) -> Netdev | None:
        name = self.now.name if self.now else self.name
        return within(self._netns, lambda: look(name))

    def _read(self) -> None:
        try:
            data = self._socket.recv(1 << 16)
        except OSError as error:
            if error.errno == errno.ENOBUFS:  # messages were lost: netlink(7)
                self.check()
            return
        for message in parse(data):
            self._take(message)

    def _take(self, message: Message) -> None:
        ours = self.now is not None and message.index == self.now.index
        named = message.now is not None and message.now.name == self.name  # a new one, or it has taken the name
        if ours or named:
            self._turn(message.now)

    def _turn(self, after: Netdev | None) -> None:
        before, self.now = self.now, after
        if before == after:
            return
        if before is not None and after is not None and before.index != after.index:
            self.now = None
            self._changed(before, None)
            self._events.say("gone", f"interface {self.name} is gone")
            before, self.now = None, after
        self._changed(before, after)
        self._say(before, after)

    def _say(self, before: Netdev | None, after: Netdev | None) -> None:
        if after is None:
            self._events.say("gone", f"interface {self.name} is gone")
            return
        if before is None:
            self._events.say("returned", f"interface {self.name} is there again")
            before = replace(after, running=False)
        if before.running != after.running:
            why = "" if after.up else ": somebody set it down"
            self._events.say("link-up" if after.running else "link-down", "" if after.running else f"no carrier{why}")
        for what, old, new in (
            ("MTU", before.mtu, after.mtu),
            ("address", _colons(before.mac), _colons(after.mac)),
            ("name", before.name, after.name),
        ):
            if old != new:
                self._events.say("changed", f"{what} {new}, was {old}")


def _colons(mac: int) -> str:
    return mac.to_bytes(6).hex(":")


def _listen() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, 0)
    try:
        made.bind((0, _RTMGRP_LINK))
    except OSError:
        made.close()
        raise
    return made


__all__ = ["Changed", "Links", "Message", "parse"]
