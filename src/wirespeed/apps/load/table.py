"""Requests as frames in memory, whole but for Ethernet addresses, source port and number. ::

    entries: address, length, sum of each | frames of one length, whole cache lines each | frames of the next length ...

Those of one length have the same headers, so that they are written, and summed up for their checksums, all at once: a
million questions take a second, and 96 to 224 bytes each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

import numpy as np
from numpy.typing import NDArray

from wirespeed.apps.load.state import Entry
from wirespeed.stack.frames import ethernet
from wirespeed.stack.packets import udp4, udp6
from wirespeed.wire.ethernet import ETHERTYPE_IPV4, ETHERTYPE_IPV6

End = tuple[IPv4Address | IPv6Address, int]
"""An address and a UDP port."""

_LINE = 64
_UDP = 8


@dataclass(frozen=True)
class _Group:
    """Requests of one length: which, and where their frames are, as bytes from the table's beginning."""

    members: NDArray[np.int64]
    length: int
    at: int
    room: int


class Table:
    """Frames of some payloads; ``size`` bytes of memory are wanted for :meth:`write`.

    Args:
        payloads: of datagrams.
        source, server: from whom to whom; the source's port stays 0.
        number: bytes of each payload, its first, that another number will be written over.
    """

    def __init__(self, payloads: Sequence[bytes], source: End, server: End, number: int) -> None:
        self._payloads, self._ends, self._number = payloads, (source, server), number
        self.udp_at = 34 if source[0].version == 4 else 54
        lengths = np.fromiter((len(each) for each in payloads), np.int64, len(payloads))
        at = -(-len(payloads) * Entry.SIZE // _LINE) * _LINE
        self._groups: list[_Group] = []
        for length in np.unique(lengths).tolist():
            members = np.flatnonzero(lengths == length)
            room = -(-(self.udp_at + _UDP + length) // _LINE) * _LINE
            self._groups.append(_Group(members, length, at, room))
            at += len(members) * room
        self.size = at
        self.count = len(payloads)

    def write(self, memory: NDArray[np.uint8], address: int) -> None:
        """Write all into ``memory``, whose first byte has this address."""
        entries = memory[: self.count * Entry.SIZE].view(np.int64).reshape(self.count, -1)
        for group in self._groups:
            payloads = b"".join(self._payloads[member] for member in group.members.tolist())
            frames = self._frames(memory, group)
            head = self.udp_at + _UDP
            blank = _frame(*self._ends, bytes(group.length))
            frames[:, :head] = np.frombuffer(blank[:head], np.uint8)
            body = frames[:, head : head + group.length]
            body[:] = np.frombuffer(payloads, np.uint8).reshape(body.shape)
            entries[group.members, 0] = address + group.at + np.arange(len(group.members)) * group.room
            entries[group.members, 1] = head + group.length
            entries[group.members, 2] = _sum(blank, self.udp_at) + self._sums(body)

    def address_to(self, memory: NDArray[np.uint8], mac: int, own: int) -> None:
        """Write Ethernet addresses into every frame."""
        for group in self._groups:
            addresses = mac.to_bytes(6, "big") + own.to_bytes(6, "big")
            self._frames(memory, group)[:, :12] = np.frombuffer(addresses, np.uint8)

    def _frames(self, memory: NDArray[np.uint8], group: _Group) -> NDArray[np.uint8]:
        end = group.at + len(group.members) * group.room
        return memory[group.at : end].reshape(-1, group.room)

    def _sums(self, body: NDArray[np.uint8]) -> NDArray[np.int64]:
        """Of the words of each payload, in memory order, the number's left out."""
        even = body[:, self._number :: 2].sum(axis=1, dtype=np.int64)
        odd = body[:, self._number + 1 :: 2].sum(axis=1, dtype=np.int64)
        return np.asarray(even + (odd << 8))


def _frame(source: End, server: End, payload: bytes) -> bytes:
    """A frame without Ethernet addresses; source port 0."""
    if isinstance(source[0], IPv4Address):
        assert isinstance(server[0], IPv4Address)
        return ethernet(0, 0, ETHERTYPE_IPV4, udp4((source[0], 0), (server[0], server[1]), payload))
    assert isinstance(server[0], IPv6Address)
    return ethernet(0, 0, ETHERTYPE_IPV6, udp6((source[0], 0), (server[0], server[1]), payload))


def _sum(frame: bytes, udp_at: int) -> int:
    """What the checksum covers of the headers, summed up in memory order."""
    length = frame[udp_at + 4 : udp_at + 6]
    addresses = frame[26:34] if udp_at == 34 else frame[22:54]
    covered = addresses + bytes((0, 17)) + length + frame[udp_at : udp_at + 6]
    return int(np.frombuffer(covered, "<u2").sum(dtype=np.int64))


__all__ = ["End", "Table"]
