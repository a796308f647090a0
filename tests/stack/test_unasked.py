"""Datagrams that answer nobody, against scapy's: what a timer's callback sends."""

import ipaddress
from contextlib import closing

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from wirespeed.jit import kernel, read_bytes, write_bytes
from wirespeed.mem.descriptor import ROOM, address_of
from wirespeed.mem.pool import Pool
from wirespeed.mem.region import Region
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Settings
from wirespeed.stack.outbox import Outbox, OutboxView
from wirespeed.stack.unasked import unasked4, unasked6

HERE, THERE, HERE6, THERE6 = "10.7.0.1", "10.7.0.2", "fd07::1", "fd07::2"
LONGEST = ROOM - 18 - 40 - 8


@kernel
def make4(cache, face, start, length):
    return unasked4(cache, face, 53, 0x0A070002, 4000, start, length)


@kernel
def make6(cache, face, start, length):
    return unasked6(cache, face, 53, 0xFD07 << 48, 2, 4000, start, length)


@kernel
def send(outbox, start, length):
    view = OutboxView(outbox)
    return view.send4(53, 0x0A070002, 4000, start, length) + view.send6(53, 0xFD07 << 48, 2, 4000, start, length)


def face_of(vlan=None, addresses=(f"{HERE}/24", f"{HERE6}/64")):
    return Interface(Settings(1, tuple(map(ipaddress.ip_interface, addresses)), vlan=vlan))


@pytest.fixture
def data():
    with Region(8192, "test-unasked", huge=False) as region:
        write_bytes(region.address, bytes(range(256)) * 16)
        yield region.address


def expected(six, vlan, payload):
    ip = IPv6(src=HERE6, dst=THERE6) if six else IP(src=HERE, dst=THERE, id=0, flags="DF")
    bare = Ether(src="00:00:00:00:00:00", dst="00:00:00:00:00:00")
    packet = (bare / Dot1Q(vlan=vlan) if vlan else bare) / ip / UDP(sport=53, dport=4000) / payload
    return bytes(packet)


@pytest.mark.parametrize("vlan", [None, 42])
@pytest.mark.parametrize("make", [make4, make6])
@pytest.mark.parametrize("length", [0, 1, 7, 64, 1472, LONGEST])
def test_as_scapy_writes_it(data, make, vlan, length):
    """But for the Ethernet addresses, which the way out writes."""
    with Pool(64, 1, cache=16, batch=16) as pool, closing(face_of(vlan)) as face:
        made, size = make(pool.cache(0), face.address, data, length)
        frame = read_bytes(address_of(pool.cells, made), size)
        wanted = expected(make is make6, vlan, (bytes(range(256)) * 16)[:length])
        assert frame[12:].hex() == wanted[12:].hex()


@pytest.mark.parametrize("make", [make4, make6])
def test_what_cannot_be_sent_takes_no_cell(data, make):
    with Pool(64, 1, cache=16, batch=16) as pool, closing(face_of()) as face, closing(face_of(addresses=())) as nobody:
        assert make(pool.cache(0), face.address, data, LONGEST + 1) == (0, 0)
        assert make(pool.cache(0), face.address, data, -1) == (0, 0)
        assert make(pool.cache(0), nobody.address, data, 8) == (0, 0)
        assert pool.in_use == 0


def test_an_outbox_that_is_not_open_sends_nothing(data):
    outbox = Outbox()
    with Pool(64, 1, cache=16, batch=16) as pool, closing(face_of()) as face:
        outbox.lend([pool.cache(0)], face.address)
        assert send(outbox.address, data, 8) == 0
        outbox.port.open(pool, 1, 0)
        assert send(outbox.address, data, 8) == 2
        assert pool.in_use == 2
        outbox.port.close()
        assert send(outbox.address, data, 8) == 0
