"""A store: the names of zones in shared memory, read by workers, written once. A reload makes another one.

::

    0      head: wirespeed.apps.dns.find.StoreView
    64     hash table, open addressing with linear probing, at most a quarter full: most names are in the first slot
           looked at, which is what a processor bets on; a slot (32) is 0, or which node, as a multiple of 16 bytes, in
           as many bits as the arena needs; above them bits of the name's hash; LONG
    ...    arena
               a zone's negative answer
               node:  0  bytes of the name    1  flags    2  where the name is (16)
                      4  where its zone's negative answer is (32)
                      8  for each type: the type (16), and how far from the node its answer is (16)
                      .  the name, in lower case
                      .  at a multiple of 4: what the flag leads to (32), if it has one
                      .  answers: wirespeed.apps.dns.render
               other answers, at multiples of 4, as are all offsets

A node and its answers stand together, and a name with an address fits in one cache line, up to 32 bytes of name: a
question costs a line for the slot and one for the rest. Names with nothing but names below them have a node without
types (RFC 4592 section 2.2.2); names below a delegation have none: they are found by their closest encloser, like names
that are not there.
"""

import ctypes
import itertools
import struct
from collections.abc import Sequence

import numpy as np

from wirespeed.apps.dns.find import CUT, LONG, NODE_ENTRIES, NODE_SHIFT, WILD, StoreView, name_hash, name_of
from wirespeed.apps.dns.render import RRset, grouped, negative, positive, referral
from wirespeed.apps.dns.zone import DnsError, Zone, is_within, name_text
from wirespeed.jit import kernel, lent, load8, load32, load64, shift_right, store32
from wirespeed.mem.region import Region
from wirespeed.tables.seed import SEED
from wirespeed.wire.dns import TYPE_DS, TYPE_NS, TYPE_SOA

_HEAD = 64
_LINE = 64
_NODE_ALIGN = 1 << NODE_SHIFT
_ARENA_MAX = 4 << 32  # bytes: offsets have 32 bits
_BEYOND = 128  # a copy of 32 bytes, or a prefetch, may read over the last answer
_NODE = struct.Struct("<BBHI")
_WHERE = struct.Struct("<I")
_ENTRY = struct.Struct("<HH")
_ENTRY_MAX = 0xFFFF
_SERIAL_MAX = 0xFFFF
_serials = itertools.count()


@kernel
def _fill(head: int, nodes: int, count: int) -> None:
    """Put nodes, given as slots without bits of the hash, in the hash table."""
    store = StoreView(head)
    for i in range(count):
        slot = load64(nodes + i * 8)
        node = store.arena + ((slot & store.unit_mask) << NODE_SHIFT)
        h = name_hash(store, name_of(node), load8(node))
        index = h & store.mask
        while load32(store.slots + (index << 2)) != 0:
            index = (index + 1) & store.mask
        store32(store.slots + (index << 2), slot | shift_right(h, 32) & store.tag_mask)


def _padded(size: int) -> int:
    return (size + 3) & -4


class _Draft:
    """Nodes and answers, growing."""

    def __init__(self) -> None:
        self.arena = bytearray(_NODE_ALIGN)  # no node is 0
        self.nodes: list[int] = []  # offsets, and LONG
        self.long: list[bool] = []

    def append(self, data: bytes) -> int:
        """Add an answer; where it is."""
        at = len(self.arena)
        self.arena += data
        self.arena += b"\0" * (-len(self.arena) % 4)
        return at // 4

    def node(self, name: bytes, flags: int, zone: int, answers: Sequence[tuple[int, bytes]]) -> int:
        """Add a node with its answers; its offset. What a flag leads to is set later.

        Raises:
            DnsError: it has more records than a node can.
        """
        named = NODE_ENTRIES + 4 * len(answers)
        place = named + _padded(len(name)) + (4 if flags else 0)
        parts = []
        for kind, answer in answers:
            if place // 4 > _ENTRY_MAX:
                raise DnsError(f"{name_text(name)}: {place:,} bytes of records: {4 * _ENTRY_MAX:,} are possible")
            parts.append(_ENTRY.pack(kind, place // 4))
            place += _padded(len(answer))
        parts += (name, b"\0" * (-len(name) % 4), b"\0\0\0\0" if flags else b"")
        for _, answer in answers:
            parts += (answer, b"\0" * (-len(answer) % 4))
        arena = self.arena
        at = -(-len(arena) // _NODE_ALIGN) * _NODE_ALIGN
        if (at & _LINE - 1) + place > -(-place // _LINE) * _LINE:  # not on one more line than it needs
            at = -(-at // _LINE) * _LINE
        arena += b"".join((b"\0" * (at - len(arena)), _NODE.pack(len(name), flags, named, zone), *parts))
        self.nodes.append(at)
        self.long.append((at & _LINE - 1) + place > _LINE)
        return at

    def lead(self, node: int, to: int) -> None:
        """What a node's flag leads to: an offset in units of 4 bytes."""
        length, _, named, _ = _NODE.unpack_from(self.arena, node)
        _WHERE.pack_into(self.arena, node + named + _padded(length), to)


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
            draft.lead(node, self.wild[wildcard] // 4)

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
        node = draft.node(name, CUT, zone, answers)
        draft.lead(node, unit)
        self._is_wildcard(name, node)

    def _node(self, name: bytes, zone: int, answers: Sequence[tuple[int, bytes]]) -> None:
        wild = name in self.wildcards
        node = self.draft.node(name, WILD if wild else 0, zone, answers)
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
        slots = 1 << max(4 * self.names - 1, 15).bit_length()
        arena = _HEAD + 4 * slots
        if len(draft.arena) > _ARENA_MAX:
            raise DnsError(f"{len(draft.arena):,} bytes of names and records: {_ARENA_MAX:,} are possible")
        self._region = Region(arena + len(draft.arena) + _BEYOND, "wirespeed-dns-store", huge=slots > 1 << 12)
        self.address = self._region.address
        head = StoreView(self.address)
        head.slots, head.mask, head.arena = self.address + _HEAD, slots - 1, self.address + arena
        units = 1 << (len(draft.arena) >> NODE_SHIFT).bit_length()
        head.unit_mask, head.tag_mask = units - 1, (LONG - 1) & -units
        head.seed0, head.seed1, head.seed2 = SEED
        head.serial = next(_serials) & _SERIAL_MAX
        head.depth = max((_labels(name) for zone in zones for name in zone.names), default=0)
        source = np.frombuffer(draft.arena, np.uint8)
        nodes = np.array(draft.nodes, np.int64) >> NODE_SHIFT | np.array(draft.long, np.int64) * LONG
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
