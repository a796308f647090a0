"""The sending part of a generated module: a function for each sink whose device lacks what packets may ask for.

What they may ask is known: sources say what they deliver, nodes name the fields they write (``Draft.asked``). Most
graphs have no such sink, and are spared seconds of compiling.

Most bursts ask for nothing: one look at the descriptors says so, and the driver gets the burst as it is. Else packets
are finished, a vector at a time (:func:`wirespeed.ports.software.path.prepare`), and there may be more of them.
"""

from wirespeed.graph.draft import Draft


class SendPart:
    """Writes ``send_...``."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft

    def send(self) -> None:
        draft = self.draft
        write = draft.write
        for index, port in enumerate(draft.plan.graph.sinks):
            if not draft.finishes(port):
                continue
            write("@cold")
            write(f"def send_{index}(record, queue, cache, vector, count):")
            write.depth += 1
            write(f'"""Finish what packets left to hardware that {draft.place(port)} does not have, and send them."""')
            write("plain = is_plain(vector, count)")
            write("done = 0")
            write("while done < count:")
            write("    at = vector")
            write("    made = count")
            write("    if plain:")
            write("        done = count")
            write("    else:")
            write("        done = prepare(record, cache, vector, done, count)")
            write("        at = made_at(record)")
            write("        made = Prepare(record).made")
            write(f"    sent = transmit_{index}(queue, cache, at, made)")
            write("    if sent < made:")
            write("        lose(queue, cache, at + (sent << 3), made - sent)")
            write.depth -= 1
            write()
            write()


__all__ = ["SendPart"]
