"""Write the captures that the tutorial reads, in the current folder: in.pcap, telemetry.pcap.

python captures.py     needs scapy: pip install scapy
"""

from scapy.all import ARP, DNS, DNSQR, IP, TCP, UDP, Dot1Q, Ether, IPv6, Raw, wrpcap

LINK = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")


def mixed():
    """in.pcap: 40 DNS queries, 30 answers, 20 TCP, 8 with a VLAN tag or IPv6, 2 ARP: 100 packets."""
    packets = []
    for i in range(40):
        client = IP(src=f"192.0.2.{1 + i % 10}", dst="198.51.100.53")
        packets.append(LINK / client / UDP(sport=40000 + i, dport=53) / DNS(id=i, qd=DNSQR(qname="example.org")))
    for i in range(30):
        server = IP(src="198.51.100.53", dst=f"192.0.2.{1 + i % 10}")
        packets.append(LINK / server / UDP(sport=53, dport=40000 + i) / DNS(id=i, qr=1, qd=DNSQR(qname="example.org")))
    for i in range(20):
        packets.append(LINK / IP(src="192.0.2.1", dst="203.0.113.80") / TCP(sport=50000 + i, dport=443, flags="S"))
    for i in range(4):
        tagged = LINK / Dot1Q(vlan=7) / IP(src="192.0.2.3", dst="203.0.113.9")
        packets.append(tagged / UDP(sport=6000 + i, dport=123) / Raw(bytes(48)))
        over6 = LINK / IPv6(src="2001:db8::1", dst="2001:db8::2")
        packets.append(over6 / UDP(sport=6000 + i, dport=443) / Raw(bytes(20)))
    packets += [LINK / ARP(psrc="192.0.2.1", pdst="192.0.2.2")] * 2
    return packets


def telemetry():
    """telemetry.pcap: 24 packets of the made-up protocol of the tutorial, over UDP port 4242."""
    packets = []
    for i in range(24):
        header = bytes([i % 3, 0, 0, 0]) + (1000 + i).to_bytes(4, "big") + i.to_bytes(8, "big")
        packets.append(LINK / IP(src="192.0.2.1", dst="192.0.2.2") / UDP(sport=5000, dport=4242) / Raw(header))
    return packets


if __name__ == "__main__":
    wrpcap("in.pcap", mixed())
    wrpcap("telemetry.pcap", telemetry())
