"""The last 64 bits of an address that a host makes itself: stable and opaque (RFC 7217), or from the MAC (RFC 4291).

RFC 8064 has hosts use the first: the MAC in an address tells who a host is wherever it goes. It needs a secret that
stays the same across restarts; where there is none, the second is used, for an address that changes with each start
is worse for a server.
"""

import hashlib
from ipaddress import IPv6Address, IPv6Network

from wirespeed.errors import ConfigError

SECRET_BYTES: int = 16
"""Of the secret, at least: RFC 7217 section 5 says 128 bits."""


class InterfaceId:
    """Makes the addresses of one interface.

    Args:
        mac: of the interface.
        secret: for opaque ones; empty: from the MAC.
        network: what names the network, such as an SSID; may be empty.

    Raises:
        ConfigError: the secret is too short.
    """

    def __init__(self, mac: int, secret: bytes = b"", network: str = "") -> None:
        if secret and len(secret) < SECRET_BYTES:
            raise ConfigError(f"the secret for addresses has {len(secret)} bytes, of {SECRET_BYTES} at least")
        self.opaque = bool(secret)
        self._mac = mac.to_bytes(6)
        self._secret = secret
        self._network = network.encode()

    def address(self, prefix: IPv6Network, collisions: int = 0) -> IPv6Address:
        """Our address in a prefix of 64 bits, after so many that were somebody else's."""
        number = self._opaque(prefix, collisions) if self.opaque else self._from_mac()
        return IPv6Address(int(prefix.network_address) | number)

    def _from_mac(self) -> int:
        """RFC 4291 appendix A: ff:fe in the middle, the universal bit inverted."""
        return int.from_bytes(self._mac[:3] + b"\xff\xfe" + self._mac[3:]) ^ 1 << 57

    def _opaque(self, prefix: IPv6Network, collisions: int) -> int:
        """RFC 7217 section 5: F(prefix, interface, network, collisions, secret), and again while it is reserved."""
        counter = collisions
        while True:
            parts = (prefix.network_address.packed[:8], self._mac, self._network, counter.to_bytes(4), self._secret)
            framed = b"".join(len(part).to_bytes(2) + part for part in parts)
            number = int.from_bytes(hashlib.sha256(framed).digest()[:8])
            if not reserved(number):
                return number
            counter += 1 << 16  # not the next collision's number


def reserved(number: int) -> bool:
    """Whether an interface identifier is taken for all (RFC 5453: anycast, and the range of proxies)."""
    return (
        number == 0
        or number >> 24 == 0x02005EFFFE
        or 0xFDFFFFFFFFFFFF80 <= number <= 0xFDFFFFFFFFFFFFFF
    )  # fmt: skip


__all__ = ["SECRET_BYTES", "InterfaceId", "reserved"]
