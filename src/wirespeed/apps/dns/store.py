"""A store: the names of zones in shared memory, read by workers, written once. A reload makes another one.

::

    0      head: wirespeed.apps.dns.find.StoreView
    64     hash table, open addressing with linear probing, at most half full; a slot is 0 or
               0  where the node is (32)        4  the upper half of its name's hash (32)
    ...    arena, in units of 8 bytes; 0 is nothing
               a zone's negative answer
               node:  0  bytes of the name    1  flags    2  entries (16)    4  where its zone's negative answer is (32)
                      8  the name, in lower case, zeros up to a multiple of 8
                      .  entries:  0  type (16)    4  where its answer is (32)
               answers: wirespeed.apps.dns.render

A node and its answers stand together: a question that finds its name costs a line for the slot, one or two for the
rest. Names with nothing but names below them have a node without entries (RFC 4592 section 2.2.2); names below a
delegation have none: they are found by their closest encloser, like names that are not there.
"""

import ctypes
import struct
from collections.abc import Sequence

import numpy as np

from wirespeed.apps.dns.find import CUT, NODE_NAME, WILD, StoreView, name_hash
from wirespeed.apps.dns.render import RRset, grouped, negative, positive, referral
from wirespeed.apps.dns.zone import DnsError, Zone, is_within, name_text
from wirespeed.jit import kernel, lent, load8, load64, shift_right, store64
from wirespeed.mem.region import Region
from wirespeed.tables.seed import SEED
from wirespeed.wire.dns import TYPE_DS, TYPE_NS, TYPE_SOA

_HEAD = 64
_UNIT = 8
_LINE = 64
_BEYOND = 128  # a copy of 32 bytes, or a prefetch, may read over the last answer
_NODE = struct.Struct("<BBHI")
_ENTRY = struct.Struct("<HHI")
_ENTRY0 = 0
_LOW = 0xFFFF_FFFF


@kernel
def _fill(head: int, nodes: int, count: int) -> None:
    """Put nodes, given by their units, in the hash table."""
    store = StoreView(head)
    for i in range(count):
        unit = load64(nodes + i * 8)
        node = store.arena + (unit << 3)
        h = name_hash(store, node + NODE_NAME, load8(node))
        index = h & store.mask
        while load64(store.slots + (index << 3)) != 0:
            index = (index + 1) & store.mask
        store64(store.slots + (index << 3), unit | shift_right(h, 32) << 32)


class _Draft:
    """Nodes and answers, growing."""

    def __init__(self) -> None:
        self.arena = bytearray(_UNIT)
        self.nodes: list[int] = []
        self.depth = 0

    def append(self, data: bytes) -> int:
        """Add bytes; their unit."""
        at = len(self.arena)
        self.arena += data
        self.arena += b"\0" * (-len(self.arena) % _UNIT)
        return at // _UNIT

    def node(self, name: bytes, flags: int, zone: int, answers: Sequence[tuple[int, bytes]], entry0: bool) -> int:
        """Add a node with its answers; its unit. With ``entry0`` there is such an entry, to be set later."""
        padded = -(-len(name) // _UNIT) * _UNIT
        first = NODE_NAME + padded + _ENTRY.size * (len(answers) + entry0)
        size = first + sum(-(-len(answer) // _UNIT) * _UNIT for _, answer in answers)
        arena = self.arena
        at = len(arena)
        if (at & _LINE - 1) + size > -(-size // _LINE) * _LINE:  # not on one more line than it needs
            arena += b"\0" * (-at % _LINE)
            at = len(arena)
        parts = [_NODE.pack(len(name), flags, len(answers) + entry0, zone), name, b"\0" * (padded - len(name))]
        if entry0:
            parts.append(_ENTRY.pack(_ENTRY0, 0, 0))
        place = at + first
        for kind, answer in answers:
            parts.append(_ENTRY.pack(kind, 0, place // _UNIT))
            place += -(-len(answer) // _UNIT) * _UNIT
        for _, answer in answers:
            parts.append(answer)
            if len(answer) % _UNIT:
                parts.append(b"\0" * (-len(answer) % _UNIT))
        arena += b"".join(parts)
        self.nodes.append(at // _UNIT)
        return at // _UNIT

    def set_entry0(self, node: int, unit: int) -> None:
        """What a node's entry 0 leads to."""
        at = node * _UNIT
        _ENTRY.pack_into(self.arena, at + NODE_NAME + -(-self.arena[at] // _UNIT) * _UNIT, _ENTRY0, 0, unit)


class _ZoneDraft:
    """The nodes of one zone."""

    def __init__(self, draft: _Draft, zone: Zone, below: Sequence[bytes]) -> None:
        self.draft, self.zone, self.below = draft, zone, below
        self.names, self.origin = zone.names, zone.origin
        self.cuts: dict[bytes, bool] = {}  # of names that others are below: whether they are at or below a cut
        self.wild: dict[bytes, int] = {}  # wildcards: name to node
        self.parents: list[tuple[bytes, int]] = []  # nodes with a wildcard: name of that, node
        self.empty: set[bytes] = set()  # names with nothing but names below them
        for name in self.names:
            self._look_up(name)
        below_these = {name[2:] for each in (self.names, self.empty) for name in each if name.startswith(b"\1*")}
        self.wildcards = {name for name in below_these if not self._occluded(b"\1*" + name)}

    def _look_up(self, name: bytes) -> None:
        """Note what is above a name."""
        if name == self.origin:
            return
        parent = name[name[0] + 1 :]
        if parent not in self.cuts:
            self._is_cut(parent)

    def _is_cut(self, name: bytes) -> bool:
        known = self.cuts.get(name)
        if known is not None:
            return known
        if name == self.origin:
            cut = False
        else:
            cut = self._is_cut(name[name[0] + 1 :])
            packed = self.names.get(name)
            if packed is None:
                self.empty.add(name)
            elif not cut:
                cut = TYPE_NS in grouped(packed)
        self.cuts[name] = cut
        return cut

    def _occluded(self, name: bytes) -> bool:
        """Whether a delegation, or another zone of ours, is above a name."""
        if any(is_within(name, other) for other in self.below):
            return True
        return name != self.origin and self.cuts[name[name[0] + 1 :]]

    def write(self) -> None:
        """Add all nodes."""
        draft = self.draft
        soa = grouped(self.names[self.origin])[TYPE_SOA]
        zone = draft.append(negative(self.origin, soa))
        for name in self.names:
            if not self._occluded(name):
                self._write_name(name, zone)
        for name in self.empty:
            if not self._occluded(name):
                self._node(name, zone, [])
        for wildcard, node in self.parents:
            draft.set_entry0(node, self.wild[wildcard])

    def _write_name(self, name: bytes, zone: int) -> None:
        group = grouped(self.names[name])
        if TYPE_NS in group and name != self.origin:
            self._write_cut(name, zone, group)
            return
        self._node(name, zone, [(kind, positive(name, kind, group[kind])) for kind in group])

    def _write_cut(self, name: bytes, zone: int, group: dict[int, RRset]) -> None:
        """A delegation: of its own types only DS is ours (RFC 4035 section 3.1.4.1)."""
        draft = self.draft
        unit = draft.append(referral(name, group[TYPE_NS], self.names))
        answers = [(TYPE_DS, positive(name, TYPE_DS, group[TYPE_DS]))] if TYPE_DS in group else []
        node = draft.node(name, CUT, zone, answers, True)
        draft.set_entry0(node, unit)
        self._is_wildcard(name, node)

    def _node(self, name: bytes, zone: int, answers: Sequence[tuple[int, bytes]]) -> None:
        wild = name in self.wildcards
        node = self.draft.node(name, WILD if wild else 0, zone, answers, wild)
        self._is_wildcard(name, node)
        if wild:
            self.parents.append((b"\1*" + name, node))

    def _is_wildcard(self, name: bytes, node: int) -> None:
        if name.startswith(b"\1*"):
            self.wild[name] = node


def _labels(name: bytes) -> int:
    count = at = 0
    while name[at]:
        at += name[at] + 1
        count += 1
    return count


class Store:
    """The names of zones, ready to be asked.

    Args:
        zones: no two of one name.

    Raises:
        DnsError: two zones of one name, or too many records of a name and type.
        ArenaError: no memory.
    """

    def __init__(self, zones: Sequence[Zone]) -> None:
        draft = _Draft()
        origins = [zone.origin for zone in zones]
        for index, zone in enumerate(zones):
            if zone.origin in origins[:index]:
                raise DnsError(f"{zone.source}: the zone {name_text(zone.origin)} is here twice")
            below = [other for other in origins if other != zone.origin and is_within(other, zone.origin)]
            _ZoneDraft(draft, zone, below).write()
        self.origins = [name_text(origin) for origin in origins]
        self.names = len(draft.nodes)
        slots = 1 << max(2 * self.names - 1, 7).bit_length()
        arena = _HEAD + 8 * slots
        self._region = Region(arena + len(draft.arena) + _BEYOND, "wirespeed-dns-store", huge=slots > 1 << 12)
        self.address = self._region.address
        head = StoreView(self.address)
        head.slots, head.mask, head.arena = self.address + _HEAD, slots - 1, self.address + arena
        head.seed0, head.seed1, head.seed2 = SEED
        head.names = self.names
        head.depth = max((_labels(name) for zone in zones for name in zone.names), default=0)
        source, nodes = np.frombuffer(draft.arena, np.uint8), np.array(draft.nodes, np.int64)
        ctypes.memmove(head.arena, source.ctypes.data, len(source))
        with lent(nodes):
            _fill(self.address, nodes.ctypes.data, len(nodes))

    @property
    def memory_bytes(self) -> int:
        """Bytes of memory it takes."""
        return self._region.size

    @property
    def pages(self) -> str:
        """Kind of its memory."""
        return self._region.kind

    def close(self) -> None:
        """Give the memory back; no worker may use it any more."""
        self._region.close()


__all__ = ["Store"]
