"""ICMP errors: those we send, and what we make of those that others send (RFC 1122 section 3.2.2, RFC 4443).

We send one about a packet to one address of ours, from one host, that is no error itself and no later fragment; so
many a second at most. Never to who asked a group, or by link broadcast.

Of what we hear, "too big" lowers the path's MTU (:mod:`wirespeed.stack.path_mtu`), the others are counted by kind: a
datagram has no connection that could be ended. Errors are not signed, so one counts only if what it quotes is a packet
that we can have sent: from an address of ours, from a UDP port that somebody here has, or an echo reply (RFC 5927
section 4). Redirects are counted and ignored: whoever can send one could take our traffic away, and with one gateway
there is nothing to gain.
"""

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

from wirespeed.stack import frames, frames6
from wirespeed.stack.bucket import Bucket
from wirespeed.stack.frames import Ipv4Packet
from wirespeed.stack.frames6 import Ipv6Packet
from wirespeed.wire.icmp import (
    ICMP6_ECHO_REPLY,
    ICMP6_PARAMETER_PROBLEM,
    ICMP6_TIME_EXCEEDED,
    ICMP6_TOO_BIG,
    ICMP6_UNREACHABLE,
    ICMP_ECHO_REPLY,
    ICMP_PARAMETER_PROBLEM,
    ICMP_REDIRECT,
    ICMP_TIME_EXCEEDED,
    ICMP_UNREACHABLE,
    ICMP_UNREACHABLE_TOO_BIG,
)
from wirespeed.wire.ipv4 import IPV4_FRAGMENT_OFFSET, PROTOCOL_FRAGMENT, PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_UDP

if TYPE_CHECKING:
    from wirespeed.stack.host import Host

_FOUR = {
    ICMP_UNREACHABLE: "unreachable", ICMP_TIME_EXCEEDED: "time-exceeded", ICMP_PARAMETER_PROBLEM: "parameter-problem",
    ICMP_REDIRECT: "redirect",
}  # fmt: skip
_SIX = {
    ICMP6_UNREACHABLE: "unreachable", ICMP6_TOO_BIG: "too-big", ICMP6_TIME_EXCEEDED: "time-exceeded",
    ICMP6_PARAMETER_PROBLEM: "parameter-problem",
}  # fmt: skip
_INFORMATION6 = b"\x80"  # RFC 4443 section 2.1: types from here on are no errors
_UNKNOWN_OPTION = 2  # of ICMP6_PARAMETER_PROBLEM
_ASKING = (b"\x08", b"\x0d", b"\x0f", b"\x11")  # echo, timestamp, information, mask: ICMP that is no error


class IcmpErrors:
    """Those of one host.

    Args:
        host: whose voice it is.
        per_second: errors sent of both versions together; at most 50 at once.

    Attributes:
        ours: whether somebody here has a UDP port; every port unless set.
        heard: errors that counted, by kind; and ``ignored``, those that did not.
    """

    def __init__(self, host: "Host", per_second: int) -> None:
        self.host = host
        self.bucket = Bucket(per_second, min(50, per_second))
        self.ours: Callable[[int], bool] = lambda port: True
        self.heard: Counter[str] = Counter()

    # What we tell -----------------------------------------------------------------------------------------------

    def tell4(self, about: Ipv4Packet, frame: bytes, kind: int, code: int, rest: int = 0) -> None:
        """Send an error about a packet, if it is one that may be answered so (RFC 1122 section 3.2.2)."""
        host = self.host
        to_group = frame[0] & 1 or not host.interface.owns4(about.destination)
        from_group = host.interface.in_group4(about.source) or about.source >> 28 >= 14 or not about.source
        error = about.protocol == PROTOCOL_ICMP and about.payload[:1] not in _ASKING
        later = about.flags & IPV4_FRAGMENT_OFFSET
        if to_group or from_group or later or error or not self.bucket.take(host.now_s):
            host.stats.ignored += 1
            return
        host.stats.icmp_errors += 1
        made = frames.parse_ipv4(frames.icmp_error(about.destination, kind, code, rest, about))
        assert made is not None
        host.output4(made)

    def tell6(self, about: Ipv6Packet, frame: bytes, kind: int, code: int, rest: int) -> None:
        """The same (RFC 4443 section 2.4 (e)); an unknown option is told also if it came by a group."""
        host = self.host
        asked_all = kind == ICMP6_PARAMETER_PROBLEM and code == _UNKNOWN_OPTION
        protocol, message, _ = frames6.upper_layer(about)
        error = protocol == PROTOCOL_ICMP6 and message[:1] < _INFORMATION6
        to_group = about.destination >> 120 == 0xFF
        from_none = not about.source or about.source >> 120 == 0xFF
        if kind < 0 or error or from_none or (to_group and not asked_all) or not self.bucket.take(host.now_s):
            host.stats.ignored += 1
            return
        host.stats.icmp_errors += 1
        own = host.source6(about.source) if to_group else about.destination
        made = frames6.parse_ipv6(frames6.icmp6_error(own, kind, code, rest, about))
        assert made is not None
        host.output6(made)

    # What we are told -------------------------------------------------------------------------------------------

    def heard4(self, packet: Ipv4Packet, now_s: float) -> None:
        """An ICMP message that is no echo request to us."""
        body = packet.payload
        kind = _FOUR.get(body[0]) if len(body) >= 8 + 20 + 8 and frames.checksum(body) == 0 else None
        if kind is None or kind == "redirect" or not self._sent4(body[8:]):
            self.heard["redirect" if kind == "redirect" else "ignored"] += 1
            return
        self.heard[kind] += 1
        if body[0] == ICMP_UNREACHABLE and body[1] == ICMP_UNREACHABLE_TOO_BIG:
            length, to = int.from_bytes(body[10:12]), int.from_bytes(body[24:28])
            self.host.links.mtus.lower(to, 4, int.from_bytes(body[6:8]), length, now_s)

    def _sent4(self, quoted: bytes) -> bool:
        """Whether we can have sent a packet that begins so."""
        header = (quoted[0] & 15) * 4
        if quoted[0] >> 4 != 4 or not 20 <= header <= len(quoted) - 8:
            return False
        if not self.host.interface.owns4(int.from_bytes(quoted[12:16])):
            return False
        if int.from_bytes(quoted[6:8]) & IPV4_FRAGMENT_OFFSET:
            return False  # which port it was of cannot be seen
        return self._speaks(quoted[9], quoted[header:], ICMP_ECHO_REPLY)

    def heard6(self, packet: Ipv6Packet, now_s: float) -> None:
        """An ICMPv6 message that is neither an echo request to us nor the link's."""
        protocol, body, _ = frames6.upper_layer(packet)
        sound = protocol == PROTOCOL_ICMP6 and len(body) >= 8 + 40 + 8 and body[8] >> 4 == 6
        sound = sound and frames6.pseudo_checksum(packet.source, packet.destination, PROTOCOL_ICMP6, body) == 0
        kind = _SIX.get(body[0]) if sound else None
        if kind is None or not self._sent6(body[8:]):
            self.heard["ignored"] += 1
            return
        self.heard[kind] += 1
        if body[0] == ICMP6_TOO_BIG:
            length, to = int.from_bytes(body[12:14]) + 40, int.from_bytes(body[32:48])
            self.host.links.mtus.lower(to, 6, int.from_bytes(body[4:8]), length, now_s)

    def _sent6(self, quoted: bytes) -> bool:
        if not self.host.owns6(int.from_bytes(quoted[8:24])):
            return False
        protocol, behind = quoted[6], quoted[40:]
        if protocol == PROTOCOL_FRAGMENT:
            if len(behind) < 16 or int.from_bytes(behind[2:4]) >> 3:
                return False
            protocol, behind = behind[0], behind[8:]
        return self._speaks(protocol, behind, ICMP6_ECHO_REPLY)

    def _speaks(self, protocol: int, behind: bytes, echo_reply: int) -> bool:
        if protocol == PROTOCOL_UDP:
            return self.ours(int.from_bytes(behind[:2]))
        return protocol in (PROTOCOL_ICMP, PROTOCOL_ICMP6) and behind[:1] == bytes((echo_reply,))


__all__ = ["IcmpErrors"]
