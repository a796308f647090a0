"""A server that is asked with bytes."""

import dns.message
import pytest

from wirespeed.apps.dns.serve import ahead, serve
from wirespeed.apps.dns.server import DnsServer
from wirespeed.apps.dns.state import DnsView
from wirespeed.apps.dns.zone import read_zone
from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.region import Region

ROOM = 1472


@kernel
def _ask(state, now, peer, request, length, reply, room):
    view = DnsView(state)
    ahead(view, request, length)
    return serve(view, now, peer, request, length, reply, room)


class Asker:
    """Questions in, answers out; a request ends where its memory ends, so that interpreted runs see what reads on."""

    def __init__(self, server):
        self.server = server
        self.requests = Region(1 << 16, "dns-requests", huge=False)
        self.replies = Region(1 << 16, "dns-replies", huge=False)

    def ask(self, question, room=ROOM, now=0, peer=0x0100_000A, in_place=False):
        """The reply's bytes, or the number that serve() returned."""
        at = self.requests.address + self.requests.size - (ROOM if in_place else len(question))
        write_bytes(at, question)
        reply = at if in_place else self.replies.address
        write_bytes(reply + (len(question) if in_place else 0), b"\xee" * (ROOM - (len(question) if in_place else 0)))
        length = _ask(self.server.address, now, peer, at, len(question), reply, room)
        if not in_place:
            assert read_bytes(self.replies.address + room, 64) == (b"\xee" * ROOM + b"\0" * 64)[room : room + 64]
        return read_bytes(reply, length) if length > 0 else length

    def message(self, question, **options):
        """The same, with messages."""
        found = self.ask(question.to_wire(), **options)
        return dns.message.from_wire(found) if isinstance(found, bytes) else found

    def query(self, name, kind="A", edns=True, **options):
        """Ask for a name and type."""
        return self.message(dns.message.make_query(name, kind, use_edns=0 if edns else False), **options)

    def close(self):
        self.requests.close()
        self.replies.close()
        self.server.close()


@pytest.fixture
def serving(tmp_path):
    """``serving(text, **options)``: an :class:`Asker` for a zone file with that text."""
    made = []

    def make(text, **options):
        file = tmp_path / f"zone{len(made)}"
        file.write_text(text)
        made.append(Asker(DnsServer([read_zone(file)], **{"rate": 0, **options})))
        return made[-1]

    yield make
    for each in made:
        each.close()
