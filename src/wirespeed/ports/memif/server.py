"""The server of memif connections: one listener for a socket, shared by all ports of this process on it.

A stranger that connects has said nothing yet. It gets a few seconds to say which interface it wants (INIT), and there
are never more than a few strangers; who they are is asked before any of their memory is looked at.
"""

import contextlib
import errno
import hmac
import os
import socket
import stat
import threading
from typing import Protocol

from wirespeed.errors import PortError
from wirespeed.ports.attendant import Attendant
from wirespeed.ports.memif.channel import Channel, Gone
from wirespeed.ports.memif.memory import MOST_REGIONS, LentRegion
from wirespeed.ports.memif.messages import (
    ETHERNET,
    SECRET_BYTES,
    TO_SERVER,
    VERSION,
    Ack,
    AddRegion,
    AddRing,
    Connect,
    Connected,
    Hello,
    Init,
    Message,
    Refusal,
    text,
)
from wirespeed.ports.memif.ring import COOKIE, LARGEST_LOG2, RING_BYTES, SLOT_BYTES, Ring
from wirespeed.ports.memif.session import Owner, Session, Way
from wirespeed.ports.status import Events

_GREETING_S = 5.0
_MOST_STRANGERS = 32
_EVENTFD = "anon_inode:[eventfd]"


class Host(Owner, Protocol):
    """What a listener asks of a port."""

    events: Events
    secret: bytes
    unsealed: bool
    ring_counts: tuple[int, int]

    @property
    def busy(self) -> bool:
        """Whether it has a client."""

    def admitted(self, session: Session) -> None:
        """A client has named this port, and may."""


class ServerSession(Session):
    """A connection of a client that was admitted."""

    host: Host

    def __init__(self, channel: Channel, attendant: Attendant, host: Host, init: Init) -> None:
        super().__init__(channel, attendant, host)
        self.host = host
        self.peer = text(init.name)
        self._connected = False

    def handle(self, message: Message, descriptor: int) -> None:
        """The client adds regions and rings, then connects."""
        try:
            if self._connected:
                raise Refusal(f"{type(message).__name__} after the connection was made")
            if isinstance(message, AddRegion):
                taken, descriptor = descriptor, -1
                self._add_region(message, taken)
            elif isinstance(message, AddRing):
                taken, descriptor = descriptor, -1
                self._add_ring(message, taken)
            elif isinstance(message, Connect):
                self._connect()
                return
            else:
                raise Refusal(f"{type(message).__name__} out of turn")
        except Refusal:
            if descriptor >= 0:
                os.close(descriptor)
            raise
        self.channel.send(Ack())

    def _add_region(self, wanted: AddRegion, descriptor: int) -> None:
        if wanted.index != len(self.regions) or wanted.index >= MOST_REGIONS:
            os.close(descriptor)
            raise Refusal(f"region {wanted.index} when {len(self.regions)} are known")
        self.regions.append(LentRegion(descriptor, wanted.size, self.host.unsealed))

    def _add_ring(self, wanted: AddRing, descriptor: int) -> None:
        ways, most = (
            (self.to_server, self.host.ring_counts[0])
            if wanted.flags & TO_SERVER
            else (self.to_client, self.host.ring_counts[1])
        )
        why = self._fault_of(wanted, most)
        if not why and wanted.index in ways:
            why = f"ring {wanted.index} twice"
        if not why and os.readlink(f"/proc/self/fd/{descriptor}") != _EVENTFD:
            why = "a ring's descriptor is no eventfd"
        if why:
            os.close(descriptor)
            raise Refusal(why)
        os.set_blocking(descriptor, False)
        ways[wanted.index] = Way(self.regions[wanted.region].address + wanted.offset, wanted.log2_ring_size, descriptor)

    def _fault_of(self, wanted: AddRing, most: int) -> str:
        if wanted.index >= most:
            return f"ring {wanted.index} of at most {most}"
        if wanted.region >= len(self.regions):
            return f"a ring in region {wanted.region}, which was never added"
        if not 1 <= wanted.log2_ring_size <= LARGEST_LOG2:
            return f"a ring of 2^{wanted.log2_ring_size} slots"
        end = wanted.offset + RING_BYTES + (SLOT_BYTES << wanted.log2_ring_size)
        if wanted.offset % SLOT_BYTES or end > self.regions[wanted.region].size:
            return f"a ring at {wanted.offset}, which does not lie in its region"
        return ""

    def _connect(self) -> None:
        if not self.regions:
            raise Refusal("no region was added")
        for way in self.ways():
            if Ring(way.address).cookie != COOKIE:
                raise Refusal(f"a ring with cookie {Ring(way.address).cookie:#x}, not {COOKIE:#x}")
            Ring(way.address).head = 0  # so does DPDK; nothing is in a ring before both know that they are connected
            Ring(way.address).tail = 0
        self._connected = True
        self.owner.joined(self)
        self.channel.send(Connected(b"wirespeed"))


class Listener:
    """A listening socket and the ports that share it."""

    def __init__(self, address: str, events: Events, spec: str) -> None:
        self.address = address
        self.hosts: dict[int, Host] = {}
        self._strangers: dict[int, Channel] = {}
        self._socket = _bind(address, spec)
        self._inode = 0 if address.startswith("\0") else os.stat(address).st_ino
        self.attendant = Attendant(f"memif {address.replace(chr(0), '@')}", events)
        self.attendant.watch(self._socket.fileno(), self._accept)

    def _accept(self) -> None:
        for _ in range(_MOST_STRANGERS):  # in a row: who connects and leaves in a loop shall not have all our time
            try:
                made, _ = self._socket.accept()
            except OSError:
                return
            channel = Channel(made)
            if len(self._strangers) >= _MOST_STRANGERS:
                channel.close("too many strangers at the door")
                continue
            self._strangers[channel.fd] = channel
            self.attendant.watch(channel.fd, lambda channel=channel: self._greet(channel))  # type: ignore[misc]
            self.attendant.after(_GREETING_S, lambda channel=channel: self._expire(channel))  # type: ignore[misc]
            rings = [host.ring_counts for host in self.hosts.values()] or [(1, 1)]
            hello = Hello(
                b"wirespeed", VERSION, VERSION, MOST_REGIONS - 1,
                max(m2s for _, m2s in rings) - 1, max(s2m for s2m, _ in rings) - 1, LARGEST_LOG2,
            )  # fmt: skip
            try:
                channel.send(hello)
            except Gone:
                self._turn_away(channel, "")

    def _greet(self, channel: Channel) -> None:
        try:
            received = channel.receive()
            if received is None:
                return
            message, descriptor = received
            if descriptor >= 0:
                os.close(descriptor)
            if not isinstance(message, Init):
                raise Refusal(f"{type(message).__name__} before Init")
            host = self._admit(message)
        except (Refusal, Gone) as reason:
            self._turn_away(channel, str(reason))
            return
        del self._strangers[channel.fd]
        session = ServerSession(channel, self.attendant, host, message)
        host.admitted(session)
        try:
            channel.send(Ack())
        except Gone as gone:
            session.end("disconnected", str(gone))

    def _admit(self, init: Init) -> Host:
        if init.version != VERSION:
            raise Refusal(f"version {init.version:#x}, not {VERSION:#x}")
        host = self.hosts.get(init.id)
        if host is None:
            raise Refusal(f"no interface {init.id} here")
        try:
            if host.busy:
                raise Refusal("already connected")
            if init.mode != ETHERNET:
                raise Refusal(f"mode {init.mode}: only Ethernet (0) is spoken here")
            if host.secret and not hmac.compare_digest(host.secret.ljust(SECRET_BYTES, b"\0"), init.secret):
                raise Refusal("wrong secret" if init.secret.strip(b"\0") else "a secret is required")
        except Refusal as refusal:
            host.events.say("refused", str(refusal))
            raise
        return host

    def _expire(self, channel: Channel) -> None:
        if self._strangers.get(channel.fd) is channel:
            self._turn_away(channel, "said nothing for too long")

    def _turn_away(self, channel: Channel, reason: str) -> None:
        del self._strangers[channel.fd]
        self.attendant.forget(channel.fd)
        channel.close(reason)

    def close(self) -> None:
        """Listen no more; the socket's file is removed if it is still ours."""
        self.attendant.close()
        for channel in self._strangers.values():
            channel.close()
        if self._inode:
            with contextlib.suppress(OSError):
                if os.stat(self.address).st_ino == self._inode:
                    os.unlink(self.address)
        self._socket.close()


def _bind(address: str, spec: str) -> socket.socket:
    """A listening socket; the file of a process that died is replaced."""
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        if _stale(address):
            os.unlink(address)
        made.bind(address)
        made.listen(_MOST_STRANGERS)
    except OSError as error:
        made.close()
        shown = address.replace("\0", "@")
        remedies = {
            errno.EADDRINUSE: "another process uses it: end that, or choose another socket",
            errno.ENOENT: f"its folder is not there: mkdir -p {os.path.dirname(shown) or '.'}",
            errno.EACCES: "run with sudo, or choose a folder of your own",
        }
        remedy = remedies.get(error.errno or 0, "choose another socket")
        raise PortError(f"port {spec!r}: socket {shown}: {error.strerror}; {remedy}") from None
    made.setblocking(False)
    return made


def _stale(address: str) -> bool:
    """Whether a socket's file is there and nobody listens."""
    if address.startswith("\0") or not os.path.exists(address) or not stat.S_ISSOCK(os.stat(address).st_mode):
        return False
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as probe:
        probe.setblocking(False)
        return probe.connect_ex(address) == errno.ECONNREFUSED


_listeners: dict[str, Listener] = {}
_guard = threading.Lock()


def listen(address: str, number: int, host: Host, spec: str) -> Listener:
    """Serve interface ``number`` on a socket.

    Raises:
        PortError: the socket cannot be had, or another port of this process serves that number on it.
    """
    with _guard:
        listener = _listeners.get(address) or Listener(address, host.events, spec)
        _listeners[address] = listener
        if number in listener.hosts:
            raise PortError(f"port {spec!r}: id={number} of this socket is another port's: choose another id")
        listener.hosts[number] = host
        return listener


def leave(listener: Listener, number: int) -> None:
    """Serve it no longer; who goes last closes the socket."""
    with _guard:
        del listener.hosts[number]
        if not listener.hosts:
            del _listeners[listener.address]
            listener.close()


__all__ = ["Host", "Listener", "ServerSession", "leave", "listen"]
