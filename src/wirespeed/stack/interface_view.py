"""An interface as workers read it: own addresses, groups and routes, in shared memory.

It is one of two halves; control code writes a change into the other one (:mod:`wirespeed.stack.interface`) and shows
it whole, by one store::

    0      offset of the half that counts, generation
    64     one half                  HALF bytes
    ...    the other one

    of a half:
    0      Ethernet address as it stands in a frame, and as an integer; VLAN; how many entries of each list
    64     the first IPv4 and IPv6 address, again: most packets are for these
    128    IPv4: own prefixes        16 x 16  network, mask         a /32 for an address, shorter for "all of these"
           broadcast and groups      64 x 8   address
           routes, longest first     16 x 32  network, mask, gateway (0: on the link), largest packet
           IPv6: own                 16 x 16  high, low
           groups                    64 x 16  high, low
           routes, longest first     16 x 56  network high, low, mask high, low, gateway high, low, largest packet

A host's lists are short, so they are searched from the front; what has many routes is a router. IPv4 addresses are
integers as header fields read them.
"""
# mypy: no-warn-return-any

from typing import Any

from wirespeed.jit import View, cold, inline, le64, load64, load_acquire

MAX_ADDRESSES: int = 16
"""Own addresses of each version."""
MAX_GROUPS: int = 64
"""Groups of each version, broadcast addresses among them."""
MAX_ROUTES: int = 16
"""Routes of each version, those of the own prefixes among them."""

NO_ROUTE: int = -1
NO_VLAN: int = -1

# The layout, for whoever writes it
HEAD = 64
OWN4 = 128
GROUPS4 = OWN4 + MAX_ADDRESSES * 16
ROUTES4 = GROUPS4 + MAX_GROUPS * 8
OWN6 = ROUTES4 + MAX_ROUTES * 32
GROUPS6 = OWN6 + MAX_ADDRESSES * 16
ROUTES6 = GROUPS6 + MAX_GROUPS * 16
ROUTE6 = 56
HALF = -(-(ROUTES6 + MAX_ROUTES * ROUTE6) // 64) * 64


class Half(View):
    """What counts now."""

    frame_mac = le64(0, "Ethernet address, its bytes as in a frame")
    mac = le64(8, "the same as an integer")
    vlan = le64(16, "tag that packets carry, NO_VLAN: none")
    own4 = le64(24, "entries of each list")
    groups4 = le64(32)
    routes4 = le64(40)
    own6 = le64(48)
    groups6 = le64(56)
    routes6 = le64(64)
    first4 = le64(72, "first own IPv4 prefix: network")
    mask4 = le64(80, "and mask; all ones with no network at all: never equal")
    address4 = le64(88, "the IPv4 address that we speak from if nothing says which; 0: none")
    high6 = le64(96, "first own IPv6 address")
    low6 = le64(104)
    untagged_mac = le64(112, "frame_mac if packets carry no tag, else a number that no address is")
    mtu = le64(120, "of the link, in bytes")
    SIZE = HALF


@cold
def _owns4(half: Any, address: int) -> int:
    for i in range(half.own4):
        at = half.address + OWN4 + i * 16
        if address & load64(at + 8) == load64(at):
            return 1
    return 0


@cold
def _owns6(half: Any, high: int, low: int) -> int:
    for i in range(half.own6):
        at = half.address + OWN6 + i * 16
        if high == load64(at) and low == load64(at + 8):
            return 1
    return 0


@cold
def _in_group4(half: Any, address: int) -> int:
    for i in range(half.groups4):
        if load64(half.address + GROUPS4 + i * 8) == address:
            return 1
    return 0


@cold
def _in_group6(half: Any, high: int, low: int) -> int:
    for i in range(half.groups6):
        at = half.address + GROUPS6 + i * 16
        if load64(at) == high and load64(at + 8) == low:
            return 1
    return 0


@inline
def _route4(half: Any, address: int) -> int:
    """The gateway, or the address itself where it is on the link; NO_ROUTE."""
    at = half.address + ROUTES4
    for _ in range(half.routes4):
        if address & load64(at + 8) == load64(at):
            gateway = load64(at + 16)
            return gateway if gateway != 0 else address
        at += 32
    return NO_ROUTE


@inline
def _route6(half: Any, high: int, low: int) -> tuple[int, int]:
    """The same, as a pair; (0, 0): no route."""
    at = half.address + ROUTES6
    for _ in range(half.routes6):
        if high & load64(at + 16) == load64(at) and low & load64(at + 24) == load64(at + 8):
            gateway_high, gateway_low = load64(at + 32), load64(at + 40)
            on_link = gateway_high | gateway_low == 0
            return (high if on_link else gateway_high), (low if on_link else gateway_low)
        at += ROUTE6
    return 0, 0


@cold
def _mtu4(half: Any, address: int) -> int:
    """The largest packet on the way to an address, as far as routes say."""
    at = half.address + ROUTES4
    for _ in range(half.routes4):
        if address & load64(at + 8) == load64(at):
            said = load64(at + 24)
            return min(said, half.mtu) if said != 0 else half.mtu
        at += 32
    return half.mtu


@cold
def _mtu6(half: Any, high: int, low: int) -> int:
    at = half.address + ROUTES6
    for _ in range(half.routes6):
        if high & load64(at + 16) == load64(at) and low & load64(at + 24) == load64(at + 8):
            said = load64(at + 48)
            return min(said, half.mtu) if said != 0 else half.mtu
        at += ROUTE6
    return half.mtu


class InterfaceView(View):
    """The interface as nodes see it."""

    half = le64(0, "offset of the half that counts")
    generation = le64(8, "how often it was changed")
    SIZE = HEAD + 2 * HALF

    def _now(self) -> Half:
        return Half(self.address + load_acquire(self.address))

    @property
    def mac(self) -> int:
        """Our Ethernet address, as an integer."""
        return self._now().mac

    @property
    def frame_mac(self) -> int:
        """Our Ethernet address, its bytes as they stand in a frame."""
        return self._now().frame_mac

    @property
    def vlan(self) -> int:
        """The tag that packets carry; NO_VLAN: none."""
        return self._now().vlan

    @property
    def address4(self) -> int:
        """The IPv4 address that we speak from when nothing else says which."""
        return self._now().address4

    @property
    def address6(self) -> tuple[int, int]:
        """The same for IPv6, as a pair; (0, 0): none."""
        now = self._now()
        return now.high6, now.low6

    @property
    def untagged_mac(self) -> int:
        """``frame_mac`` if packets carry no tag, else a number that no Ethernet address is."""
        return self._now().untagged_mac

    def is_first4(self, address: int) -> int:
        """Whether an IPv4 address is our first one, or of its prefix: most often no need to look further."""
        now = self._now()
        return 1 if address & now.mask4 == now.first4 else 0

    def owns4(self, address: int) -> int:
        """Whether an IPv4 address is ours alone."""
        now = self._now()
        if address & now.mask4 == now.first4:
            return 1
        return _owns4(now, address) if now.own4 > 1 else 0

    def owns6(self, high: int, low: int) -> int:
        """Whether an IPv6 address is ours alone."""
        now = self._now()
        if high == now.high6 and low == now.low6:
            return now.own6 != 0
        return _owns6(now, high, low) if now.own6 > 1 else 0

    def in_group4(self, address: int) -> int:
        """Whether it is a broadcast address of ours, or a group that we have joined."""
        return _in_group4(self._now(), address)

    def in_group6(self, high: int, low: int) -> int:
        """Whether we have joined that group."""
        return _in_group6(self._now(), high, low)

    def route4(self, address: int) -> int:
        """Which neighbour a packet to that address goes to; NO_ROUTE: none."""
        return _route4(self._now(), address)

    def route6(self, high: int, low: int) -> tuple[int, int]:
        """The same for IPv6, as a pair; (0, 0): none."""
        return _route6(self._now(), high, low)

    def mtu4(self, address: int) -> int:
        """Bytes of the largest packet to that address, as far as the link and routes say."""
        return _mtu4(self._now(), address)

    def mtu6(self, high: int, low: int) -> int:
        """The same for IPv6."""
        return _mtu6(self._now(), high, low)
