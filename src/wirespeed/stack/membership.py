"""The host side of multicast group membership: one state machine for IGMPv3 and MLDv2 (RFC 3376, 9776, 3810).

The two protocols differ in bytes, not in what a host does (RFC 3810 section 10 lists how few the differences are), so
:class:`~wirespeed.stack.igmp.Igmp` and :class:`~wirespeed.stack.mld.Mld` are this class and a way to write it down.

::

    a socket joins, leaves, filters ---> the interface's filter changed ---> report at once, and again (robustness)
    a general query          ---> one timer, then all groups
    a query of one group     ---> its timer, then that group (of the sources asked for)
    a query of older version ---> its language for some minutes: a report for each group, silenced by those of others

Queries come from strangers: sources asked for are bounded by ``source_limit`` for each group (beyond it the whole
group is answered, section 5.2 rule 4), timers are one for each group, and answers wait a tenth of a second at least,
so a flood of queries makes ten reports a second, each of what we joined.
"""

import math
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from random import Random
from typing import Generic, TypeVar

from wirespeed.errors import TableError
from wirespeed.stack.group_filter import Changes, FilterMode, GroupFilter, merge, ordered
from wirespeed.stack.packets import SendPacket
from wirespeed.wire.igmp import GroupRecord, MembershipQuery, RecordType

Address = TypeVar("Address", bound=Hashable)

ROBUSTNESS: int = 2
"""How often what matters is said, until a querier says otherwise (RFC 3376 section 8.1)."""
QUERY_INTERVAL_S: float = 125.0
CHANGE_INTERVAL_S: float = 1.0
"""Unsolicited report interval (section 8.11)."""
RESPONSE_MIN_S: float = 0.1


@dataclass(frozen=True, slots=True)
class GroupJoined(Generic[Address]):
    """Let this group in: at the port's filter, at the input."""

    group: Address


@dataclass(frozen=True, slots=True)
class GroupLeft(Generic[Address]):
    """Nobody wants this group any more."""

    group: Address


Output = SendPacket | GroupJoined[Address] | GroupLeft[Address]


@dataclass(slots=True)
class MembershipStats:
    """What happened since the start; ``ignored`` by reason."""

    queries: int = 0
    reports: int = 0
    suppressed: int = 0
    ignored: Counter[str] = field(default_factory=Counter)


class _Group(Generic[Address]):
    """One group that a socket wants, or whose end is still being told."""

    def __init__(self, address: Address) -> None:
        self.sockets: dict[Hashable, GroupFilter[Address]] = {}
        self.filter: GroupFilter[Address] = GroupFilter(FilterMode.INCLUDE)
        self.changes: Changes[Address] = Changes(address)
        self.change_due_s = math.inf
        self.answer_due_s = math.inf
        self.asked: set[Address] = set()
        self.repeats = 0
        """Reports still to be made of a join, in an older version."""


class Membership(ABC, Generic[Address]):
    """The groups of one interface.

    Args:
        random: jitter.
        limit: groups at once.
        source_limit: sources for which a querier may ask at once.
    """

    newest: int
    """The version spoken unless an older querier is there."""
    room: int
    """Bytes of records in one report."""
    address_bytes: int
    old_interval_s: float
    """Unsolicited report interval of older versions."""

    def __init__(self, random: Random, limit: int = 256, source_limit: int = 64) -> None:
        self.limit = limit
        self.source_limit = source_limit
        self.robustness = ROBUSTNESS
        self.interval_s = QUERY_INTERVAL_S
        self.stats = MembershipStats()
        self._random = random
        self._groups: dict[Address, _Group[Address]] = {}
        self._answer_due_s = math.inf
        self._older: dict[int, float] = {}
        self._version = self.newest

    # How it is written down ---------------------------------------------------------------------------------

    @abstractmethod
    def silent(self, group: Address) -> bool:
        """Whether a group is never reported: everybody is in it."""

    @abstractmethod
    def report(self, records: list[GroupRecord[Address]]) -> SendPacket:
        """A report of the newest version."""

    @abstractmethod
    def old_report(self, group: Address, version: int) -> SendPacket:
        """A report of an older version."""

    @abstractmethod
    def old_leave(self, group: Address, version: int) -> SendPacket | None:
        """What an older version says at the end; None if nothing."""

    # What sockets ask ---------------------------------------------------------------------------------------

    @property
    def groups(self) -> list[Address]:
        """Those that are heard."""
        return [address for address, group in self._groups.items() if group.filter.member]

    @property
    def version(self) -> int:
        """The version spoken now."""
        return self._version

    def accepts(self, group: Address, source: Address) -> bool:
        """Whether a packet of ``source`` to ``group`` is for anybody here."""
        found = self._groups.get(group)
        return found is not None and found.filter.accepts(source)

    def join(self, group: Address, now_s: float, socket: Hashable = None) -> list[Output[Address]]:
        """Hear all of a group, for ``socket``."""
        return self.listen(group, GroupFilter(), now_s, socket)

    def leave(self, group: Address, now_s: float, socket: Hashable = None) -> list[Output[Address]]:
        """Hear nothing more of a group."""
        return self.listen(group, GroupFilter(FilterMode.INCLUDE), now_s, socket)

    def listen(
        self, group: Address, wanted: GroupFilter[Address], now_s: float, socket: Hashable = None
    ) -> list[Output[Address]]:
        """Set the filter of one socket for a group (``IPMulticastListen``, RFC 3376 section 2).

        Raises:
            TableError: there are ``limit`` groups already.
        """
        self._settle(now_s)
        found = self._groups.get(group)
        if found is None:
            if not wanted.member:
                return []
            if len(self._groups) >= self.limit:
                raise TableError(f"{group}: {self.limit} multicast groups are joined already; raise the limit")
            found = self._groups[group] = _Group(group)
        found.sockets[socket] = wanted
        if not wanted.member:
            del found.sockets[socket]
        return self._changed(group, found, now_s)

    def refresh(self, now_s: float) -> list[Output[Address]]:
        """The link is back, or our address is another: say everything anew."""
        self._older.clear()
        self._settle(now_s)
        out: list[Output[Address]] = []
        for address, group in list(self._groups.items()):
            if group.filter.member and not self.silent(address):
                group.changes.clear()
                group.changes.note(GroupFilter(FilterMode.INCLUDE), group.filter, self.robustness)
                out += self._say_change(address, group, now_s)
        return out

    def _changed(self, address: Address, group: _Group[Address], now_s: float) -> list[Output[Address]]:
        before, after = group.filter, merge(group.sockets.values())
        if before == after:
            return []
        group.filter = after
        out: list[Output[Address]] = []
        if after.member and not before.member:
            out.append(GroupJoined(address))
        if self.silent(address):
            group.changes.clear()
        elif self._version == self.newest:
            group.changes.note(before, after, self.robustness)
            out += self._say_change(address, group, now_s)
        elif before.member != after.member:
            group.repeats = self.robustness if after.member else 0
            out += self._say_change(address, group, now_s)
        if before.member and not after.member:
            out.append(GroupLeft(address))
            group.answer_due_s = math.inf
        self._tidy(address, group)
        return out

    def _say_change(self, address: Address, group: _Group[Address], now_s: float) -> list[Output[Address]]:
        """One of the reports of a change; the next is due at random within the interval."""
        out: list[Output[Address]] = []
        if self._version == self.newest:
            out += self._reports(group.changes.records(group.filter))
            more, interval = bool(group.changes), CHANGE_INTERVAL_S
        elif group.filter.member:
            group.repeats = max(0, (group.repeats or self.robustness) - 1)
            out.append(self._counted(self.old_report(address, self._version)))
            more, interval = group.repeats > 0, self.old_interval_s
        else:
            left = self.old_leave(address, self._version)
            out += [self._counted(left)] if left else []
            more, interval = False, 0.0
        group.change_due_s = now_s + self._random.uniform(0, interval) if more else math.inf
        return out

    def _tidy(self, address: Address, group: _Group[Address]) -> None:
        if not group.filter.member and group.change_due_s == math.inf:
            self._groups.pop(address, None)

    # What queriers ask --------------------------------------------------------------------------------------

    def query(self, query: MembershipQuery[Address], now_s: float) -> None:
        """A query that was found sound; answers come from :meth:`tick`."""
        self.stats.queries += 1
        if query.version < self.newest:
            # Section 8.12: as long as the older querier may be silent between two queries.
            self._older[query.version] = now_s + self.robustness * self.interval_s + query.max_response_s
        else:
            self.robustness = query.robustness or ROBUSTNESS
            self.interval_s = query.interval_s or QUERY_INTERVAL_S
        self._settle(now_s)
        latest_s = max(RESPONSE_MIN_S, query.max_response_s)
        if self._version < self.newest:
            for address, group in self._groups.items():
                if query.group in (None, address) and group.filter.member and not self.silent(address):
                    due_s = now_s + self._random.uniform(RESPONSE_MIN_S, latest_s)
                    group.answer_due_s = min(group.answer_due_s, due_s)
            return
        due_s = now_s + self._random.uniform(RESPONSE_MIN_S, latest_s)
        if self._answer_due_s <= due_s:
            return  # rule 1: a general answer comes sooner
        if query.group is None:
            self._answer_due_s = due_s
            return
        found = self._groups.get(query.group)
        if found is None or not found.filter.member or self.silent(query.group):
            return
        # Rules 3 to 5. No sources recorded while an answer is due: all are asked for.
        everything = found.answer_due_s < math.inf and not found.asked
        found.asked |= set(query.sources)
        if not query.sources or everything or len(found.asked) > self.source_limit:
            found.asked.clear()
        found.answer_due_s = min(found.answer_due_s, due_s)

    def heard(self, group: Address, now_s: float) -> None:
        """Another host reported ``group`` in an older version: in that version, ours is not needed (RFC 2236 3)."""
        self._settle(now_s)
        found = self._groups.get(group)
        if found is not None and self._version < self.newest and found.answer_due_s < math.inf:
            found.answer_due_s = math.inf
            self.stats.suppressed += 1

    def _settle(self, now_s: float) -> None:
        """The version now; a change of it cancels all that was due (RFC 3376 section 7.2.1)."""
        self._older = {version: until_s for version, until_s in self._older.items() if until_s > now_s}
        version = min(self._older, default=self.newest)
        if version == self._version:
            return
        self._version = version
        self._answer_due_s = math.inf
        for address, group in list(self._groups.items()):
            group.changes.clear()
            group.asked.clear()
            group.repeats = 0
            group.answer_due_s = group.change_due_s = math.inf
            self._tidy(address, group)

    # Time ---------------------------------------------------------------------------------------------------

    @property
    def due_s(self) -> float:
        """When :meth:`tick` has something to do."""
        groups = (min(group.change_due_s, group.answer_due_s) for group in self._groups.values())
        return min(self._answer_due_s, min(groups, default=math.inf))

    def tick(self, now_s: float) -> list[Output[Address]]:
        """Time passed."""
        self._settle(now_s)
        out: list[Output[Address]] = []
        records: list[GroupRecord[Address]] = []
        if self._answer_due_s <= now_s:
            self._answer_due_s = math.inf
            for address, group in self._groups.items():
                if group.filter.member and not self.silent(address):
                    records += _current(address, group.filter, None)
        for address, group in list(self._groups.items()):
            if group.answer_due_s <= now_s:
                group.answer_due_s, asked = math.inf, group.asked or None
                group.asked = set()
                if self._version < self.newest:
                    out.append(self._counted(self.old_report(address, self._version)))
                else:
                    records += _current(address, group.filter, asked)
            if group.change_due_s <= now_s:
                out += self._say_change(address, group, now_s)
                self._tidy(address, group)
        return out + self._reports(records)

    # Reports ------------------------------------------------------------------------------------------------

    def _reports(self, records: Iterable[GroupRecord[Address]]) -> list[Output[Address]]:
        """Records in as few reports as hold them (RFC 3376 section 4.2.16)."""
        out: list[Output[Address]] = []
        batch: list[GroupRecord[Address]] = []
        left = self.room
        for part in (part for record in records for part in self._parts(record)):
            size = self._record_bytes(len(part.sources))
            if size > left:
                out.append(self._counted(self.report(batch)))
                batch, left = [], self.room
            batch.append(part)
            left -= size
        if batch:
            out.append(self._counted(self.report(batch)))
        return out

    def _parts(self, record: GroupRecord[Address]) -> list[GroupRecord[Address]]:
        """A record too long for one report: in parts, or without the last sources if parts would contradict."""
        most = (self.room - self._record_bytes(0)) // self.address_bytes
        starts = range(0, max(1, len(record.sources)), most)
        parts = [GroupRecord(record.type, record.group, record.sources[at : at + most]) for at in starts]
        return parts[:1] if record.type in (RecordType.IS_EX, RecordType.TO_EX) else parts

    def _record_bytes(self, sources: int) -> int:
        return 4 + self.address_bytes * (1 + sources)

    def _counted(self, packet: SendPacket) -> SendPacket:
        self.stats.reports += 1
        return packet


def _current(group: Address, state: GroupFilter[Address], asked: set[Address] | None) -> list[GroupRecord[Address]]:
    """The answer to a query (RFC 3376 section 5.2): nothing, if none of the sources asked for is heard."""
    if asked is not None:
        heard = ordered(source for source in asked if state.accepts(source))
        return [GroupRecord(RecordType.IS_IN, group, heard)] if heard else []
    kind = RecordType.IS_IN if state.mode is FilterMode.INCLUDE else RecordType.IS_EX
    return [GroupRecord(kind, group, ordered(state.sources))]


__all__ = [
    "CHANGE_INTERVAL_S", "QUERY_INTERVAL_S", "RESPONSE_MIN_S", "ROBUSTNESS", "GroupJoined", "GroupLeft",
    "Membership", "MembershipStats", "Output",
]  # fmt: skip
