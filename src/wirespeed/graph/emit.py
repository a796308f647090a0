"""From a plan to the text of a Python module: the loop that one worker runs.

The module is meant to be read. It has the nodes with their doors as numbers, ``process``, which takes one
burst through the graph, and ``run``, which a worker thread calls once. Its name is the digest of all it is
made from, so an old one is never mistaken for a new one, and a second start finds its machine code on disk.
Ports stand in it by number and kind, without their options: which file or interface it is the loop finds at
run time, so the next file needs no compiling.
"""

import ast
from dataclasses import dataclass

from wirespeed.graph.capture import Captured, identity
from wirespeed.graph.draft import Draft, Writer
from wirespeed.graph.emit_process import ProcessPart
from wirespeed.graph.emit_run import RunPart
from wirespeed.graph.emit_send import SendPart
from wirespeed.graph.emit_timers import TimersPart
from wirespeed.graph.node import Node
from wirespeed.graph.plan import Plan
from wirespeed.jit.generated import digest_of
from wirespeed.wire.parse import PARSERS

_IMPORTS = """\
from wirespeed.graph.handoff import begin_lines, choose, gather, hand_over, room, send_lines, set_aside, spread
from wirespeed.graph.layout import DRAIN, EXIT, RCU_SLOT, RUN, Worker
from wirespeed.graph.support import begin, block, lose, mark, tired
from wirespeed.jit import cold, cycles, fill, inline, kernel, load64, load_relaxed, store64
from wirespeed.mem.descriptor import META, CellHeader, header_of
from wirespeed.mem.pool import Cache, hold, hold_all, release
from wirespeed.ports.software.path import Prepare, is_plain, made_at, prepare
from wirespeed.sync.rcu import offline, online, quiescent
from wirespeed.timers.timer import Timer
from wirespeed.wire.packet import Packet
"""

_RESERVED = frozenset(
    [alias.name for part in ast.parse(_IMPORTS).body if isinstance(part, ast.ImportFrom) for alias in part.names]
    + [parser.__name__ for parser in PARSERS]
    + ["process", "run"]
)
"""What the module calls its own; a class of the user's with such a name gets another one in it."""


@dataclass
class Emitted:
    """The text of a module and what to put in its globals before its code runs."""

    text: str
    digest: str
    captured: Captured
    nodes: dict[Node, str]  # the function each node became


def emit(plan: Plan) -> Emitted:
    """Write the module for ``plan``; binds the states it captures in ``plan.bindings``."""
    draft = Draft(plan, _RESERVED)
    objects = draft.captured.objects
    objects |= {f"receive_{index}": port.receive for index, port in enumerate(plan.graph.sources)}
    objects |= {f"transmit_{index}": port.transmit for index, port in enumerate(plan.graph.sinks)}
    objects |= {f"arm_{index}": port.arm for index, port in enumerate(plan.graph.sources) if port.arm is not None}
    objects |= {f"flush_{index}": port.flush for index, port in enumerate(plan.graph.sinks) if port.flush is not None}
    SendPart(draft).send()
    ProcessPart(draft).process()
    draft.write()
    draft.write()
    TimersPart(draft).expire()
    RunPart(draft).run()
    text = "\n".join([*_head(draft).lines, *draft.write.lines]) + "\n"
    return Emitted(text, digest_of(text), draft.captured, dict(draft.names))


def _head(draft: Draft) -> Writer:
    """The module's beginning: the graph, the imports, and the nodes' functions."""
    head = Writer()
    head(f'"""One worker\'s loop, {draft.plan.shape}; written by wirespeed, do not edit.')
    head()
    for (source, door), target in draft.plan.graph.edges.items():
        left = f"{source.name}[{door!r}]" if door else draft.place(source)
        head(f"    {left} >> {draft.place(target)}")
    head('"""')
    head()
    head.block(_IMPORTS)
    head.block(f"from wirespeed.wire.parse import {', '.join(parser.__name__ for parser in PARSERS)}")
    head()
    head("# Put here before this module runs:")
    for name, value in sorted(draft.captured.objects.items()):
        head(f"#     {name} = {identity(value)}")
    for name, text in draft.captured.functions.items():
        head()
        head()
        head(f"# {draft.captured.origins[name]}")
        head("@inline")
        head.block(text)
    head()
    head()
    return head


__all__ = ["Emitted", "emit"]
