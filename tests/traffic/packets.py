"""A pool, and packets as bytes, for tests of what cuts and joins them."""

from wirespeed.jit import load64, read_bytes, store64, write_bytes
from wirespeed.mem.buffer import bytes_of_packet, chain_of
from wirespeed.mem.descriptor import CHAINED, CellHeader, address_of, header_of, length_of
from wirespeed.mem.pool import Cache, Pool
from wirespeed.mem.region import Region


class Bench:
    """A pool with one worker, and a vector."""

    def __init__(self):
        self.pool = Pool(2304, 1)
        self.cache = self.pool.cache(0)
        self.region = Region(1 << 14, "test-vector", huge=False)
        self.vector = self.region.address

    def close(self):
        assert self.pool.in_use == 0
        self.pool.close()
        self.region.close()

    def segments(self, desc):
        found = [desc]
        while found[-1] & CHAINED:
            found.append(CellHeader(header_of(self.pool.cells, found[-1])).next)
        return found

    def make(self, data):
        """A packet of these bytes."""
        desc = chain_of(Cache(self.cache), len(data))  # the part's plain Python
        at = 0
        for segment in self.segments(desc):
            write_bytes(address_of(self.pool.cells, segment), data[at : at + length_of(segment)])
            at += length_of(segment)
        return desc

    def data(self, desc):
        parts = [read_bytes(address_of(self.pool.cells, part), length_of(part)) for part in self.segments(desc)]
        assert bytes_of_packet(self.pool.cells, desc) == sum(map(len, parts))
        return b"".join(parts)

    def line(self, desc):
        return CellHeader(header_of(self.pool.cells, desc))

    def at(self, count):
        """The descriptors in the vector."""
        return [load64(self.vector + 8 * i) for i in range(count)]

    def release(self, *descs):
        for desc in descs:
            store64(self.vector, desc)
            self.pool.release(self.vector, 1)
