"""Echo and discard as nodes: what becomes of a frame."""

import ipaddress

import pytest
from scapy.layers.inet import IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

import wirespeed as ws
from wirespeed.apps.echo import answer_discard, answer_echo
from wirespeed.apps.service import ServiceError
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Settings
from wirespeed.stack.outbox import Outbox
from wirespeed.stack.udp import udp_handler

US, PEER = "02:77:73:00:00:01", "02:00:00:00:00:02"


@pytest.fixture
def service():
    made = ws.Service("null:count=0", address="10.7.0.1/24")
    answer_echo(made)
    answer_discard(made)
    return made


@pytest.fixture
def face():
    own = (ipaddress.ip_interface("10.7.0.1/24"), ipaddress.ip_interface("fd07::1/64"))
    made = Interface(Settings(mac=0x0277_7300_0001, addresses=own))
    yield made
    made.close()


def traced(service, face, packet):
    """What the handler of the packet's port made of it."""
    handler = next(each for each in service._handlers if each.port == packet[UDP].dport)
    found = udp_handler(handler.function, face, Outbox(), handler.drops).trace(packet)
    return found.door or Ether(found.data)


def datagram(dport, sport=4000, six=False, payload=b"hello"):
    ip = IPv6(src="fd07::2", dst="fd07::1") if six else IP(src="10.7.0.2", dst="10.7.0.1")
    return Ether(src=PEER, dst=US) / ip / UDP(sport=sport, dport=dport) / payload


@pytest.mark.parametrize("six", [False, True])
@pytest.mark.parametrize("payload", [b"", b"x", bytes(range(256)) * 5])
def test_echo(service, face, six, payload):
    frame = traced(service, face, datagram(7, six=six, payload=payload))
    ip = frame[IPv6 if six else IP]
    assert (ip.src, ip.dst) == (("fd07::1", "fd07::2") if six else ("10.7.0.1", "10.7.0.2"))
    assert (frame[UDP].sport, frame[UDP].dport) == (7, 4000)
    assert bytes(frame[UDP].payload)[: len(payload)] == payload


@pytest.mark.parametrize("sport", [7, 13, 19])
def test_an_echo_that_would_not_end(service, face, sport):
    assert traced(service, face, datagram(7, sport)) == "loop"


def test_discard(service, face):
    assert traced(service, face, datagram(9)) == "discarded"


def test_ports_taken_twice(service):
    for answer in (answer_echo, answer_discard):
        with pytest.raises(ServiceError, match="is taken"):
            answer(service)
