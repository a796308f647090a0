"""The timers' part of a generated module: a function for each set of timers, which ``run`` calls when some are due.

A turn of the loop reads the clock once and tells every wheel, so nodes and callbacks of a turn agree on the time. At
most :data:`CHUNKS_A_TURN` chunks of timers are looked at in a turn; packets come between them and the rest.
"""

from wirespeed.graph.draft import Draft
from wirespeed.graph.layout import binding

CHUNKS_A_TURN: int = 32
"""448 timers at the most, some 10 microseconds."""


class TimersPart:
    """Writes what runs the timers."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def expire(self) -> None:
        """A function for each set of timers."""
        draft = self.draft
        write = draft.write
        for index, (timers, callbacks) in enumerate(draft.timers.items()):
            write("@cold")
            write(f"def expire_{index}(work):")
            write.depth += 1
            write('"""Call what is due, for so many timers; the rest in the next turn."""')
            draft.bind_states()
            write("timer = Timer()")
            write(f"for _ in range({CHUNKS_A_TURN}):")
            write.depth += 1
            write(f"chunk = {timers}.due()")
            write("if chunk == 0:")
            write("    break")
            write(f"for index in range({timers}.size(chunk)):")
            write.depth += 1
            write(f"if {timers}.take(chunk, index, timer):")
            write("    number = timer.number")
            for number, name in enumerate(callbacks):
                write(f"    {'el' if number else ''}if number == {number}:")
                write(f"        {draft.call(name, 'timer')}")
            write.depth -= 1
            write(f"{timers}.done(chunk)")
            write.depth -= 2
            write()
            write()

    def begin(self) -> None:
        """In ``run``, before the loop."""
        draft = self.draft
        for index, name in enumerate(draft.timers):
            view = draft.view(draft.captured.states[name])
            draft.write(f"wheel{index} = {view}(load64(work + {binding(draft.plan.bind(name))}))")

    def turn(self) -> None:
        """In each turn, first of all."""
        draft = self.draft
        write = draft.write
        if draft.timers:
            write("now = cycles()")
        for index, name in enumerate(draft.timers):
            write(f"# {name}")
            write(f"wheel{index}.tell(now)")
            write(f"wheel{index}.begin()")
            write(f"if wheel{index}.ready():")
            write(f"    expire_{index}(work)")
