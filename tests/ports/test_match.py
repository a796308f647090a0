"""Matches: text to value and back, and the reference implementation beside scapy's own reading of frames."""

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6, IPv6ExtHdrHopByHop
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.layers.vxlan import VXLAN

from wirespeed.errors import PortError
from wirespeed.ports.match import matches, parse_match, parse_matches

E4 = Ether() / IP(src="10.1.2.3", dst="192.0.2.1")
E6 = Ether() / IPv6(src="2001:db8::1", dst="2001:db8::2")

CASES = [
    ("udp/53", E4 / UDP(sport=999, dport=53), True),
    ("udp/53", E4 / UDP(sport=53, dport=999), False),
    ("udp/53", E4 / TCP(dport=53), False),
    ("udp/53", E6 / UDP(dport=53), True),
    ("udp/53", E6 / IPv6ExtHdrHopByHop() / UDP(dport=53), False),
    ("udp/53", Ether() / Dot1Q(vlan=7) / IP() / UDP(dport=53), True),
    ("udp/53", Ether() / IP(frag=9, proto=17) / b"\0\0\0\x35", False),
    ("udp/53", Ether() / IP(ihl=4, proto=17) / UDP(dport=53), False),
    ("udp", Ether() / IP(frag=9, proto=17) / b"\0\0\0\x35", True),
    ("udp/50-60&from/10.0.0.0/8", E4 / UDP(dport=53), True),
    ("udp/50-60&from/11.0.0.0/8", E4 / UDP(dport=53), False),
    ("sport/1024-65535", E4 / TCP(sport=1024), True),
    ("to/2001:db8::/32", E6, True),
    ("to/2001:db9::/32", E6, False),
    ("to/192.0.2.1", E6, False),
    ("vlan/7", Ether() / Dot1Q(vlan=7) / ARP(), True),
    ("vlan/7", Ether() / Dot1Q(vlan=8) / Dot1Q(vlan=7) / ARP(), False),
    ("vlan/0", Ether() / ARP(), False),
    ("arp", Ether() / ARP(), True),
    ("arp", Ether() / Dot1Q(vlan=8) / Dot1Q(vlan=7) / ARP(), True),
    ("icmp", E4 / ICMP(), True),
    ("ether/0x88b5", Ether(type=0x88B5) / b"x", True),
    ("teid/42", E4 / UDP(dport=2152) / GTP_U_Header(teid=42, gtp_type=255), True),
    ("teid/41", E4 / UDP(dport=2152) / GTP_U_Header(teid=42, gtp_type=255), False),
    ("vni/7", E4 / UDP(dport=4789) / VXLAN(vni=7), True),
    ("vni/7", E4 / UDP(dport=4790) / VXLAN(vni=7), False),
    ("any", Ether() / b"", True),
]  # fmt: skip


@pytest.mark.parametrize(("text", "frame", "expected"), CASES)
def test_the_reference(text, frame, expected):
    """Frames as scapy builds them."""
    assert matches(parse_match(text), bytes(frame)) is expected


@pytest.mark.parametrize("text", sorted({text for text, _, _ in CASES}))
def test_text_and_value_are_the_same(text):
    """What a match writes is what it reads."""
    match = parse_match(text)
    assert parse_match(str(match)) == match


def test_no_prefix_of_a_frame_raises():
    """A cut frame matches or does not."""
    for text, frame, _ in CASES:
        whole = bytes(frame)
        for length in range(len(whole)):
            matches(parse_match(text), whole[:length])


def test_alternatives():
    """``|`` joins them."""
    assert [str(each) for each in parse_matches("udp/53|tcp/53")] == ["udp&dport/53", "tcp&dport/53"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("upd/53", "did you mean 'udp'"),
        ("udp/99999", "0 to 65535"),
        ("udp/60-50", "lower one first"),
        ("from/10.0.0.1/8", "host bits"),
        ("vlan/5000", "0 to 4095"),
        ("udp&tcp", "two kinds of protocol"),
        ("from/10.0.0.0/8&to/2001:db8::/32", "IPv6"),
        ("", "there is no ''"),
    ],
)
def test_what_makes_no_match(text, said):
    """One sentence that says what would be right."""
    with pytest.raises(PortError, match=said):
        parse_match(text)
