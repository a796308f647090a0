"""The other side of a virtqueue, in plain Python: a device that does what the standard says, in any order it likes."""

import struct
from dataclasses import dataclass

from wirespeed.jit import read_bytes, write_bytes
from wirespeed.ports.virtio.record import EVENT_IDX, IN_ORDER, PACKED, VirtioQueue
from wirespeed.ports.virtio.vring import AVAIL, INDIRECT, NEXT, USED, WRITE

_SPLIT, _PACKED = struct.Struct("<QIHH"), struct.Struct("<QIHH")


@dataclass
class Buffer:
    """What the driver made available: its id, its pieces (address, bytes, flags), and how many ring entries it has."""

    id: int
    pieces: list[tuple[int, int, int]]
    entries: int

    def data(self) -> bytes:
        """All bytes, for buffers that the device reads."""
        assert not any(flags & WRITE for _, _, flags in self.pieces)
        return b"".join(read_bytes(address, length) for address, length, _ in self.pieces)

    def put(self, data: bytes) -> None:
        """Write into a buffer that the device writes; it must fit."""
        for address, length, flags in self.pieces:
            assert flags & WRITE
            write_bytes(address, data[:length])
            data = data[length:]
        assert not data


def _number(address: int, size: int) -> int:
    return int.from_bytes(read_bytes(address, size), "little")


def _put(address: int, value: int, size: int) -> None:
    write_bytes(address, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))


class Device:
    """One queue, seen from the device."""

    def __init__(self, record: VirtioQueue) -> None:
        self.record = record
        self.size = record.size
        self.mode = record.mode
        self.next = 0  # entries (packed) or buffers (split) taken from the driver
        self.used = 0  # the same, given back

    def take(self) -> Buffer | None:
        """The next buffer the driver has made available."""
        return self._take_packed() if self.mode & PACKED else self._take_split()

    def take_all(self) -> list[Buffer]:
        return list(iter(self.take, None))

    def give(self, *buffers: tuple[Buffer, int]) -> None:
        """Return buffers with the bytes written to each; the driver sees all of them at once."""
        for at, (buffer, length) in enumerate(buffers):
            self.give_raw(buffer.id, length, buffer.entries, last=at == len(buffers) - 1)

    def skip_to(self, buffers: list[Buffer]) -> None:
        """Return a batch that was only read, in order, by naming its last buffer (sections 2.7.9, 2.8.11)."""
        assert self.mode & IN_ORDER
        last = buffers[-1]
        if self.mode & PACKED:
            self._use_packed(self.used, last.id, 0)
            self.used += sum(buffer.entries for buffer in buffers)
        else:
            at = self.used & (self.size - 1)
            write_bytes(self.record.device + 4 + 8 * at, struct.pack("<II", last.id, 0))
            self.used += len(buffers)
            _put(self.record.device + 2, self.used, 2)

    def give_raw(self, id: int, length: int, entries: int = 1, last: bool = True) -> None:
        """Return anything."""
        if self.mode & PACKED:
            self._use_packed(self.used, id, length)
            self.used += entries
            return
        at = self.used & (self.size - 1)
        write_bytes(self.record.device + 4 + 8 * at, struct.pack("<II", id & 0xFFFF_FFFF, length & 0xFFFF_FFFF))
        self.used += 1
        if last:
            _put(self.record.device + 2, self.used, 2)

    def wants_kicks(self, wanted: bool) -> None:
        """Say whether the driver is to tell us of new buffers."""
        device = self.record.device
        if self.mode & PACKED:
            lap = 0 if self.next & self.size else 0x8000
            at = lap | self.next & (self.size - 1)
            flags = (2 if self.mode & EVENT_IDX else 0) if wanted else 1
            write_bytes(device, struct.pack("<HH", at, flags))
        elif self.mode & EVENT_IDX:
            _put(device + 4 + 8 * self.size, self.next if wanted else self.next - 1, 2)
        else:
            _put(device, 0 if wanted else 1, 2)

    def may_interrupt(self, before: int) -> bool:
        """Whether the driver asked to be told of what was used since counter ``before``."""
        driver = self.record.driver
        if self.mode & PACKED:
            at, flags = struct.unpack("<HH", read_bytes(driver, 4))
            if flags != 2:
                return bool(flags == 0)
            lap = 0x8000 if not before & self.size else 0
            return at == lap | before & (self.size - 1)
        if self.mode & EVENT_IDX:
            return _number(driver + 4 + 2 * self.size, 2) == before & 0xFFFF
        return not _number(driver, 2) & 1

    # ---------------------------------------------------------------------------------------------------

    def _take_split(self) -> Buffer | None:
        if _number(self.record.driver + 2, 2) == self.next & 0xFFFF:
            return None
        head = _number(self.record.driver + 4 + 2 * (self.next & (self.size - 1)), 2)
        self.next += 1
        pieces, entries, at = [], 0, head
        while True:
            assert at < self.size
            assert entries < self.size
            address, length, flags, following = _SPLIT.unpack(read_bytes(self.record.descriptors + 16 * at, 16))
            entries += 1
            if flags & INDIRECT:
                assert flags == INDIRECT
                pieces += self._table(address, length)
                break
            pieces.append((address, length, flags & WRITE))
            if not flags & NEXT:
                break
            at = following
        return Buffer(head, pieces, entries)

    def _take_packed(self) -> Buffer | None:
        pieces, entries = [], 0
        while True:
            position = self.next + entries
            at = self.record.descriptors + 16 * (position & (self.size - 1))
            address, length, id, flags = _PACKED.unpack(read_bytes(at, 16))
            if flags & (AVAIL | USED) != (USED if position & self.size else AVAIL):
                assert not entries, "a chain of which only the beginning is there"
                return None
            entries += 1
            if flags & INDIRECT:
                pieces += self._table(address, length)
            else:
                pieces.append((address, length, flags & WRITE))
            if not flags & NEXT:
                break
        self.next += entries
        return Buffer(id, pieces, entries)

    def _table(self, address: int, length: int) -> list[tuple[int, int, int]]:
        assert length
        assert length % 16 == 0
        entries = [_SPLIT.unpack(read_bytes(address + at, 16)) for at in range(0, length, 16)]
        if not self.mode & PACKED:
            for number, (_, _, flags, following) in enumerate(entries):
                last = number == len(entries) - 1
                assert (flags, following) == ((0, 0) if last else (NEXT, number + 1)), (flags, following)
        return [(base, size, flags & WRITE) for base, size, flags, _ in entries]

    def _use_packed(self, position: int, id: int, length: int) -> None:
        flags = 0 if position & self.size else AVAIL | USED
        at = self.record.descriptors + 16 * (position & (self.size - 1))
        write_bytes(at + 8, struct.pack("<IHH", length & 0xFFFF_FFFF, id & 0xFFFF, flags))
