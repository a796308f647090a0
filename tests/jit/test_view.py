"""Views: one class body, the same loads and stores compiled and interpreted."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wirespeed import jit
from wirespeed.jit import (
    Local,
    View,
    be16,
    be32,
    be64,
    bits,
    inline,
    ipv6,
    kernel,
    le16,
    le32,
    le64,
    mac,
    signed64,
    slot,
    u8,
    word,
)

int64 = st.integers(-(1 << 63), (1 << 63) - 1)


class Every(View):
    """Every kind of field."""

    byte = u8(0)
    flag = bits(8, 1)
    three = bits(9, 3)
    across = bits(12, 10)
    low = bits(22, 2)
    b16 = be16(3)
    b32 = be32(5)
    b64 = be64(9)
    l16 = le16(17)
    l32 = le32(19)
    l64 = le64(23)
    station = mac(31)
    address128 = ipv6(37)
    wide = bits(425, 55)
    SIZE = 61

    @property
    def doubled(self):
        """A property."""
        return self.byte * 2

    def mixed(self, factor, extra=5):
        """A method with a default."""
        return self.b16 * factor + extra

    def bump(self):
        """A method that writes, and one that it calls."""
        self.byte += 1
        return self.mixed(1, extra=0)


class Derived(Every):
    """Inherits fields, has another property and a field of its own."""

    tail = u8(61)
    SIZE = 62

    @property
    def doubled(self):
        """Not the base's."""
        return self.byte * 2 + 1

    @property
    def both(self):
        """Uses what is inherited."""
        return self.doubled + self.mixed(2)


class Holder(Local):
    """A place for a view that may be absent."""

    every = slot(Every)
    number = word()

    @property
    def seen(self):
        """A property of a local."""
        return self.number + self.every.byte


@inline
def get(v):
    return (v.byte, v.flag, v.three, v.across, v.low, v.b16, v.b32, v.b64, v.l16, v.l32, v.l64, v.station,
            v.address128[0], v.address128[1], v.wide)  # fmt: skip


@inline
def put(v, value, other):
    v.byte = value
    v.flag = value
    v.three = value
    v.across = value
    v.low = value
    v.b16 = value
    v.b32 = value
    v.b64 = value
    v.l16 = value
    v.l32 = value
    v.l64 = value
    v.station = value
    v.address128 = (value, other)
    v.wide = value


@kernel
def get_all(at):
    return get(Every(at))


@kernel
def put_all(at, value, other):
    put(Every(at), value, other)


@kernel
def get_maybe(at):
    holder = Holder()
    holder.every = Every(at)
    return get(holder.every)


@kernel
def put_maybe(at, value, other):
    holder = Holder()
    holder.every = Every(at)
    put(holder.every, value, other)
    return holder.every.address


@kernel
def truth(at):
    holder = Holder()
    holder.every = Every(at)
    said = 0
    if holder.every:
        said += 1
    if not holder.every:
        said += 2
    if bool(holder.every):
        said += 4
    if holder.every and holder.every.byte == 7:
        said += 8
    return said


@kernel
def members(at):
    view = Every(at)
    derived = Derived(at)
    derived.tail = 9
    view.b16 += 1
    said = view.doubled, view.mixed(2), view.mixed(3, 1), view.mixed(3, extra=2), view.bump()
    return said, derived.doubled, derived.both


@kernel
def either(at, other, which):
    view = Every(at) if which else Every(other)
    return view.b16


@kernel
def local_seen(at, number):
    holder = Holder()
    holder.every = Every(at)
    holder.number = number
    holder.number += 1
    return holder.seen


WIDTHS = {"byte": 8, "flag": 1, "three": 3, "across": 10, "low": 2, "b16": 16, "b32": 32, "b64": 64, "l16": 16,
          "l32": 32, "l64": 64, "station": 48, "wide": 55}  # fmt: skip


@given(st.binary(min_size=62, max_size=62))
def test_loads(memory, data):
    jit.write_bytes(memory, data)
    number = int.from_bytes(data, "big")

    def big(first, width):
        return number >> (62 * 8 - first - width) & (1 << width) - 1

    expected = (
        data[0], big(8, 1), big(9, 3), big(12, 10), big(22, 2), big(24, 16), big(40, 32), signed64(big(72, 64)),
        int.from_bytes(data[17:19], "little"), int.from_bytes(data[19:23], "little"),
        signed64(int.from_bytes(data[23:31], "little")), big(248, 48), signed64(big(296, 64)),
        signed64(big(360, 64)), big(425, 55),
    )  # fmt: skip
    assert get_all(memory) == expected
    assert get(Every(memory)) == expected
    assert get_maybe(memory) == expected


@given(int64, int64, st.binary(min_size=62, max_size=62))
@example(-1, -1, bytes(62))
@example(0, 0, b"\xff" * 62)
def test_stores_truncate_and_leave_their_neighbours(memory, value, other, before):
    jit.write_bytes(memory, before)
    put_all(memory, value, other)
    compiled = jit.read_bytes(memory, 62)
    jit.write_bytes(memory, before)
    put(Every(memory), value, other)
    assert jit.read_bytes(memory, 62) == compiled
    jit.write_bytes(memory, before)
    put_maybe(memory, value, other)
    assert jit.read_bytes(memory, 62) == compiled
    view = Every(memory)
    for name, width in WIDTHS.items():
        assert getattr(view, name) & (1 << width) - 1 == value & (1 << width) - 1, name
    assert view.address128 == (value, other)
    assert compiled[61:] == before[61:]


def test_literal_bytes(memory):
    jit.fill(memory, 0, 62)
    put_all(memory, 0x0102030405060708, 0x1112131415161718)
    # byte, then flag 0, three 000, across 11 0000 1000, low 00 over two bytes, then the rest at its offset
    assert jit.read_bytes(memory, 3) == bytes.fromhex("08 0c 20")
    assert jit.read_bytes(memory + 3, 6) == bytes.fromhex("0708 05060708")
    assert jit.read_bytes(memory + 9, 8) == bytes.fromhex("0102030405060708")
    assert jit.read_bytes(memory + 17, 6) == bytes.fromhex("0807 08070605")
    assert jit.read_bytes(memory + 23, 8) == bytes.fromhex("0807060504030201")
    assert jit.read_bytes(memory + 31, 6) == bytes.fromhex("030405060708")
    assert jit.read_bytes(memory + 37, 16) == bytes.fromhex("0102030405060708 1112131415161718")
    assert jit.read_bytes(memory + 53, 8) == bytes.fromhex("02030405060708 00")


@given(int64, int64)
def test_absent_views_read_zeros_and_swallow_writes(value, other):
    assert get_maybe(0) == (0,) * 15
    assert put_maybe(0, value, other) == 0
    assert get_maybe(0) == (0,) * 15
    absent = Every(0)
    put(absent, value, other)
    assert get(absent) == (0,) * 15
    assert absent.address128 == (0, 0)


def test_truth(memory):
    jit.write_bytes(memory, bytes([7]))
    assert truth(memory) == 1 + 4 + 8
    jit.write_bytes(memory, bytes([8]))
    assert truth(memory) == 1 + 4
    assert truth(0) == 2


def test_methods_properties_and_inheritance(memory):
    def fresh():
        jit.write_bytes(memory, bytes([10, 0, 0, 1, 0]) + bytes(57))

    fresh()
    said = members(memory)
    # b16 is 257; bump() makes byte 11
    assert said == ((20, 519, 772, 773, 257), 23, 542)
    assert jit.read_bytes(memory + 61, 1) == b"\x09"
    fresh()
    assert getattr(members, "py_func", members)(memory) == said


def test_two_views_of_one_class_meet(memory):
    jit.write_bytes(memory, bytes([0, 0, 0, 1, 2]) + bytes(59) + bytes([0, 0, 0, 3, 4]))
    assert either(memory, memory + 64, 1) == 0x0102
    assert either(memory, memory + 64, 0) == 0x0304


def test_locals(memory):
    jit.write_bytes(memory, bytes([5]))
    assert local_seen(memory, 30) == 36
    assert local_seen(0, 30) == 31


def test_declarations_are_checked():
    with pytest.raises(TypeError, match=r"Short.late ends after SIZE = 2"):
        type("Short", (View,), {"late": be32(0), "SIZE": 2})
    with pytest.raises(ValueError, match="1 to 57 bits within 8 bytes"):
        bits(1, 64)
    with pytest.raises(ValueError, match="1 to 57 bits"):
        bits(0, 0)
    assert type("Sized", (View,), {"only": be32(4)}).SIZE == 8


def test_views_show_themselves(memory):
    class Small(View):
        a = u8(0)
        b = be16(1)

    jit.write_bytes(memory, bytes([1, 2, 3]))
    assert repr(Small(memory)) == "Small(a=1, b=515)"
    assert repr(Small(0)) == "<absent Small>"
    assert Small(memory) == Small(memory)
    assert Small(memory) != Small(memory + 1)
    assert Every(memory) != Derived(memory)
