"""Options that every port has beside its driver's own: rules, RSS, and what software does where the device does not.

::

    af_packet:eth0,match=udp/53|arp              receive that and nothing else
    tap:ws0,rules=drop:tcp/23;mark:7:udp,coalesce=yes
    af_packet:eth0,rss=ipv4+udp,rss_hash=yes

A driver that declares an option of such a name handles it by itself.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any

from wirespeed.errors import PortError
from wirespeed.ports.match import parse_matches
from wirespeed.ports.options import nearest, option, parse_options
from wirespeed.ports.rss import Rss, parse_rss
from wirespeed.ports.rules.rules import DROP, TAKE, Action
from wirespeed.ports.rules.text import parse_rules

CHECKSUMS: tuple[str, ...] = ("", "verify", "drop")


@dataclass(frozen=True)
class CommonOptions:
    """What any port can be told."""

    match: str = option("", "receive only what matches: udp/53, vlan/7&tcp, alternatives joined by |")
    rules: str = option("", "what becomes of which packets: drop:tcp/23;queue:1:udp;mark:7:arp;else:take")
    rss: str = option("", "fields that spread flows: ipv4+ipv6+tcp+udp, or symmetric")
    rss_key: str = option("", "the hash's key, in hexadecimal, 40 bytes")
    rss_table: str = option("", "queues that hashes lead to, such as 0+0+1")
    rss_hash: bool = option(False, "write each packet's hash in its header line (pkt.meta.rss_hash)")
    checksum: str = option(
        "", "transport checksums of received packets: verify (pkt.meta.checksum_state) or drop wrong ones"
    )
    vlan_strip: bool = option(False, "take the VLAN tag off into the header line (pkt.meta.vlan_tci)")
    coalesce: bool = option(False, "put TCP segments that come together into one packet")


@dataclass(frozen=True)
class Wishes:
    """The same, read and checked."""

    rules: tuple[tuple[str, Action], ...] = ()
    otherwise: Action = TAKE
    rss: Rss | None = None
    rss_hash: bool = False
    checksum: str = ""
    vlan_strip: bool = False
    coalesce: bool = False


def split(text: str, declared: Any) -> tuple[str, str]:
    """Part a port's options: the driver's, and those that are common to all."""
    own = {field.name for field in dataclasses.fields(declared)}
    common = {field.name for field in dataclasses.fields(CommonOptions)} - own
    theirs: list[str] = []
    ours: list[str] = []
    for part in text.split(",") if text else []:
        name, equals, _ = part.partition("=")
        (ours if equals and name in common else theirs).append(part)
    return ",".join(theirs), ",".join(ours)


def names(declared: Any) -> list[str]:
    """Every option's name, for suggestions."""
    fields = (*dataclasses.fields(declared), *dataclasses.fields(CommonOptions))
    return list(dict.fromkeys(field.name for field in fields))


def parse_common(spec: str, text: str) -> Wishes:
    """Read the common options.

    Raises:
        PortError: a value that is none; the message says which and what would be right.
    """
    given: CommonOptions = parse_options(spec, text, CommonOptions)
    if given.checksum not in CHECKSUMS:
        raise PortError(f"port {spec!r}: checksum={given.checksum!r}; {nearest(given.checksum, list(CHECKSUMS[1:]))}")
    if given.match and given.rules:
        raise PortError(f"port {spec!r}: match= is short for rules=take:...;else:drop: give one of them")
    rules, otherwise = parse_rules(spec, given.rules)
    if given.match:
        try:
            parse_matches(given.match)
        except PortError as error:
            raise PortError(f"port {spec!r}: {error}") from None
        rules, otherwise = [(given.match, TAKE)], DROP
    return Wishes(
        tuple(rules), otherwise, parse_rss(spec, given.rss, given.rss_key, given.rss_table), given.rss_hash,
        given.checksum, given.vlan_strip, given.coalesce,
    )  # fmt: skip


__all__ = ["CommonOptions", "Wishes", "names", "parse_common", "split"]
