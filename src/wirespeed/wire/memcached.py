"""The frame of a memcached datagram, doc/protocol.txt, "UDP protocol".

::

     0               16              32              48             63
    +---------------+---------------+---------------+---------------+
    |  request id   |   sequence    |   datagrams   |   reserved    |  then text, as over TCP
    +---------------+---------------+---------------+---------------+

A request is one datagram. An answer is as many as its text needs; who asked puts them together by their sequence.
"""

from wirespeed.jit import be16
from wirespeed.wire.header import Header

MEMCACHED_PORT: int = 11211
DATAGRAM_MAX: int = 1400
"""Bytes of an answer's datagram with its frame: what fits any Ethernet, tunnels included."""


class MemcachedFrame(Header):
    """What each datagram begins with."""

    request_id = be16(0, "chosen by who asks, repeated in the answer")
    sequence = be16(2, "number of this datagram, from 0")
    datagrams = be16(4, "in this message")
    reserved = be16(6)
    SIZE = 8


__all__ = ["DATAGRAM_MAX", "MEMCACHED_PORT", "MemcachedFrame"]
