"""What a DHCPv4 client says: which options go into which message, RFC 2131 section 4.4.1, table 5."""

from ipaddress import IPv4Address

from wirespeed.errors import ConfigError
from wirespeed.stack.lease import Lease
from wirespeed.wire.dhcp4 import DhcpMessage, DhcpOption, DhcpType

PARAMETERS: bytes = bytes(
    (
        DhcpOption.MASK, DhcpOption.ROUTES, DhcpOption.ROUTERS, DhcpOption.DNS, DhcpOption.DOMAIN, DhcpOption.MTU,
        DhcpOption.NTP, DhcpOption.T1_S, DhcpOption.T2_S,
    )
)  # fmt: skip
"""What a server is asked for; option 121 before 3 (RFC 3442)."""
MESSAGE_MAX: int = 1500
"""The longest answer taken, with its IP and UDP headers (RFC 2132 section 9.10)."""


class Dhcp4Asker:
    """The messages of one client.

    Args:
        mac: Ethernet address of the interface; it is the client identifier as well (RFC 2132 section 9.14).
        name: the host's name, told to the server; empty: not told.
    """

    def __init__(self, mac: int, name: str = "") -> None:
        if not name.isascii() or len(name) > 63 or not name.isprintable():
            raise ConfigError(f"host name {name!r}: at most 63 letters, digits and hyphens (RFC 1123 section 2.1)")
        self.mac = mac
        self.client_id = b"\1" + mac.to_bytes(6)
        self._wishes: dict[int, bytes] = {DhcpOption.SIZE_MAX: MESSAGE_MAX.to_bytes(2)}
        self._wishes[DhcpOption.PARAMETERS] = PARAMETERS
        if name:
            self._wishes[DhcpOption.HOST_NAME] = name.encode()

    def question(
        self, kind: DhcpType, xid: int, secs: int, broadcast: bool, own: IPv4Address, more: dict[int, bytes]
    ) -> DhcpMessage:
        """DISCOVER or REQUEST; ``own`` is the address in use, 0.0.0.0 for none."""
        return DhcpMessage(1, xid, self.mac, secs, broadcast, own, options=self._options(kind, more | self._wishes))

    def decline(self, xid: int, lease: Lease) -> DhcpMessage:
        """Somebody else has that address."""
        more: dict[int, bytes] = {DhcpOption.REQUESTED: lease.address.ip.packed}
        more[DhcpOption.SERVER] = lease.server.packed
        return DhcpMessage(1, xid, self.mac, options=self._options(DhcpType.DECLINE, more))

    def release(self, xid: int, lease: Lease) -> DhcpMessage:
        """We need that address no more."""
        options = self._options(DhcpType.RELEASE, {DhcpOption.SERVER: lease.server.packed})
        return DhcpMessage(1, xid, self.mac, client=lease.address.ip, options=options)

    def _options(self, kind: DhcpType, more: dict[int, bytes]) -> dict[int, bytes]:
        return {DhcpOption.TYPE: bytes((kind,)), DhcpOption.CLIENT: self.client_id} | more


__all__ = ["MESSAGE_MAX", "PARAMETERS", "Dhcp4Asker"]
