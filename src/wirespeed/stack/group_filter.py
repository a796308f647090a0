"""From whom a multicast group is heard, and what a change of that is called in reports (RFC 3376 sections 3 and 5.1).

A filter is INCLUDE (only these sources) or EXCLUDE (all but these). INCLUDE of nobody is not to be a member.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from wirespeed.wire.igmp import GroupRecord, RecordType

Address = TypeVar("Address")


class FilterMode(Enum):
    """What the sources of a filter are."""

    INCLUDE = "include"
    EXCLUDE = "exclude"


@dataclass(frozen=True, slots=True)
class GroupFilter(Generic[Address]):
    """The filter of one group, of one socket or of the interface."""

    mode: FilterMode = FilterMode.EXCLUDE
    sources: frozenset[Address] = frozenset()

    def accepts(self, source: Address) -> bool:
        """Whether a packet from ``source`` is let in."""
        return (source in self.sources) == (self.mode is FilterMode.INCLUDE)

    @property
    def member(self) -> bool:
        """Whether anything is heard at all."""
        return self.mode is FilterMode.EXCLUDE or bool(self.sources)


def merge(filters: Iterable[GroupFilter[Address]]) -> GroupFilter[Address]:
    """The filter of the interface, from those of its sockets (RFC 3376 section 3.2)."""
    included: set[Address] = set()
    excluded: frozenset[Address] | None = None
    for each in filters:
        if each.mode is FilterMode.INCLUDE:
            included |= each.sources
        else:
            excluded = each.sources if excluded is None else excluded & each.sources
    if excluded is None:
        return GroupFilter(FilterMode.INCLUDE, frozenset(included))
    return GroupFilter(FilterMode.EXCLUDE, excluded - included)


class Changes(Generic[Address]):
    """What is still to be reported of one group's changes, each ``robustness`` times (RFC 3376 section 5.1).

    A change of mode is reported with the whole list, so it takes the place of changes of sources before it.
    """

    def __init__(self, group: Address) -> None:
        self.group = group
        self._mode_left = 0
        self._sources_left: dict[Address, int] = {}

    def __bool__(self) -> bool:
        return bool(self._mode_left or self._sources_left)

    def clear(self) -> None:
        """Report nothing more."""
        self._mode_left, self._sources_left = 0, {}

    def note(self, before: GroupFilter[Address], after: GroupFilter[Address], robustness: int) -> None:
        """The interface's filter changed."""
        if before.mode is not after.mode:
            self._mode_left, self._sources_left = robustness, {}
            return
        for source in before.sources ^ after.sources:
            self._sources_left[source] = robustness

    def records(self, now: GroupFilter[Address]) -> list[GroupRecord[Address]]:
        """The records of the next report; counts them as sent."""
        including = now.mode is FilterMode.INCLUDE
        if self._mode_left:
            self._mode_left -= 1
            self._count(now.sources)
            kind = RecordType.TO_IN if including else RecordType.TO_EX
            return [GroupRecord(kind, self.group, ordered(now.sources))]
        pending = frozenset(self._sources_left)
        self._count(pending)
        wanted = pending & now.sources if including else pending - now.sources
        found = [
            GroupRecord(RecordType.ALLOW, self.group, ordered(wanted)),
            GroupRecord(RecordType.BLOCK, self.group, ordered(pending - wanted)),
        ]
        return [record for record in found if record.sources]

    def _count(self, sent: frozenset[Address]) -> None:
        self._sources_left = {
            source: left - (source in sent) for source, left in self._sources_left.items() if left > (source in sent)
        }


def ordered(sources: Iterable[Address]) -> tuple[Address, ...]:
    """Sources in the order of their numbers, so that a report does not depend on hashes."""
    return tuple(sorted(sources))  # type: ignore[type-var]


__all__ = ["Changes", "FilterMode", "GroupFilter", "merge", "ordered"]
