"""Rules of a port: what a packet must have, and what then becomes of it.

::

    port.rules.add("udp/53", "mark:7")                     # goes on to the next rule, marked
    first = port.rules.add("vlan/3&tcp/80-89", "queue:1")
    port.rules.add("arp|icmp", "drop")
    port.rules.otherwise = "drop"                          # what no rule ends; "take" unless it is said
    port.rules.remove(first)

The same in a port's text: ``af_packet:eth0,rules=mark:7:udp/53;queue:1:vlan/3&tcp/80-89;drop:arp;else:drop``. And
``match=udp/53|arp`` takes what matches and nothing else.

The rules are asked in their order. ``take``, ``drop``, ``queue`` and ``kernel`` end a packet's way through them; after
``mark`` and ``count`` it goes on. They may change while the graph runs. A device that can carry all of them out does
(:meth:`wirespeed.ports.port.Port.install`); else the workers do (:mod:`wirespeed.ports.rules.path`), who cannot give a
packet back to the kernel: ``kernel`` is then an error, unless the kernel sees every packet anyway (af_packet). Each
rule counts its packets and bytes.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

from wirespeed.errors import PortError
from wirespeed.jit import load64, store64, store_release
from wirespeed.mem.region import Region
from wirespeed.ports.match import Match, parse_matches
from wirespeed.ports.options import nearest
from wirespeed.ports.rules import path
from wirespeed.ports.rules.write import write_rule


@dataclass(frozen=True)
class Action:
    """What becomes of a packet: :data:`TAKE`, :data:`DROP`, :data:`COUNT`, :data:`KERNEL`, :func:`mark`,
    :func:`to_queue`, or as text: ``take``, ``drop``, ``count``, ``kernel``, ``mark:7``, ``queue:1``."""

    kind: int
    argument: int = 0

    def __str__(self) -> str:
        return f"{_NAMES[self.kind]}:{self.argument}" if self.kind in (path.QUEUE, path.MARK) else _NAMES[self.kind]


_NAMES = {
    path.TAKE: "take", path.DROP: "drop", path.QUEUE: "queue", path.MARK: "mark", path.COUNT: "count",
    path.KERNEL: "kernel",
}  # fmt: skip
TAKE, DROP, COUNT, KERNEL = Action(path.TAKE), Action(path.DROP), Action(path.COUNT), Action(path.KERNEL)
"""Receive it; drop it; count it and ask the next rule; leave it to the kernel's own stack."""


def mark(value: int) -> Action:
    """Write a flow mark (``pkt.with_meta().mark``), 0 to 2^32 - 1, and ask the next rule."""
    if not 0 <= value < 1 << 32:
        raise PortError(f"a mark of {value} is not possible: use 0 to {(1 << 32) - 1}")
    return Action(path.MARK, value)


def to_queue(queue: int) -> Action:
    """Receive it by that queue; where workers spread packets, that is the worker of that number."""
    if not 0 <= queue < 1024:
        raise PortError(f"a rule cannot lead to queue {queue}: use 0 to 1023")
    return Action(path.QUEUE, queue)


def parse_action(text: str) -> Action:
    """Read what an action writes.

    Raises:
        PortError: there is no such action, with the nearest; or no such mark or queue.
    """
    word, colon, number = text.partition(":")
    plain = {_NAMES[action.kind]: action for action in (TAKE, DROP, COUNT, KERNEL)}
    if word in plain and not colon:
        return plain[word]
    if word not in ("queue", "mark"):
        raise PortError(f"no action is called {word!r}; {nearest(word, [*plain, 'queue', 'mark'])}")
    try:
        value = int(number, 0)
    except ValueError:
        raise PortError(f"action {text!r} needs a number: {word}:1") from None
    return to_queue(value) if word == "queue" else mark(value)


@dataclass(frozen=True)
class Rule:
    """A rule of a port: it holds if one of ``matches`` does. ``number`` is its own for good."""

    number: int
    matches: tuple[Match, ...]
    action: Action

    def __str__(self) -> str:
        return f"{self.action}:{'|'.join(map(str, self.matches))}"


@dataclass(frozen=True)
class RuleCount:
    """What a rule has met."""

    packets: int = 0
    bytes: int = 0


class Installer(Protocol):
    """A port whose device may carry rules out."""

    spec: str
    grace: Any
    beside_kernel: bool

    def install(self, rules: tuple[Rule, ...], otherwise: Action) -> bool:
        """See :meth:`wirespeed.ports.port.Port.install`."""

    def rule_counts(self) -> dict[int, RuleCount]:
        """See :meth:`wirespeed.ports.port.Port.rule_counts`."""


class Rules:
    """The rules of one port, in their order.

    Attributes:
        by_device: the open port's device carries them out.
        changed: called when the workers' loop must be made anew, because there are rules now and there were none.
    """

    def __init__(self, port: Installer) -> None:
        self._port = port
        self._rules: tuple[Rule, ...] = ()
        self._otherwise = TAKE
        self._numbers = 0
        self._changing = threading.RLock()
        self._states: list[int] = []
        self._memory: Region | None = None
        self._table: Region | None = None
        self._queues = 0
        self._slots: dict[int, int] = {}
        self._kept: dict[int, RuleCount] = {}
        self.is_open = self.by_device = False
        self.changed: Callable[[], None] | None = None

    # What users call -------------------------------------------------------------------------------------

    def add(self, match: str | Match, action: str | Action, before: Rule | None = None) -> Rule:
        """One more rule, the last one, or before another.

        Args:
            match: see :mod:`wirespeed.ports.match`; alternatives are joined by ``|``.
            action: see :class:`Action`.
            before: the rule to put it in front of.

        Raises:
            PortError: no such match, or a rule that nobody here can carry out. Nothing has changed.
        """
        matches = (match,) if isinstance(match, Match) else parse_matches(match)
        action = parse_action(action) if isinstance(action, str) else action
        with self._changing:
            rule = Rule(self._numbers + 1, matches, action)
            place = self._place(before) if before is not None else len(self._rules)
            tell = self._set((*self._rules[:place], rule, *self._rules[place:]), self._otherwise)
            self._numbers += 1
        tell()
        return rule

    def remove(self, rule: Rule) -> None:
        """Take a rule away.

        Raises:
            PortError: it is not one of them.
        """
        with self._changing:
            place = self._place(rule)
            tell = self._set(self._rules[:place] + self._rules[place + 1 :], self._otherwise)
        tell()

    def clear(self) -> None:
        """Take all of them away; everything is received."""
        with self._changing:
            tell = self._set((), TAKE)
        tell()

    @property
    def otherwise(self) -> Action:
        """What becomes of a packet that no rule ends: ``TAKE``, ``DROP`` or, where a device can, ``KERNEL``."""
        return self._otherwise

    @otherwise.setter
    def otherwise(self, action: str | Action) -> None:
        action = parse_action(action) if isinstance(action, str) else action
        if action not in (TAKE, DROP, KERNEL):
            raise PortError(f"port {self._port.spec!r}: what no rule ends can be taken, dropped or left to the kernel")
        with self._changing:
            tell = self._set(self._rules, action)
        tell()

    def counts(self) -> dict[Rule, RuleCount]:
        """What each rule has met since it was added, as of now."""
        with self._changing:
            return {rule: self._count(rule) for rule in self._rules}

    @property
    def dropped(self) -> int:
        """Packets that the workers dropped by rule."""
        return sum(path.RuleState(address).dropped for address in self._states)

    def __iter__(self) -> Iterator[Rule]:
        return iter(self._rules)

    def __len__(self) -> int:
        return len(self._rules)

    def __bool__(self) -> bool:
        return bool(self._rules) or self._otherwise is not TAKE

    def __str__(self) -> str:
        rest = [f"else:{self._otherwise}"] if self._otherwise is not TAKE else []
        return ";".join([*map(str, self._rules), *rest])

    # What the engine calls -------------------------------------------------------------------------------

    def open(self, workers: int, queues: int) -> None:
        """The port is open: let its device carry the rules out, else get ready to do it.

        Args:
            workers: how many there are.
            queues: that a rule may lead to.

        Raises:
            PortError: there is a rule that nobody can carry out.
        """
        self._queues = queues
        self._memory = Region(workers * path.STATE_BYTES, "wirespeed-rules", huge=False)
        self._states = [self._memory.address + index * path.STATE_BYTES for index in range(workers)]
        self.is_open = True
        try:
            with self._changing:
                self._set(self._rules, self._otherwise)
        except PortError:
            self.is_open = False
            self.close()
            raise

    @property
    def in_software(self) -> bool:
        """Whether the workers carry them out."""
        return bool(self) and not self.by_device

    @property
    def steers(self) -> bool:
        """Whether a rule leads to a queue, by the workers."""
        return self.in_software and any(rule.action.kind == path.QUEUE for rule in self._rules)

    @property
    def address(self) -> int:
        """Of the first worker's state; the others' are ``STATE_BYTES`` apart."""
        return self._states[0] if self._states else 0

    def close(self) -> None:
        """The workers have stopped: keep the counts, free the rest."""
        if self.is_open:
            self._kept = {rule.number: self._count(rule) for rule in self._rules}
            self.is_open = self.by_device = False
        for memory in (self._table, self._memory):
            if memory is not None:
                memory.close()
        self._table = self._memory = None
        self._states, self._slots = [], {}

    # -----------------------------------------------------------------------------------------------------

    def _place(self, rule: Rule) -> int:
        for place, each in enumerate(self._rules):
            if each.number == rule.number:
                return place
        raise PortError(f"port {self._port.spec!r} has no rule {rule.number} ({rule}); it has {len(self._rules)}")

    def _set(self, rules: tuple[Rule, ...], otherwise: Action) -> Callable[[], None]:
        """Take these rules from now on; nothing has changed if it raises. What to call next, without the lock."""
        many = sum(len(rule.matches) for rule in rules)
        if many > path.MAX_RULES:
            raise PortError(f"port {self._port.spec!r}: {many} rules are too many: at most {path.MAX_RULES}")
        had = self.in_software, self.steers
        if self.is_open:
            by_device = (bool(rules) or otherwise is not TAKE) and self._port.install(rules, otherwise)
            if not by_device:
                self._check_software(rules, otherwise)
                if self.by_device:  # what the device had is not wanted any more
                    self._port.install((), TAKE)
            self.by_device = by_device
            self._publish(() if by_device else rules, TAKE if by_device else otherwise)
        before, self._rules, self._otherwise = (self._rules, self._otherwise), rules, otherwise
        remake = self.is_open and had != (self.in_software, self.steers)

        def tell() -> None:
            """The loop lacks what the rules need now, or has what they do not; without another the rules go back."""
            if not remake or self.changed is None:
                return
            try:
                self.changed()
            except BaseException:
                with self._changing:
                    if self._rules is rules:
                        self._set(*before)
                raise

        return tell

    def _check_software(self, rules: tuple[Rule, ...], otherwise: Action) -> None:
        spec = self._port.spec
        for rule in rules:
            if rule.action.kind == path.KERNEL and not self._port.beside_kernel:
                raise PortError(
                    f"port {spec!r}: rule {rule} cannot be carried out: this port's packets have left the kernel "
                    "already; use af_xdp or af_packet, or drop them"
                )
            if rule.action.kind == path.QUEUE and rule.action.argument >= self._queues:
                raise PortError(
                    f"port {spec!r}: rule {rule} leads to queue {rule.action.argument}, and there are {self._queues}: "
                    "run more workers"
                )
        if otherwise is KERNEL and not self._port.beside_kernel:
            raise PortError(
                f"port {spec!r}: else:kernel cannot be carried out here; use af_xdp or af_packet, or else:drop"
            )

    def _publish(self, rules: tuple[Rule, ...], otherwise: Action) -> None:
        """Write a table, let the workers see it, and free the one before when none can read it any more."""
        flat = [(rule, match) for rule in rules for match in rule.matches]
        slots = {number: slot for number, slot in self._slots.items() if any(r.number == number for r in rules)}
        free = iter(sorted(set(range(path.MAX_RULES)) - set(self._slots.values())) or range(path.MAX_RULES))
        for rule in rules:
            if rule.number not in slots:
                slots[rule.number] = next(free)
                for state in self._states:
                    store64(path.counters_of(state) + 16 * slots[rule.number], 0)
                    store64(path.counters_of(state) + 16 * slots[rule.number] + 8, 0)
        memory = Region(path.TABLE_HEAD + len(flat) * path.RULE_BYTES, "wirespeed-rule-table", huge=False)
        table = path.Table(memory.address)
        table.count, table.otherwise = len(flat), otherwise.kind
        for index, (rule, match) in enumerate(flat):
            write_rule(
                memory.address + path.TABLE_HEAD + index * path.RULE_BYTES,
                match,
                rule.action.kind,
                rule.action.argument,
            )
            path.RuleRecord(memory.address + path.TABLE_HEAD + index * path.RULE_BYTES).slot = slots[rule.number]
        for state in self._states:
            store_release(state, memory.address)
        before, self._table, self._slots = self._table, memory, slots
        if before is not None:
            grace = self._port.grace
            if grace is None:
                before.close()
            else:
                grace.defer(before.close)

    def _count(self, rule: Rule) -> RuleCount:
        if not self.is_open:
            return self._kept.get(rule.number, RuleCount())
        if self.by_device:
            return self._port.rule_counts().get(rule.number, RuleCount())
        slot = self._slots[rule.number]
        at = [path.counters_of(state) + 16 * slot for state in self._states]
        return RuleCount(sum(load64(a) for a in at), sum(load64(a + 8) for a in at))


__all__ = [
    "COUNT", "DROP", "KERNEL", "TAKE", "Action", "Rule", "RuleCount", "Rules", "mark", "parse_action", "to_queue",
]  # fmt: skip
