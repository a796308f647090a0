"""The Internet checksum over packets that may be chained."""

from wirespeed.hashes.internet import finish, fold, sum_bytes
from wirespeed.jit import bswap16, cold, store16
from wirespeed.mem.descriptor import CHAINED, CHECKSUM_VALID, CellHeader, address_of, header_of, length_of


@cold
def sum_packet(cells, desc, at, count):  # type: ignore[no-untyped-def]
    """The running total of ``count`` bytes from byte ``at`` of a packet on.

    A segment that begins at an odd place of the sum counts with its bytes swapped (RFC 1071 section 2 B).
    """
    total, done = 0, 0
    while done < count:
        size = length_of(desc)
        if at < size:
            part = min(count - done, size - at)
            here = fold(sum_bytes(address_of(cells, desc) + at, part))
            total += bswap16(here) if done & 1 else here
            done += part
            at = size
        if desc & CHAINED == 0:
            break
        at -= size
        desc = CellHeader(header_of(cells, desc)).next
    return total


@cold
def complete(cells, desc):  # type: ignore[no-untyped-def]
    """Sum what was left to hardware (NEEDS_CHECKSUM): from ``checksum_start`` to the end, into the field at
    ``checksum_offset`` behind it, which holds the pseudo header's part already and lies in the first segment."""
    line = CellHeader(header_of(cells, desc))
    start = line.checksum_start
    total = line.length if desc & CHAINED != 0 else length_of(desc)
    field = start + line.checksum_offset
    if field + 2 <= length_of(desc):
        found = finish(sum_packet(cells, desc, start, total - start))
        store16(address_of(cells, desc) + field, bswap16(found if found != 0 else 0xFFFF))
        line.checksum_state = CHECKSUM_VALID
