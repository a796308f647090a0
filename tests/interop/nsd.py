"""NSD on loopback with a zone of its own, and random zones and questions to ask it and us."""

import random
import shutil
import socket
import struct
import subprocess
from pathlib import Path

import dns.message
import dns.query

TYPES = (
    "A", "A", "A", "A", "AAAA", "AAAA", "CNAME", "MX", "TXT", "NS", "SOA", "SRV", "DS", "PTR", "TYPE65280", "TYPE65281",
    "MAILB", "ANY",
)  # fmt: skip
ALIASES = 24
"""Of the longest chain."""
_LAST = bytes.fromhex("ffff 0000 0001 0000 0000 0000 00 0001 0001")
LABELS = ("a", "b", "c", "d", "e", "f", "www", "mail", "ns", "x1", "x2", "*", "_tcp", "Mixed")

CONFIGURATION = """
server:
  ip-address: 127.0.0.1@{port}
  zonesdir: "{folder}"
  logfile: "{folder}/log"
  pidfile: "{folder}/pid"
  xfrdfile: "{folder}/xfrd"
  xfrdir: "{folder}"
  zonelistfile: "{folder}/list"
  database: ""
  username: ""
  chroot: ""
  server-count: 1
  minimal-responses: yes
  rrl-ratelimit: 0
  refuse-any: no
remote-control:
  control-enable: no
zone:
  name: {origin}
  zonefile: {zone}
"""


def free_port():
    """A port of loopback that nobody has, in UDP or TCP."""
    while True:
        with socket.socket(type=socket.SOCK_DGRAM) as udp, socket.socket() as tcp:
            udp.bind(("127.0.0.1", 0))
            try:
                tcp.bind(udp.getsockname())
            except OSError:
                continue
            return udp.getsockname()[1]


class Nsd:
    """NSD, running until :meth:`stop`."""

    def __init__(self, folder: Path, zone: Path, origin: str) -> None:
        self.port = free_port()
        self.folder = folder
        file = folder / "nsd.conf"
        file.write_text(CONFIGURATION.format(port=self.port, folder=folder, origin=origin, zone=zone))
        program = shutil.which("nsd") or "/usr/sbin/nsd"
        self.child = subprocess.Popen([program, "-d", "-c", str(file)], stderr=subprocess.PIPE)
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.connect(("127.0.0.1", self.port))
        self.socket.settimeout(0.2)

    def answers(self) -> bool:
        assert self.child.poll() is None, (self.folder / "log").read_text()
        try:
            self.ask(dns.message.make_query(".", "SOA").to_wire())
        except OSError:
            return False
        self.socket.settimeout(30)
        return True

    def ask(self, *questions: bytes) -> list[bytes]:
        """The replies to questions that are asked together, in their order; their numbers must differ."""
        for question in questions:
            self.socket.send(question)
        replies: dict[bytes, bytes] = {}
        wanted = [question[:2] for question in questions]
        while not replies.keys() >= set(wanted):
            reply = self.socket.recv(65535)
            replies[reply[:2]] = reply
        return [replies[each] for each in wanted]

    def ask_or_not(self, question: bytes) -> bytes | None:
        """The reply to a question that may get none: they are answered in order, and one that gets one follows."""
        self.socket.send(question)
        self.socket.send(_LAST)
        found = None
        while (reply := self.socket.recv(65535))[:2] != _LAST[:2]:
            found = reply
        return found

    def stop(self) -> None:
        self.socket.close()
        self.child.terminate()
        try:
            self.child.wait(30)
        finally:
            self.child.kill()
            self.child.stderr.close()


class World:
    """A random zone, and questions about it and its surroundings; the same for the same seed."""

    def __init__(self, seed: int, names: int, origin: str = "example.com.") -> None:
        self.random = random.Random(seed)
        self.origin = origin
        self.names = [origin]
        lines = [
            f"{origin} 3600 IN SOA ns1.{origin} host.{origin} 1 7200 900 1209600 {self.random.choice((60, 86400))}",
            f"{origin} 3600 IN NS ns1.{origin}", f"{origin} 3600 IN NS ns.elsewhere.net.",
            f"ns1.{origin} 3600 IN A 192.0.2.1", f"ns1.{origin} 3600 IN AAAA 2001:db8::1",
        ]  # fmt: skip
        taken = {origin.lower(), f"ns1.{origin}".lower()}
        while len(self.names) < names:
            name = self.name()
            if name.lower() not in taken:
                taken.add(name.lower())
                self.names.append(name)
                lines += self.records(name)
        for number in range(ALIASES):
            self.names.append(f"chain{number}.{origin}")
            lines.append(f"chain{number}.{origin} 60 IN CNAME chain{number + 1}.{origin}")
        lines.append(f"chain{ALIASES}.{origin} 60 IN A 192.0.2.77")
        self.text = "\n".join(lines) + "\n"

    def name(self) -> str:
        """A name below one that is there."""
        labels = [self.random.choice(LABELS) for _ in range(self.random.choice((1, 1, 1, 2, 3)))]
        if self.random.random() < 0.4:
            labels[0] = f"h{self.random.randrange(1000)}"
        return ".".join([*labels, self.random.choice(self.names[-50:] if self.random.random() < 0.5 else self.names)])

    def target(self) -> str:
        chance = self.random.random()
        if chance < 0.7:
            return self.random.choice(self.names)
        return self.name() if chance < 0.9 else f"x.elsewhere.{self.random.choice(('net.', 'org.'))}"

    def records(self, name: str) -> list[str]:
        """What a name has: an alias, a delegation, or up to four types."""
        chance, ttl = self.random.random(), self.random.choice((0, 60, 300, 3600))
        if chance < 0.15:
            return [f"{name} {ttl} IN CNAME {self.target()}"]
        star = "*" in name.split(".")
        if chance < 0.2 and not star:
            found = []
            for _ in range(self.random.choice((1, 2, 3))):
                server = f"ns{self.random.randrange(4)}.{name}" if self.random.random() < 0.6 else self.target()
                found.append(f"{name} {ttl} IN NS {server}")
                if server.endswith(f".{name}") and self.random.random() < 0.8:
                    found.append(f"{server} {ttl} IN A 192.0.2.{self.random.randrange(256)}")
            if self.random.random() < 0.3:
                found.append(f"{name} {ttl} IN DS 1 8 2 {'ab' * 32}")
            return found
        found = []
        for kind in self.random.sample(
            ("A", "AAAA", "MX", "TXT", "SRV", "PTR", "TYPE65280"), self.random.choice((1, 1, 2, 4))
        ):
            for _ in range(self.random.choice((1, 1, 1, 2, 5))):
                found.append(f"{name} {ttl} IN {kind} {self.data(kind)}")
        return found

    def data(self, kind: str) -> str:
        number = self.random.randrange(1 << 16)
        if kind == "A":
            return f"192.0.{number >> 8}.{number & 255}"
        if kind == "AAAA":
            return f"2001:db8::{number:x}"
        if kind == "TXT":
            return f'"{number} {"long " * self.random.choice((1, 1, 10, 48))}"'
        if kind == "TYPE65280":
            return f"\\# 3 {number & 255:02x}{number >> 8:02x}00"
        return {"MX": f"{number} ", "SRV": f"{number} 0 53 ", "PTR": ""}[kind] + self.target()

    def question(self, number: int) -> bytes:
        """A question in wire form."""
        chance = self.random.random()
        if chance < 0.5:
            name = self.random.choice(self.names)
        elif chance < 0.9:
            name = self.name()
        else:
            name = f"{self.random.choice(LABELS)}.{self.random.choice(('net.', 'example.net.', 'com.', 'ample.com.'))}"
        if self.random.random() < 0.2:
            name = name.swapcase()
        size = self.random.choice((None, None, 512, 600, 1232, 4096))
        kind = dns.rdatatype.from_text(self.random.choice(TYPES))
        recursion = 0 if self.random.random() < 0.3 else dns.flags.RD
        question = struct.pack(">6H", number & 0xFFFF, recursion, 1, 0, 0, int(size is not None))
        question += b"".join(bytes([len(label)]) + label.encode() for label in name.split("."))
        question += struct.pack(">2H", kind, dns.rdataclass.IN)
        if size is not None:
            secure = dns.flags.DO if self.random.random() < 0.2 else 0
            question += struct.pack(">B2HIH", 0, dns.rdatatype.OPT, size, secure, 0)
        return question

    def odd(self, number: int) -> tuple[str, bytes]:
        """A question with something that is seldom asked, or wrong; what it is."""
        question, chosen = bytearray(self.question(number)), self.random
        _, end = _name(bytes(question), 12)
        kind = chosen.choice(
            ("cut", "operation", "more", "counts", "label", "flags", "class", "transfer", "version", "option", "bytes")
        )
        if kind == "cut":
            del question[chosen.randrange(12, len(question)) :]
        elif kind == "operation":
            question[2] |= chosen.randrange(1, 16) << 3
        elif kind == "more":
            question += chosen.randbytes(chosen.randrange(1, 9))
        elif kind == "counts":
            question[chosen.choice((5, 7, 9, 11))] ^= chosen.choice((1, 1, 2, 3))
        elif kind == "label":
            question[12] = chosen.choice((0xC0, 0x40, 0x80, 0x3F))
        elif kind == "flags":
            question[2] |= chosen.choice((0, 2, 4, 6))
            question[3] |= chosen.choice((0x80, 0x40, 0x20, 0x10))
        elif kind == "class":
            question[end + 2 : end + 4] = struct.pack(">H", chosen.choice((0, 3, 4, 77, 254, 255)))
        elif kind == "transfer":
            question[end : end + 2] = struct.pack(">H", chosen.choice((251, 252)))
        elif kind == "bytes":
            question[chosen.randrange(4, len(question))] = chosen.randrange(256)
        else:
            version = chosen.choice((1, 255)) if kind == "version" else 0
            data = chosen.randbytes(chosen.randrange(12)) if kind == "option" else b""
            options = (
                struct.pack(">2H", chosen.choice((3, 8, 10, 65001)), len(data)) + data if kind == "option" else b""
            )
            if chosen.random() < 0.2:
                options = options[:-1]
            secure = chosen.choice((0, dns.flags.DO))
            opt = struct.pack(">B2H2BHH", 0, 41, 1232, 0, version, secure, len(options)) + options
            question[10:12] = struct.pack(">H", 1)
            question[end + 4 :] = opt
        return kind, bytes(question)


def with_room(question: bytes) -> bytes:
    """The same question, for a reply of up to 4096 bytes."""
    _, end = _name(question, 12)
    return question[:10] + struct.pack(">H", 1) + question[12 : end + 4] + struct.pack(">B2HIH", 0, 41, 4096, 0, 0)


def of_type(wire: bytes, kind: int) -> bytes:
    """A message whose question is for another type."""
    _, end = _name(wire, 12)
    return wire[:end] + struct.pack(">H", kind) + wire[end + 2 :]


def is_any(question: bytes) -> bool:
    """Whether a question is for any type."""
    _, end = _name(question, 12)
    return question[end : end + 2] == b"\0\xff"


def asked_for_any(ours: bytes) -> int:
    """The type of the records in the answer to a question for any: that of the first of them; 0 if there is none."""
    if ours[6:8] == b"\0\0":
        return 0
    _, end = _name(ours, _name(ours, 12)[1] + 4)
    return int.from_bytes(ours[end : end + 2])


def refused(reply: bytes) -> bool:
    """Whether a reply is an error without records; an OPT record does not count."""
    records = sum(struct.unpack_from(">3H", reply, 6))
    return reply[3] & 15 in (1, 4, 5) and records == (len(reply) > 12 and reply[11])


def same(ours: bytes, theirs: bytes) -> bool:
    """Whether two replies say the same: byte for byte, or without what may differ (:func:`normal`)."""
    return ours == theirs or plain(ours) == plain(theirs) or normal(ours) == normal(theirs)


_NAMES = {2: (0, 1, 0), 5: (0, 1, 0), 6: (0, 2, 20), 12: (0, 1, 0), 15: (2, 1, 0), 33: (6, 1, 0)}
"""Types with names in them (NS, CNAME, SOA, PTR, MX, SRV): bytes before, names, bytes behind."""


def plain(wire: bytes) -> object:
    """A reply's header, and its records without compression and letters' case, each section in order: a fast look at
    most of what :func:`normal` leaves."""
    counts = struct.unpack_from(">4H", wire, 4)
    at, sections = 12, []
    if counts[0]:
        at = _name(wire, at)[1] + 4
    for count in counts[1:]:
        found = []
        for _ in range(count):
            owner, at = _name(wire, at)
            kind, where, ttl, length = struct.unpack_from(">2HIH", wire, at)
            at += 10
            data = wire[at : at + length]
            if kind in _NAMES:
                before, names, _ = _NAMES[kind]
                parts, place = [wire[at : at + before]], at + before
                for _ in range(names):
                    name, place = _name(wire, place)
                    parts.append(name)
                data = b"".join([*parts, wire[place : at + length]])
            if kind == dns.rdatatype.OPT:
                data, where = b"", 0  # its options say more about the answer; its size is the server's
                if ttl >> 24:  # BADVERS: RFC 3225 section 3 has DO copied always, NSD does not copy it here
                    ttl &= ~dns.flags.DO
            found.append((owner, kind, where, ttl, data))
            at += length
        sections.append(sorted(found))
    return wire[:6], sections


def _name(wire: bytes, at: int) -> tuple[bytes, int]:
    """A name in small letters, and where it ends."""
    labels, behind = [], 0
    while (length := wire[at]) != 0:
        if length >= 0xC0:
            behind = behind or at + 2
            at = (length & 0x3F) << 8 | wire[at + 1]
            continue
        labels.append(wire[at : at + 1 + length].lower())
        at += 1 + length
    return b"".join(labels), behind or at + 1


def normal(wire: bytes) -> object:
    """A reply without what may differ: the order of records, compression, and letters' case in names; and the addresses
    that NSD adds to the NS records of a zone, which nobody needs who has them."""
    message = dns.message.from_wire(wire)
    sections = []
    if message.answer and message.answer[-1].rdtype == dns.rdatatype.NS:
        message.additional.clear()
    if message.flags & dns.flags.TC:  # with what fitted, or with nothing: who asked asks again
        message.answer.clear()
        message.authority.clear()
        message.additional.clear()
    for section in message.sections[1:]:
        sections.append(sorted(
            (rrset.name.canonicalize().to_wire(), rrset.rdtype, rrset.ttl, rdata.to_digestable())
            for rrset in section for rdata in rrset
        ))  # fmt: skip
    return (message.id, message.flags, message.rcode(), message.edns, message.ednsflags), message.question, sections
