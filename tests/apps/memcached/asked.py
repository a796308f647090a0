"""A server in memory, asked by bytes."""

from wirespeed.apps.memcached.serve import ahead, more, serve, shard_number
from wirespeed.apps.memcached.server import MemcachedServer
from wirespeed.apps.memcached.state import DROPS, ServerView
from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.region import Region

FRAME = bytes.fromhex("1234 0000 0001 0000")
NOW = 1_800_000_000
_ROOM = 2048


@kernel
def serve_one(state, request, length, reply, room):
    """One request, asked for ahead."""
    view = ServerView(state)
    ahead(view, request, length)
    return serve(view, request, length, reply, room)


@kernel
def serve_some(state, requests, length, count, served, reply, room):
    """Ask ahead for a burst of which some are served; the most keys that waited to be asked for at a time."""
    view, most = ServerView(state), 0
    for number in range(count):
        ahead(view, requests + number * length, length)
        most = max(most, view.asked - view.fetched)
    for number in range(served):
        serve(view, requests + number * length, length, reply, room)
        most = max(most, view.asked - view.fetched)
    return most


@kernel
def serve_more(state, reply, room):
    return more(ServerView(state), reply, room)


@kernel
def number_of_one(state, request, length):
    return shard_number(ServerView(state), request, length)


class Asked:
    """A server, and its client."""

    def __init__(self, room=1472, **options):
        self.server = MemcachedServer(now_s=NOW, **options)
        self.request, self.reply = Region(1 << 17, "request", huge=False), Region(_ROOM, "reply", huge=False)
        self.room, self.worker = room, 0

    def datagrams(self, datagram, in_place=False):
        """The datagrams of the answer; the name of a drop."""
        reply = self.reply.address + self.reply.size - self.room
        start = self._lay_out(datagram)
        if in_place and len(datagram) <= self.room:
            start = reply
            write_bytes(start, datagram)
        state = self.server[self.worker]
        length = serve_one(state.address, start, len(datagram), reply, self.room)
        if length < 0:
            return DROPS[-1 - length]
        found = [read_bytes(reply, length)] if length else []
        while state.left:
            found.append(read_bytes(reply, serve_more(state.address, reply, self.room)))
        return found

    def burst(self, datagrams, served):
        """Ask ahead for datagrams of one length, and serve the first of them; see :func:`serve_some`."""
        start = self._lay_out(b"".join(datagrams))
        state, reply = self.server[self.worker].address, self.reply.address + self.reply.size - self.room
        return serve_some(state, start, len(datagrams[0]), len(datagrams), served, reply, self.room)

    def shard(self, datagram):
        """The number of the shard that a request is about."""
        return number_of_one(self.server[self.worker].address, self._lay_out(datagram), len(datagram))

    def _lay_out(self, datagram):
        """Where a request lies: it ends where memory ends, for nothing behind it may be read."""
        start = self.request.address + self.request.size - len(datagram)
        write_bytes(start, datagram)
        return start

    def __call__(self, text, in_place=False):
        """The text of the answer."""
        found = self.datagrams(FRAME + text, in_place)
        if isinstance(found, str):
            return found
        for number, each in enumerate(found):
            assert each[:8] == FRAME[:2] + number.to_bytes(2, "big") + len(found).to_bytes(2, "big") + bytes(2)
            assert len(each) <= 1400
        return b"".join(each[8:] for each in found)

    def later(self, seconds):
        self.server.tick(self.server[0].now + seconds)

    def close(self):
        self.server.close()
        self.request.close()
        self.reply.close()
