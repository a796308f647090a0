"""Offloads in software, stage by stage: bytes in, bytes out, judged by scapy and the kernel's rules; cells balance."""

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether

from wirespeed.errors import PortError
from wirespeed.jit import kernel, load64, store64
from wirespeed.mem.descriptor import CHECKSUM_VALID, META, NEEDS_CHECKSUM
from wirespeed.mem.pool import share
from wirespeed.ports.offloads import Offload
from wirespeed.ports.port import port
from wirespeed.ports.rss import Rss
from wirespeed.ports.software.path import Prepare, made_at, prepare
from wirespeed.ports.software.software import Software
from wirespeed.tables.toeplitz import MICROSOFT_KEY, Toeplitz

E = Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02")
TCP4, UDP4 = 1, 5  # gso_type, linux/virtio_net.h


@kernel
def _prepare(record, cache, vector, at, count):
    return prepare(record, cache, vector, at, count)


@kernel
def _share(cells, desc):
    return share(cells, desc)


class Some(type(port("null:"))):  # type: ignore[misc]
    """A null port whose device can do what a test says."""

    def __init__(self, offloads=Offload.NONE, **wishes):
        made = port("null:" + ",".join(f"{name}={value}" for name, value in wishes.items()))
        super().__init__("null:", made.options)
        self.wishes, self.rss, self.offloads = made.wishes, made.rss, offloads
        for match, action in made.wishes.rules:
            self.rules.add(match, action)


class Open:
    """Such a port, open, with what workers do for it."""

    def __init__(self, worker, *arguments, **wishes):
        self.worker, self.port, self.hash = worker, Some(*arguments, **wishes), Toeplitz()
        self.port.open(worker.pool, 1, 1)
        self.software = Software(self.port, 1, self.hash)

    def receive(self, *descriptors):
        """Through all stages behind receive."""
        left = list(descriptors)
        for stage in self.software.rx:
            left = self.worker.stage(stage.function, stage.address, left)
        return left

    def send(self, *descriptors):
        """What would be given to the device, in vectors as large as they come."""
        worker, record, found, at = self.worker, self.software.tx.address, [], 0
        for i, desc in enumerate(descriptors):
            store64(worker.vector + 8 * i, desc)
        while at < len(descriptors):
            at = _prepare(record, worker.cache, worker.vector, at, len(descriptors))
            found.append([load64(made_at(record) + 8 * i) for i in range(Prepare(record).made)])
        return [desc for part in found for desc in part]

    def close(self):
        self.software.close()
        self.port.close()
        self.hash.close()


@pytest.fixture
def make(worker):
    made = []

    def open_one(*arguments, **wishes):
        made.append(Open(worker, *arguments, **wishes))
        return made[-1]

    yield open_one
    for each in made:
        each.close()


def partial(packet, layer):
    """A frame as Linux leaves it to hardware: the transport checksum field holds the pseudo header's sum."""
    frame = bytearray(bytes(packet))
    whole = Ether(bytes(packet))
    start = len(bytes(whole)) - len(bytes(whole[layer]))
    offset = 16 if layer is TCP else 6
    frame[start + offset : start + offset + 2] = b"\0\0"
    total = sum(int.from_bytes(frame[i : i + 2].ljust(2, b"\0")) for i in range(start, len(frame), 2))
    checksum = whole[layer].chksum
    pseudo = (~checksum & 0xFFFF) - total
    while pseudo < 0 or pseudo > 0xFFFF:
        pseudo = (pseudo & 0xFFFF) + (pseudo >> 16)
    frame[start + offset : start + offset + 2] = pseudo.to_bytes(2)
    return bytes(frame), {"checksum_state": NEEDS_CHECKSUM, "checksum_start": start, "checksum_offset": offset}


@pytest.mark.parametrize("size", [1, 100, 101, 1400, 5000])
@pytest.mark.parametrize("layer", [UDP, TCP])
@pytest.mark.parametrize("network", [IP(src="10.0.0.1", dst="10.0.0.2"), IPv6(src="2001:db8::1", dst="2001:db8::2")])
def test_a_checksum_left_to_hardware_is_summed(make, worker, size, layer, network):
    whole = E / network / layer(sport=1000, dport=2000) / bytes(i & 0xFF for i in range(size))
    frame, meta = partial(whole, layer)
    made = make()
    (sent,) = made.send(worker.make(frame, **meta))
    assert worker.packet(sent) == bytes(whole)
    assert worker.header(sent).checksum_state == CHECKSUM_VALID
    worker.free([sent])
    assert made.software.counters() == {"software-tx-summed": 1}


def test_what_others_hold_is_finished_in_a_copy(make, worker):
    whole = E / IP() / UDP(sport=1, dport=2) / b"payload"
    frame, meta = partial(whole, UDP)
    desc = _share(worker.pool.cells, worker.make(frame, **meta))
    made = make()
    (sent,) = made.send(desc)
    assert worker.packet(sent) == bytes(whole)
    assert worker.packet(desc) == frame
    assert worker.header(desc).checksum_state == NEEDS_CHECKSUM
    worker.free([sent, desc])


def test_a_checksum_outside_the_packet_is_refused(make, worker):
    made = make()
    bad = worker.make(bytes(60), checksum_state=NEEDS_CHECKSUM, checksum_start=55, checksum_offset=4)
    assert made.send(bad) == []
    assert made.software.counters() == {"software-tx-refused": 1}


def super_packet(worker, layer=TCP, size=1000, total=4500, **meta):
    payload = bytes(i * 7 & 0xFF for i in range(total))
    header = TCP(sport=1, dport=2, seq=1000, flags="PA") if layer is TCP else UDP(sport=1, dport=2)
    frame, sums = partial(E / IP(src="10.0.0.1", dst="10.0.0.2", id=7) / header / payload, layer)
    kind = TCP4 if layer is TCP else UDP4
    return worker.make(frame, gso_size=size, gso_type=kind, **sums, **meta), payload


@pytest.mark.parametrize("layer", [TCP, UDP])
def test_a_super_packet_becomes_segments(make, worker, layer):
    desc, payload = super_packet(worker, layer)
    made = make()
    sent = made.send(worker.make(b"before" * 10), desc, worker.make(b"behind" * 10))
    frames = [worker.packet(each) for each in sent]
    assert frames[0] == b"before" * 10
    assert frames[-1] == b"behind" * 10
    segments = [Ether(frame) for frame in frames[1:-1]]
    assert [len(each[layer].payload) for each in segments] == [1000, 1000, 1000, 1000, 500]
    assert b"".join(bytes(each[layer].payload) for each in segments) == payload
    for each in segments:
        again = each.copy()
        del again[IP].chksum, again[layer].chksum
        assert bytes(again.__class__(bytes(again))) == bytes(each)
    if layer is TCP:
        assert [each[TCP].seq for each in segments] == [1000, 2000, 3000, 4000, 5000]
        assert [str(each[TCP].flags) for each in segments] == ["A"] * 4 + ["PA"]
    worker.free(sent)
    assert made.software.counters() == {"software-tx-cut": 1, "software-tx-segments": 5}


def test_many_segments_go_in_several_vectors(make, worker):
    descs = [super_packet(worker, TCP, size=40, total=4000)[0] for _ in range(8)]
    made = make()
    sent = []
    for desc in made.send(*descs):
        sent.append(len(worker.packet(desc)))
        worker.free([desc])
    assert sent == [94] * 800


def test_what_the_device_does_is_left_to_it(make, worker):
    desc, _ = super_packet(worker, TCP)
    made = make(Offload.TX_CHECKSUM | Offload.TX_TCP_SEGMENTATION)
    (sent,) = made.send(desc)
    assert sent == desc
    assert worker.header(sent).gso_size == 1000
    worker.free([sent])
    other, _ = super_packet(worker, UDP)
    sent = made.send(other)
    assert len(sent) == 5
    worker.free(sent)
    assert make(Offload.HANDED_ON).software.tx is None


def test_a_super_packet_that_is_none_is_refused(make, worker):
    made = make()
    bad = worker.make(bytes(E / IP() / ICMP()) + bytes(2000), gso_size=500, gso_type=TCP4)
    assert made.send(bad) == []
    assert made.software.counters() == {"software-tx-refused": 1}


def test_a_tag_is_put_in_and_the_offsets_follow(make, worker):
    whole = E / IP() / UDP(sport=1, dport=2) / b"payload"
    made = make(Offload.TX_CHECKSUM)
    frame, meta = partial(whole, UDP)
    (sent,) = made.send(worker.make(frame, vlan_tci=0x6007, **meta))
    assert Ether(worker.packet(sent))[Dot1Q].vlan == 7
    assert worker.packet(sent) == frame[:12] + bytes.fromhex("81006007") + frame[12:]
    assert worker.header(sent).checksum_start == meta["checksum_start"] + 4
    assert worker.header(sent).vlan_tci == 0
    worker.free([sent])


@pytest.mark.parametrize("layer", [TCP, UDP])
def test_segments_carry_the_tag(make, worker, layer):
    desc, payload = super_packet(worker, layer, vlan_tci=9)
    sent = make().send(desc)
    segments = [Ether(worker.packet(each)) for each in sent]
    assert [each[Dot1Q].vlan for each in segments] == [9] * 5
    assert b"".join(bytes(each[layer].payload) for each in segments) == payload
    worker.free(sent)


def test_verify(make, worker):
    good = bytes(E / IP() / UDP(sport=1, dport=2) / b"good")
    bad = good[:-1] + b"x"
    header = bytearray(good)
    header[24] ^= 1
    frames = [good, bad, bytes(header), bytes(E) + bytes(46), bytes(E / IP(flags="MF") / UDP() / b"part")]
    made = make(checksum="verify")
    left = made.receive(*map(worker.make, frames))
    assert [worker.header(d).checksum_state if d & META else 0 for d in left] == [CHECKSUM_VALID, 0, 0, 0, 0]
    assert made.software.counters() == {"software-rx-checksum-good": 1, "software-rx-checksum-bad": 2}
    worker.free(left)
    made = make(checksum="drop")
    left = made.receive(*map(worker.make, frames))
    assert [worker.packet(desc) for desc in left] == [good, frames[3], frames[4]]
    worker.free(left)


def test_strip(make, worker):
    inside = bytes(E / IP() / UDP())[12:]
    made = make(vlan_strip="yes")
    frames = [bytes(E)[:12] + bytes.fromhex("8100a007") + inside, bytes(E)[:12] + inside]
    left = made.receive(*map(worker.make, frames))
    assert [worker.packet(desc) for desc in left] == [bytes(E)[:12] + inside] * 2
    assert [worker.header(desc).vlan_tci if desc & META else 0 for desc in left] == [0xA007, 0]
    assert [worker.packet(desc) for desc in made.send(*left)] == frames
    worker.free(left)


def test_coalesce(make, worker):
    def stream(port_, start, count):
        return [
            bytes(
                E
                / IP(dst="10.0.0.2", flags="DF", id=i + 1)
                / TCP(sport=port_, dport=2, seq=start + 100 * i, flags="A")
                / bytes(100)
            )
            for i in range(count)
        ]

    made = make(coalesce="yes")
    one, two = stream(1000, 5, 6), stream(2000, 9, 3)
    mixed = [one[0], two[0], one[1], one[2], two[1], bytes(60), one[3], one[4], two[2], one[5]]
    left = made.receive(*map(worker.make, mixed))
    lengths = sorted(len(worker.packet(desc)) for desc in left)
    assert lengths == [60, 54 + 300, 54 + 600]
    assert made.software.counters() == {"software-rx-coalesced": 7}
    sent = made.send(*left)  # and cut again
    assert sorted(worker.packet(desc) for desc in sent) == sorted(mixed)
    worker.free(sent)


def test_hash(make, worker):
    """The verification suite of Microsoft's RSS: 66.9.149.187:2794 to 161.142.100.80:1766."""
    frame = bytes(E / IP(src="66.9.149.187", dst="161.142.100.80") / TCP(sport=2794, dport=1766))
    for rss, found in (("ipv4+tcp", 0x51CCC178), ("ipv4", 0x323E8FC2), ("ipv6", None)):
        made = make(rss=rss, rss_key=MICROSOFT_KEY.hex(), rss_hash="yes")
        (desc,) = made.receive(worker.make(frame))
        assert (worker.header(desc).rss_hash if desc & META else None) == found
        worker.free([desc])


def test_rss_is_configured_while_the_port_is_open(make, worker):
    """Key, fields and table, from the next packet on; what nobody can do changes nothing."""
    frame = bytes(E / IP(src="66.9.149.187", dst="161.142.100.80") / TCP(sport=2794, dport=1766))
    made = make(rss_hash="yes")
    other = bytes(range(40))
    made.port.software = made.software
    with Toeplitz(other) as hashed:
        told = hashed.hash_v4("66.9.149.187", "161.142.100.80", 2794, 1766)
    for rss, found in (
        (Rss(key=MICROSOFT_KEY), 0x51CCC178),
        (Rss(("ipv4",), MICROSOFT_KEY), 0x323E8FC2),
        (Rss(("ipv6",), MICROSOFT_KEY), None),
        (Rss(key=other), told),
        (None, 0x51CCC178),
    ):
        made.port.rss = rss
        assert made.port.rss == rss
        (desc,) = made.receive(worker.make(frame))
        assert (worker.header(desc).rss_hash if desc & META else None) == found
        worker.free([desc])
    with pytest.raises(PortError, match="rss_table leads to queue 1, and there are 1"):
        made.port.rss = Rss(("ipv4",), table=(0, 1))
    assert made.port.rss is None
    (desc,) = made.receive(worker.make(frame))
    assert worker.header(desc).rss_hash == 0x51CCC178
    worker.free([desc])


def test_the_device_makes_stages_needless(make):
    able = Offload.VLAN_STRIP | Offload.RX_HASH | Offload.RX_COALESCING
    made = make(able, vlan_strip="yes", rss_hash="yes", coalesce="yes", checksum="verify")
    assert [stage.name for stage in made.software.rx] == ["verify"]
    made = make(vlan_strip="yes", rss_hash="yes", coalesce="yes", checksum="verify", match="udp")
    assert [stage.name for stage in made.software.rx] == ["verify", "strip", "stamp_hash", "coalesce", "rules"]
