"""vhost-user messages: literal bytes, and what a peer may not say."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wirespeed.ports.vhost.channel import Channel, close_all
from wirespeed.ports.vhost.messages import (
    NEED_REPLY,
    VERSION,
    Config,
    Inflight,
    MemoryRegion,
    Message,
    Request,
    VhostError,
    VhostGone,
    VringAddress,
    VringState,
    pack_memory,
    pack_slot,
    pack_u64,
    pack_vring_fd,
    parse_head,
    unpack_memory,
    unpack_nothing,
    unpack_slot,
    unpack_u64,
    unpack_vring_fd,
)
from wirespeed.ports.virtio.features import Feature, ProtocolFeature, header_bytes, names

# SET_VRING_NUM: 256 entries for ring 1, by vhost-user.rst: request, flags, size; index, number.
SET_NUM = bytes.fromhex("08000000 01000000 08000000 01000000 00010000")
ANY_U64 = st.integers(0, 2**64 - 1)
ANY_U32 = st.integers(0, 2**32 - 1)


@pytest.fixture
def ends() -> Iterator[tuple[Channel, Channel, socket.socket]]:
    """Two ends of a connection, and the raw socket of the second."""
    left, right = socket.socketpair()
    first, second = Channel(left), Channel(right)
    yield first, second, right
    first.close()
    second.close()


def test_a_head_is_twelve_bytes() -> None:
    message = Message(Request.SET_VRING_NUM, VringState(1, 256).pack())
    assert message.head() + message.payload == SET_NUM
    assert parse_head(SET_NUM[:12]) == (Request.SET_VRING_NUM, VERSION, 8)
    assert message.reply(pack_u64(0)).head() == bytes.fromhex("08000000 05000000 08000000")


@pytest.mark.parametrize(("head", "said"), [((5, 2, 0), "version 2"), ((5, 0, 0), "version 0"), ((5, 1, 1025), "1025")])
def test_heads_that_are_none(head: tuple[int, int, int], said: str) -> None:
    with pytest.raises(VhostError, match=said):
        parse_head(struct.pack("<III", *head))


def test_vring_addresses_are_in_the_order_of_the_struct() -> None:
    payload = VringAddress(3, descriptors=0x1000, used=0x3000, available=0x2000, log=7).pack()
    assert payload == struct.pack("<IIQQQQ", 3, 0, 0x1000, 0x3000, 0x2000, 7)


@given(ANY_U32, ANY_U32, ANY_U64, ANY_U64, ANY_U64, ANY_U64)
def test_what_is_packed_is_unpacked(a: int, b: int, c: int, d: int, e: int, f: int) -> None:
    for value in (VringState(a, b), VringAddress(a, c, d, e, b, f), Inflight(c, d, a & 0xFFFF, b & 0xFFFF)):
        assert type(value).unpack(value.pack()) == value
    region = MemoryRegion(c, d, e, f)
    assert unpack_slot(pack_slot(region)) == region
    assert unpack_memory(pack_memory([region] * (a % 8 + 1))) == [region] * (a % 8 + 1)
    assert unpack_u64(pack_u64(c)) == c
    assert unpack_vring_fd(pack_vring_fd(a & 0xFF, bool(b & 1))) == (a & 0xFF, bool(b & 1))
    assert Config.unpack(Config(a % 200, bytes(b % 50), 1).pack()) == Config(a % 200, bytes(b % 50), 1)
    unpack_nothing(b"")


@given(st.binary(max_size=300))
def test_unpacking_anything_gives_a_value_or_says_no(payload: bytes) -> None:
    for unpack in (
        VringState.unpack, VringAddress.unpack, Inflight.unpack, Config.unpack, unpack_memory, unpack_slot, unpack_u64,
        unpack_vring_fd, unpack_nothing,
    ):  # fmt: skip
        with contextlib.suppress(VhostError):
            unpack(payload)


@pytest.mark.parametrize("count", [0, 9, 2**32 - 1])
def test_memory_tables_of_impossible_sizes(count: int) -> None:
    with pytest.raises(VhostError, match="regions"):
        unpack_memory(struct.pack("<II", count, 0) + bytes(256))


def test_a_memory_table_may_be_sent_whole() -> None:
    region = MemoryRegion(0, 4096, 0x7000, 0)
    assert unpack_memory(pack_memory([region]) + bytes(32 * 7)) == [region]
    with pytest.raises(VhostError):
        unpack_memory(pack_memory([region, region])[:-1])
    with pytest.raises(VhostError):
        unpack_memory(pack_memory([region]) + bytes(32 * 8))


def test_who_needs_a_reply() -> None:
    assert Message(Request.SET_MEM_TABLE, flags=VERSION | NEED_REPLY).needs_reply
    assert not Message(Request.SET_MEM_TABLE).needs_reply
    assert not Message(Request.GET_FEATURES, flags=VERSION | NEED_REPLY).needs_reply  # it is answered anyway
    assert (Message(Request.SET_OWNER).name, Message(99).name) == ("SET_OWNER", "request 99")


def test_features_by_name() -> None:
    assert names(Feature.CSUM | Feature.MRG_RXBUF | 1 << 50) == "CSUM, MRG_RXBUF, bit 50"
    assert names(ProtocolFeature.MQ, ProtocolFeature) == "MQ"
    assert names(0) == "none"
    assert [header_bytes(x) for x in (0, Feature.MRG_RXBUF, Feature.VERSION_1)] == [10, 12, 12]


# Over a socket -------------------------------------------------------------------------------------------


def test_messages_come_whole_however_they_are_cut(ends) -> None:
    first, _, raw = ends
    sent = [Message(Request.SET_VRING_NUM, VringState(1, 256).pack()), Message(Request.SET_OWNER)]
    data = b"".join(message.head() + message.payload for message in sent)
    found = []
    for byte in data:
        raw.send(bytes([byte]))
        if (message := first.receive()) is not None:
            found.append(message)
    assert found == sent
    raw.send(data)
    assert [first.receive(), first.receive(), first.receive()] == [*sent, None]


def test_descriptors_stay_with_their_message(ends) -> None:
    first, second, _ = ends
    pipes = [os.pipe() for _ in range(2)]
    for index, (_, write) in enumerate(pipes):
        second.send(Message(Request.SET_VRING_KICK, pack_vring_fd(index), (write,)))
    for read, write in pipes:
        os.close(write)
        (got,) = first.receive().fds
        os.write(got, b"x")
        os.close(got)
        assert os.read(read, 9) == b"x"
        os.close(read)


def test_asking(ends) -> None:
    first, second, _ = ends
    question = Message(Request.GET_FEATURES)
    second.send(question.reply(pack_u64(5)))
    assert unpack_u64(first.ask(question).payload) == 5
    assert second.receive() == question
    second.send(Message(Request.GET_QUEUE_NUM).reply(pack_u64(5)))
    with pytest.raises(VhostError, match="GET_FEATURES was answered by GET_QUEUE_NUM"):
        first.ask(question)
    with pytest.raises(VhostGone, match="too long to answer GET_FEATURES"):
        first.ask(question, timeout=0.01)


def test_the_other_end_goes(ends) -> None:
    first, second, raw = ends
    second.send(Message(Request.SET_OWNER))
    raw.send(b"\1")
    second.close()
    assert first.receive() == Message(Request.SET_OWNER)
    with pytest.raises(VhostGone, match="closed"):
        first.receive()
    with pytest.raises(VhostGone, match="broke"):
        first.send(Message(Request.SET_OWNER))


def test_more_descriptors_than_any_message_has(ends) -> None:
    before = len(os.listdir("/proc/self/fd"))
    first, second, _ = ends
    fds = [os.dup(0) for _ in range(9)]
    second.send(Message(Request.SET_MEM_TABLE, bytes(264), tuple(fds)))
    close_all(fds)
    with pytest.raises(VhostError, match="file descriptors"):
        first.receive()
    first.close()
    second.close()
    assert len(os.listdir("/proc/self/fd")) <= before
