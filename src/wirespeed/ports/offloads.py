"""What a port does for its packets by itself, so that nobody need do it in software."""

import enum


class Offload(enum.Flag):
    """What an open port can do. A driver declares what its device, as found and opened, really does.

    The header line of a cell (:class:`wirespeed.mem.descriptor.CellHeader`) carries what is asked for and what was
    found: a checksum that is still to be summed, the size of segments, a tag taken off, a hash, a time.
    """

    NONE = 0
    RX_CHECKSUM = enum.auto()
    """Says which received packets have a transport checksum that was verified, or that is not summed yet."""
    TX_CHECKSUM = enum.auto()
    """Sums the transport checksum of a packet that needs one (NEEDS_CHECKSUM)."""
    TX_TCP_SEGMENTATION = enum.auto()
    """Takes a TCP super-packet and cuts it, or hands it on uncut to somebody who can use it."""
    TX_UDP_SEGMENTATION = enum.auto()
    """The same for UDP."""
    RX_COALESCING = enum.auto()
    """May deliver super-packets: segments of one stream put together."""
    VLAN_STRIP = enum.auto()
    """Takes VLAN tags off received packets and says them in the header line."""
    VLAN_INSERT = enum.auto()
    """Puts the tag in the header line into sent packets."""
    RX_HASH = enum.auto()
    """Delivers a hash of each packet's flow."""
    RX_TIMESTAMP = enum.auto()
    """Delivers the time of receipt."""
    MULTI_BUFFER = enum.auto()
    """Receives and sends packets over several cells: larger ones than a cell."""
    ZERO_COPY = enum.auto()
    """Packets stay in the cell that the device or peer wrote, or reads."""
    RSS = enum.auto()
    """Spreads flows over its queues by a configured hash."""
    FILTER = enum.auto()
    """Carries out rules on packets before they are received."""
    INTERRUPT = enum.auto()
    """Can rouse a worker that sleeps."""

    HANDED_ON = TX_CHECKSUM | TX_TCP_SEGMENTATION | TX_UDP_SEGMENTATION | VLAN_INSERT
    """Of a port that hands packets on within wirespeed, or frees them: nothing need be finished for it."""

    @property
    def names(self) -> list[str]:
        """As people write them: ``tx-checksum``."""
        return [each.name.lower().replace("_", "-") for each in self if each.name]
