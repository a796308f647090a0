"""Frames of strangers, each from another random source: what a host hears when somebody means it harm."""

from ipaddress import IPv4Address, IPv6Address
from random import Random

from scapy.layers.inet import ICMP, IP, UDP, IPOption
from scapy.layers.inet6 import (
    ICMPv6MLQuery,
    ICMPv6ND_NS,
    ICMPv6ND_RA,
    ICMPv6NDOptPrefixInfo,
    ICMPv6NDOptSrcLLAddr,
    ICMPv6PacketTooBig,
    IPv6,
    IPv6ExtHdrFragment,
    IPv6ExtHdrRouting,
)
from scapy.layers.l2 import ARP, Ether
from scapy.packet import Raw

from wirespeed.hashes.internet import checksum

HERE, HERE6 = "10.7.0.1", "fd07::1"


class Strangers:
    """Sources, and what they send; ``us`` is the Ethernet address of the host."""

    def __init__(self, us, seed):
        self.random, self.us = Random(seed), us

    def four(self):
        """One of 234 on the link."""
        return str(IPv4Address(0x0A070000 + self.random.randrange(16, 250)))

    def six(self):
        return str(IPv6Address((0xFD07 << 112) + self.random.randrange(1 << 32, 1 << 64)))

    def mac(self):
        return "02:" + self.random.randbytes(5).hex(":")

    def ip(self, **options):
        return Ether(src=self.mac(), dst=self.us) / IP(src=self.four(), dst=HERE, **options)

    def ip6(self, **options):
        return Ether(src=self.mac(), dst=self.us) / IPv6(src=self.six(), dst=HERE6, **options)

    def port(self):
        return self.random.randrange(1024, 65536)

    def arp(self):
        mac = self.mac()
        return Ether(src=mac, dst="ff:ff:ff:ff:ff:ff") / ARP(hwsrc=mac, psrc=self.four(), pdst=HERE)

    def solicitation(self):
        return self.ip6(hlim=255) / ICMPv6ND_NS(tgt=HERE6) / ICMPv6NDOptSrcLLAddr(lladdr=self.mac())

    def fragment(self):
        return self.ip(flags="MF", id=self.random.randrange(65536), proto=17) / Raw(bytes(64))

    def fragment6(self):
        piece = IPv6ExtHdrFragment(m=1, id=self.random.getrandbits(32), nh=17)
        return self.ip6() / piece / UDP(sport=self.port(), dport=7, len=2000, chksum=1) / Raw(bytes(64))

    def to_the_handler(self):
        return self.ip() / UDP(sport=self.port(), dport=7) / b"answer this"

    def to_the_handler6(self):
        return self.ip6() / UDP(sport=self.port(), dport=7) / b"answer this"

    def closed_port(self):
        return self.ip() / UDP(sport=self.port(), dport=9999) / b"anybody?"

    def closed_port6(self):
        return self.ip6() / UDP(sport=self.port(), dport=9999) / b"anybody?"

    def transport(self):
        return self.ip(proto=132) / b"nobody speaks this"

    def bad_option(self):
        """A timestamp whose length is beyond the header's end."""
        longer = IPOption(copy_flag=0, optclass=2, option=4, length=5, value=b"\5\0")
        return self.ip(options=[longer]) / UDP(sport=self.port(), dport=7) / b"answer this"

    def routed6(self):
        through = IPv6ExtHdrRouting(addresses=[self.six()], segleft=1)
        return self.ip6() / through / UDP(sport=self.port(), dport=7) / b"answer this"

    def last_hop(self):
        return self.ip(ttl=1) / UDP(sport=self.port(), dport=33434) / b"trace"

    def too_big(self):
        to = str(IPv4Address(self.random.getrandbits(32)))
        flow = IP(src=HERE, dst=to, len=1400) / UDP(sport=7, dport=self.port())
        return self.ip() / ICMP(type=3, code=4, nexthopmtu=self.random.randrange(600, 1300)) / Raw(bytes(flow))

    def too_big6(self):
        flow = IPv6(src=HERE6, dst=self.six(), plen=1400) / UDP(sport=7, dport=self.port(), chksum=1)
        return self.ip6() / ICMPv6PacketTooBig(mtu=1280) / Raw(bytes(flow))

    def offer(self):
        return self.ip() / UDP(sport=67, dport=68) / self.random.randbytes(300)

    def advertisement(self):
        prefix = ICMPv6NDOptPrefixInfo(prefix=self.six(), prefixlen=64, L=1, A=1)
        to = Ether(src=self.mac(), dst="33:33:00:00:00:01")
        return to / IPv6(src="fe80::bad", dst="ff02::1", hlim=255) / ICMPv6ND_RA() / prefix

    def mld_query(self):
        return self.ip6(hlim=1) / ICMPv6MLQuery(mladdr="::")

    def igmp_query(self):
        return self.ip(ttl=1, proto=2) / Raw(bytes.fromhex("1164ee9b00000000"))


KINDS = (
    "arp", "solicitation", "fragment", "fragment6", "to_the_handler", "to_the_handler6", "closed_port", "closed_port6",
    "transport", "bad_option", "routed6", "last_hop",
    "too_big", "too_big6", "offer", "advertisement", "mld_query", "igmp_query",
)  # fmt: skip


def spoofed(frame, random):
    """The same frame from somebody else, in 10.0.0.0/8 or fd07::/64, its checksums right.

    Who sends ARP is in 10.128.0.0/9, everybody else in the other half: no stranger whose Ethernet address was heard
    asks for what would then be answered.
    """
    made = bytearray(frame)
    made[7:12] = random.randbytes(5)
    ethertype = made[12:14]
    if ethertype == b"\x08\x06":
        made[22:28] = made[6:12]
        made[29:32] = random.randbytes(3)
        made[29] |= 0x80
    elif ethertype == b"\x08\x00":
        made[27:30] = random.randbytes(3)
        made[27] &= 0x7F
        made[18:20] = random.randbytes(2)  # the identification, that fragments have datagrams of their own
        header = (made[14] & 15) * 4
        if made[23] == 17 and not made[20] & 0x20:
            made[14 + header + 6 : 14 + header + 8] = bytes(2)  # no UDP checksum
        made[24:26] = bytes(2)
        made[24:26] = checksum(bytes(made[14 : 14 + header])).to_bytes(2)
    else:  # the last word of the address makes up for the others, so that the transport's checksum stays
        total = sum(int.from_bytes(made[at : at + 2]) for at in (30, 32, 34, 36))
        made[30:36] = random.randbytes(6)
        total -= sum(int.from_bytes(made[at : at + 2]) for at in (30, 32, 34))
        made[36:38] = (total % 0xFFFF).to_bytes(2)
        if made[20] == 44:
            made[58:62] = random.randbytes(4)
    return bytes(made)
