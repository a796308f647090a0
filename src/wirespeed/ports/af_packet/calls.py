"""The structures of a packet socket's two system calls, recvmsg(2) and sendmmsg(2).

References: recvmsg(2), sendmmsg(2), cmsg(3), packet(7); include/uapi/linux/if_packet.h.
"""

from wirespeed.jit import View, le16, le32, le64

DONT_WAIT, TRUNCATED = 0x40, 0x20
"""MSG_DONTWAIT, MSG_TRUNC."""
EAGAIN, ENXIO, ENODEV, ENETDOWN, ENOBUFS = 11, 6, 19, 100, 105

AUXILIARY_BYTES: int = 40
"""Room for the one control message."""

_SOL_PACKET, _AUXDATA = 263, 8


class Message(View):
    """struct msghdr, and behind it the ``msg_len`` that makes it a struct mmsghdr."""

    name = le64(0)
    name_size = le32(8)
    vector = le64(16, "address of the struct iovec array")
    vectors = le64(24, "entries of it")
    control = le64(32)
    control_size = le64(40, "room for control messages; after the call, bytes of them")
    flags = le32(48)
    moved = le32(56, "bytes sent, virtio-net header included")
    SIZE = 64


class Auxiliary(View):
    """The one control message a packet socket sends: struct cmsghdr, then struct tpacket_auxdata."""

    size = le64(0)
    level = le32(8)
    kind = le32(12)
    status = le32(16)
    tci = le16(32)
    tpid = le16(34)
    SIZE = AUXILIARY_BYTES

    @property
    def present(self) -> bool:
        """Whether this is it."""
        return self.size >= 36 and self.level == _SOL_PACKET and self.kind == _AUXDATA  # type: ignore[no-any-return]
