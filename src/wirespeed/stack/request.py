"""A request and its reply: what a UDP handler sees of a packet, and the packet turned round.

The reply is written where the request lies: the headers are the request's with addresses and ports exchanged, so an
answer costs no cell and no copy::

    request      Ethernet | IP | UDP | payload ........ |
    reply        Ethernet | IP | UDP | reply ................... |  room: to the end of the cell
                                     ^ request.payload.start == reply.start

Both are records in registers (:class:`wirespeed.jit.Local`); what a handler does not ask for is never computed.
"""
# mypy: allow-untyped-calls, no-warn-return-any

from typing import Any

from wirespeed.jit import Local, bswap32, load32, load64, slot, word
from wirespeed.mem.descriptor import CellHeader
from wirespeed.wire.payload import Bytes
from wirespeed.wire.udp import Udp


class Request(Local):
    """A datagram that came in."""

    payload = slot(Bytes)  # its bytes
    opened = word()  # a header on the payload was asked for: it may have been written
    ip = word()  # address of the IP header
    six = word()  # whether that is IPv6
    udp = slot(Udp)
    meta = slot(CellHeader)

    @property
    def length(self) -> int:
        """Bytes of payload."""
        return self.payload.length

    @property
    def source_port(self) -> int:
        """The sender's port."""
        return self.udp.sport

    @property
    def port(self) -> int:
        """The port it was sent to."""
        return self.udp.dport

    @property
    def source(self) -> int:
        """The sender's IPv4 address; 0 if it is IPv6."""
        return bswap32(load32(self.ip + 12)) if self.six == 0 else 0

    @property
    def destination(self) -> int:
        """The IPv4 address it was sent to; 0 if it is IPv6."""
        return bswap32(load32(self.ip + 16)) if self.six == 0 else 0

    @property
    def peer(self) -> int:
        """64 bits that stand for the sender's address: an IPv4 address, or the first half of an IPv6 one, which is
        what one subscriber has (RFC 6177). For tables; not in a form to be shown."""
        return load32(self.ip + 12) if self.six == 0 else load64(self.ip + 8)

    @property
    def arrival(self) -> int:
        """When it was received, in nanoseconds, if the port says so; else 0."""
        return self.meta.timestamp if self.meta else 0

    @classmethod
    def finder_of(cls, header: Any) -> Any:
        """See :meth:`wirespeed.jit.Local.finder_of`."""
        return header.at_front()

    def __getitem__(self, header: Any) -> Any:
        """The payload as a declared header: ``request[DnsHeader]``; absent if the payload is shorter."""
        return self.finder_of(header)(self)


__all__ = ["Request"]
