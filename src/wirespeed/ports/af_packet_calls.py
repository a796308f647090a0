"""The two system calls of a packet socket's path, with their structures: recvmsg(2) and sendmmsg(2).

References: recvmsg(2), sendmmsg(2), cmsg(3), packet(7); include/uapi/linux/if_packet.h.
"""

from wirespeed.jit import View, le16, le32, le64

# libc declares a call in one line; these two have no other user, so their lines are here.
from wirespeed.jit.libc import _call, _narrow, _through_ctypes

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


@_call("recvmsg", 3)
def recvmsg(fd: int, message: int, flags: int) -> int:
    """recvmsg(2)."""
    return _through_ctypes("recvmsg", fd, message, flags)


@_narrow("sendmmsg", 4)
def sendmmsg(fd: int, messages: int, count: int, flags: int) -> int:
    """sendmmsg(2): how many were sent; -1 when the first could not be."""
    sent = _through_ctypes("sendmmsg", fd, messages, count, flags) & 0xFFFF_FFFF
    return sent - (1 << 32) if sent >> 31 else sent
