"""The XDP program of an af_xdp port with rules: asked one after the other, each counts, most end there.

::

    read the Ethernet header and its tags
    rule 0: compare ... ──▶ count 0 ──▶ our socket, or dropped, or the kernel; "count" goes on with rule 1
    rule 1: compare ...
    otherwise

A rule that leads to a queue or marks cannot be said so: the queue of a packet is the device's, and an XDP program has
no word to the socket. Counters are packets and bytes for each CPU, by the slot of the rule.
"""

from collections.abc import Callable, Mapping, Sequence

from wirespeed.ports.af_xdp.assembler import Assembler, Reg
from wirespeed.ports.af_xdp.program import compare, leave_packet, possible, read_link, take_packet
from wirespeed.ports.match import Match
from wirespeed.ports.rules import path
from wirespeed.ports.rules.rules import Action, Rule

MOST: int = 256
"""Rules at a time."""

_DROP, _LOOKUP = 1, 1  # XDP_DROP; a helper's number
_DATA, _DATA_END = 0, 4  # struct xdp_md
_ENDS = {path.TAKE: "take", path.DROP: "drop", path.KERNEL: "leave"}
R0, R1, R2, R3, R4, _, R6, _, _, _, R10 = Reg


def expressible(rules: Sequence[Rule], otherwise: Action) -> bool:
    """Whether a program can carry these out."""
    kinds = {rule.action.kind for rule in rules} | {otherwise.kind}
    return kinds <= {*_ENDS, path.COUNT} and len(rules) <= MOST


def make_rules(
    rules: Sequence[Rule], otherwise: Action, slots: Mapping[int, int], sockets: int, passed: int, counters: int,
    before: Callable[[Assembler], None] | None = None,
) -> bytes:  # fmt: skip
    """The program.

    Args:
        slots: by a rule's number, where it counts.
        sockets, passed, counters: descriptors of the XSKMAP, of the counter of what is left to the kernel, and of the
            rules' counters.
        before: adds what is to be done with a packet that is taken; R6 is the context.
    """
    code = Assembler()
    ends: set[str] = set()

    def end(kind: int) -> None:
        ends.add(_ENDS[kind])
        code.jump(_ENDS[kind])

    code.mov(R6, R1)
    read_link(code, "short")
    over = False
    for rule in rules:
        over = _write(code, rule, slots[rule.number], counters, end)
        if over:
            break
    code.label("short")
    end(otherwise.kind)
    if "drop" in ends:
        code.label("drop")
        code.mov(R0, _DROP)
        code.exit()
    if "take" in ends:
        code.label("take")
        if before:
            before(code)
        take_packet(code, sockets)
    if "leave" in ends:
        code.label("leave")
        leave_packet(code, passed)
    return code.assemble()


def _write(code: Assembler, rule: Rule, slot: int, counters: int, end: Callable[[int], None]) -> bool:
    """One rule; whether no packet gets beyond it. The verifier refuses instructions that nothing leads to."""
    ending = rule.action.kind in _ENDS
    matches = [match for match in rule.matches if possible(match)]
    every = Match() in matches
    if matches and not every:
        for match in matches:
            compare(code, match, f"rule {rule.number}")
        code.jump(f"behind {rule.number}")
        code.label(f"rule {rule.number}")
    if matches:
        _count(code, slot, counters)
        if ending:
            end(rule.action.kind)
    if matches and not every:
        code.label(f"behind {rule.number}")
    return every and ending


def _count(code: Assembler, slot: int, counters: int) -> None:
    """One packet more, and its bytes (of its first buffer); finds R2 and R3 again."""
    uncounted = code.fresh("uncounted")
    code.store(4, R10, -8, slot)
    code.mov(R2, R10)
    code.alu("add", R2, -8)
    code.load_map(R1, counters)
    code.call(_LOOKUP)
    code.load(4, R2, R6, _DATA)
    code.load(4, R3, R6, _DATA_END)
    code.jump_if("eq", R0, 0, uncounted)
    code.load(8, R1, R0)
    code.alu("add", R1, 1)
    code.store(8, R0, 0, R1)
    code.load(8, R1, R0, 8)
    code.mov(R4, R3)
    code.alu("sub", R4, R2)
    code.alu("add", R1, R4)
    code.store(8, R0, 8, R1)
    code.label(uncounted)


__all__ = ["MOST", "expressible", "make_rules"]
