"""A packet of our own in fragments, each sent by the outbox (RFC 791 section 3.2, RFC 8200 section 4.5)."""
# mypy: allow-untyped-defs, allow-untyped-calls

from wirespeed.jit import bswap16, cold, load8, load16, load64, store16
from wirespeed.mem.buffer import copy_packet
from wirespeed.mem.descriptor import META, address_of
from wirespeed.mem.pool import Cache
from wirespeed.mem.pool_cache import release_one
from wirespeed.stack.desk import identification, vector_of
from wirespeed.stack.outbox import post
from wirespeed.traffic.fragment import MOST_FRAGMENTS, fragment

_DONT_FRAGMENT = 0x4000


@cold
def cut_and_post(outbox, cache, desc, network, mtu, desk):
    """Send a packet as fragments of at most ``mtu`` bytes; it is the caller's still. How many were sent.

    "Don't fragment" is what we say of packets that fit; a longer one loses it and gets an identification.

    Args:
        network: bytes before the IP header.
        desk: memory of this worker's own.
    """
    if cache == 0:
        return 0
    free_cells = Cache(cache)
    made = copy_packet(free_cells, desc & ~META)
    if made == 0:
        return 0
    number = identification(desk)
    ip = address_of(free_cells.cells, made) + network
    if load8(ip) >> 4 == 4:
        store16(ip + 4, number & 0xFFFF)
        store16(ip + 6, bswap16(bswap16(load16(ip + 6)) & ~_DONT_FRAGMENT))
    vector = vector_of(desk)
    count = fragment(free_cells, made, mtu, number, vector, MOST_FRAGMENTS)
    if count == 0:
        release_one(free_cells, made)
        return 0
    for i in range(count):
        post(outbox, cache, load64(vector + (i << 3)))
    return count


__all__ = ["cut_and_post"]
