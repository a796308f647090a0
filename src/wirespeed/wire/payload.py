"""What follows the innermost header: bytes that know where they end.

A payload is a view whose word carries its own bound, so that nothing read through it can be outside::

     63           48 47                                            0
    +---------------+-----------------------------------------------+
    |    length     |                   address                     |
    +---------------+-----------------------------------------------+

An empty payload and an absent one are the same word, 0, and false.
"""
# mypy: no-warn-return-any

from wirespeed.jit import (
    View,
    bswap16,
    bswap32,
    bswap64,
    inline,
    load8,
    load16,
    load32,
    load64,
    read_bytes,
    shift_right,
    store8,
    store16,
    store32,
    store64,
)

_ADDRESS = (1 << 48) - 1


@inline
def pack_payload(start: int, end: int) -> int:
    """The word of the payload from ``start`` to ``end``; 0 when there is nothing between them."""
    return (end - start) << 48 | start if end > start else 0


class Bytes(View):
    """Bytes of a packet to be read, self-bounded: reads outside give 0."""

    @property
    def start(self) -> int:
        """Address of the first byte."""
        return self.address & _ADDRESS

    @property
    def length(self) -> int:
        """How many bytes there are, in this segment of the packet."""
        return shift_right(self.address, 48)

    def u8(self, at: int) -> int:
        """The byte at ``at``."""
        if at < 0 or at + 1 > shift_right(self.address, 48):
            return 0
        return load8((self.address & _ADDRESS) + at)

    def be16(self, at: int) -> int:
        """The 16 bits at ``at``, in network order."""
        if at < 0 or at + 2 > shift_right(self.address, 48):
            return 0
        return bswap16(load16((self.address & _ADDRESS) + at))

    def be32(self, at: int) -> int:
        """The 32 bits at ``at``, in network order."""
        if at < 0 or at + 4 > shift_right(self.address, 48):
            return 0
        return bswap32(load32((self.address & _ADDRESS) + at))

    def be64(self, at: int) -> int:
        """The 64 bits at ``at``, in network order, as int64."""
        if at < 0 or at + 8 > shift_right(self.address, 48):
            return 0
        return bswap64(load64((self.address & _ADDRESS) + at))

    def __bytes__(self) -> bytes:
        return read_bytes(self.start, self.length) if self.address else b""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({bytes(self)!r})"


class Payload(Bytes):
    """Bytes of a packet, self-bounded: reads outside give 0, writes outside do nothing."""

    def put_u8(self, at: int, value: int) -> None:
        """Set the byte at ``at``."""
        if at >= 0 and at + 1 <= shift_right(self.address, 48):
            store8((self.address & _ADDRESS) + at, value)

    def put_be16(self, at: int, value: int) -> None:
        """Set the 16 bits at ``at``, in network order."""
        if at >= 0 and at + 2 <= shift_right(self.address, 48):
            store16((self.address & _ADDRESS) + at, bswap16(value))

    def put_be32(self, at: int, value: int) -> None:
        """Set the 32 bits at ``at``, in network order."""
        if at >= 0 and at + 4 <= shift_right(self.address, 48):
            store32((self.address & _ADDRESS) + at, bswap32(value))

    def put_be64(self, at: int, value: int) -> None:
        """Set the 64 bits at ``at``, in network order."""
        if at >= 0 and at + 8 <= shift_right(self.address, 48):
            store64((self.address & _ADDRESS) + at, bswap64(value))
