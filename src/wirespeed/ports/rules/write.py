"""A rule as workers read it: masks and values of seven words, two ranges (:mod:`wirespeed.ports.rules.path`)."""

from wirespeed.jit import store64
from wirespeed.ports.match import IPV4, IPV6, Match, Network
from wirespeed.ports.rules import path


def write_rule(address: int, match: Match, action: int, argument: int) -> None:
    """Write a rule as the workers read it."""
    masks, values = [0] * path.WORDS, [0] * path.WORDS
    masks[0] = 1 << 16  # there is an EtherType

    def ask(word: int, shift: int, bits: int, value: int) -> None:
        masks[word] |= ((1 << bits) - 1) << shift
        values[word] |= value << shift

    if match.ethertype is not None:
        ask(0, 0, 17, match.ethertype)
    if match.vlan is not None:
        ask(0, path.VLAN_SHIFT, 13, match.vlan)
    if match.protocol is not None:
        ask(0, path.PROTOCOL_SHIFT, 8, match.protocol)
    if match.wants_ip:
        ask(0, path.IP_SHIFT, 1, 1)
    for place, network in ((1, match.source), (3, match.destination)):
        if network is not None:
            ask(0, 0, 17, IPV4 if network.version == 4 else IPV6)
            for word, (mask, value) in enumerate(_halves(network)):
                masks[place + word], values[place + word] = mask, value
    for place, number in ((5, match.teid), (6, match.vni)):
        if number is not None:
            ask(place, 0, 41, number)
    if match.ethertype is not None and match.wants_ip and match.ethertype not in match.versions:
        ask(0, 0, 18, 1 << 17)  # never: no packet has that bit
    for word in range(path.WORDS):
        store64(address + 8 * word, _signed(masks[word]))
        store64(address + 56 + 8 * word, _signed(values[word]))
    record = path.RuleRecord(address)
    anything = (0, 0xFFFF) if match.wants_transport else (-1, 0xFFFF)
    record.sport_low, record.sport_high = match.sport or anything
    record.dport_low, record.dport_high = match.dport or anything
    record.action, record.argument = action, argument


def _halves(network: Network) -> tuple[tuple[int, int], tuple[int, int]]:
    """Mask and value of the high and the low half of an address."""
    mask, value = int(network.netmask), int(network.network_address)
    low = (1 << 64) - 1
    return (mask >> 64, value >> 64), (mask & low, value & low)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


__all__ = ["write_rule"]
