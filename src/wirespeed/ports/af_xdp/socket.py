"""AF_XDP sockets as af_xdp needs them: packet memory registered, rings made and mapped, bound to a queue.

Python's socket module does not know the family's addresses, so bind(2) is called by itself. The first socket of an
interface registers the pool's cells as packet memory; the others share it (XDP_SHARED_UMEM) with fill and completion
rings of their own.

References: Documentation/networking/af_xdp.rst; include/uapi/linux/if_xdp.h; net/xdp/xsk.c (xsk_bind).
"""

import contextlib
import ctypes
import errno
import os
import socket
import struct
import time
from dataclasses import dataclass

from wirespeed.eal.mapping import map_file, unmap
from wirespeed.errors import PortError
from wirespeed.jit import register, unregister
from wirespeed.mem.descriptor import CELL
from wirespeed.mem.pool import Pool

_AF_XDP, _SOL_XDP = 44, 283
_OFFSETS, _RX, _TX, _UMEM, _FILL, _COMPLETION, _STATISTICS, _OPTIONS, _TX_BUDGET = range(1, 10)
_SHARED, _COPY, _ZERO_COPY, _NEED_WAKEUP, _SEGMENTS = 1, 2, 4, 8, 16  # sxdp_flags
_PREFER_BUSY_POLL, _BUSY_POLL, _BUSY_BUDGET = 69, 46, 70
_SO_SNDBUFFORCE = 32
_SEND_BYTES = 64 << 20
_RELEASE_S = 1.0  # a queue is free a moment after its socket was closed: the kernel's work queue does that
_PAGES = {_RX: 0, _TX: 0x8000_0000, _FILL: 0x1_0000_0000, _COMPLETION: 0x1_8000_0000}
_ORDER = (_RX, _TX, _FILL, _COMPLETION)  # as XDP_MMAP_OFFSETS has them
_ENTRY = {_RX: 16, _TX: 16, _FILL: 8, _COMPLETION: 8}
_PERMITTED = (
    "AF_XDP needs CAP_NET_ADMIN, CAP_NET_RAW and CAP_BPF: run with sudo, or once: sudo setcap "
    'cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep "$(readlink -f "$(which python3)")"'
)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Ring:
    """A mapped ring: addresses of its two indexes, of its flags and of its entries; ``size`` is a power of two."""

    producer: int
    consumer: int
    flags: int
    entries: int
    size: int
    mapping: int
    bytes: int


NO_RING = Ring(0, 0, 0, 0, 1, 0, 0)


@dataclass(frozen=True)
class Wish:
    """How a socket is to be made.

    Attributes:
        zero_copy: True, False, or None for as the driver can.
        segments: packets over several cells.
        needs_segments: those of the interface do not fit one.
        busy_us, busy_budget: busy polling: how long (0: none), and how many packets at once.
    """

    rx_size: int
    tx_size: int
    fill_size: int
    done_size: int
    zero_copy: bool | None
    segments: bool
    needs_segments: bool
    busy_us: int
    busy_budget: int


class Xsk:
    """One socket, bound to queue ``queue`` of interface ``index``.

    Attributes:
        rx, tx, fill, done: its rings; NO_RING for a direction that was not wanted.
        zero_copy, segments: what it really got.
        budget: packets the kernel sends in one call.
    """

    def __init__(self, spec: str, pool: Pool, index: int, queue: int, wish: Wish, first: "Xsk | None") -> None:
        self.spec, self.queue = spec, queue
        self.rx = self.tx = self.fill = self.done = NO_RING
        self.zero_copy = self.segments = False
        self.budget = 32
        self._mapped: list[Ring] = []
        try:
            self.socket = socket.socket(_AF_XDP, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
        except OSError as error:
            raise PortError(f"port {spec!r}: {_why_no_socket(error)}") from None
        try:
            self._make(pool, wish, first)
            self._bind(index, wish, first)
        except BaseException:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The socket's descriptor."""
        return self.socket.fileno()

    def _make(self, pool: Pool, wish: Wish, first: "Xsk | None") -> None:
        if first is None:
            self._register(pool)
        self._size(_FILL, wish.fill_size)
        self._size(_COMPLETION, wish.done_size)
        for name, size in ((_RX, wish.rx_size), (_TX, wish.tx_size)):
            if size:
                self._size(name, size)
        places = self.socket.getsockopt(_SOL_XDP, _OFFSETS, 128)
        self.fill = self._map(places, _FILL, wish.fill_size)
        self.done = self._map(places, _COMPLETION, wish.done_size)
        self.rx = self._map(places, _RX, wish.rx_size) if wish.rx_size else NO_RING
        self.tx = self._map(places, _TX, wish.tx_size) if wish.tx_size else NO_RING
        if wish.tx_size:
            with contextlib.suppress(OSError):  # without CAP_NET_ADMIN: as far as net.core.wmem_max goes
                self.socket.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, _SEND_BYTES)
            budget = min(256, wish.tx_size)
            with contextlib.suppress(OSError):  # Linux 6.17; 32 before
                self.socket.setsockopt(_SOL_XDP, _TX_BUDGET, budget)
                self.budget = budget
        if wish.busy_us and wish.rx_size:
            self._poll_busily(wish)

    def _register(self, pool: Pool) -> None:
        wanted = struct.pack("=QQIIII", pool.cells, pool.size * CELL, CELL, 0, 0, 0)
        try:
            self.socket.setsockopt(_SOL_XDP, _UMEM, wanted)
        except OSError as error:
            megabytes = pool.size * CELL >> 20
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                raise PortError(
                    f"port {self.spec!r}: {megabytes} MiB of packet memory cannot be locked: raise the limit "
                    "(ulimit -l), add CAP_IPC_LOCK, or take fewer cells"
                ) from None
            if error.errno == errno.EPERM:
                raise PortError(f"port {self.spec!r}: {_PERMITTED}") from None
            raise PortError(f"port {self.spec!r}: no packet memory of {megabytes} MiB: {error.strerror}") from None

    def _size(self, name: int, entries: int) -> None:
        try:
            self.socket.setsockopt(_SOL_XDP, name, entries)
        except OSError as error:
            raise PortError(f"port {self.spec!r}: no ring of {entries} entries: {error.strerror}") from None

    def _map(self, places: bytes, name: int, size: int) -> Ring:
        producer, consumer, entries, flags = struct.unpack_from("=4Q", places, _ORDER.index(name) * 32)
        length = entries + size * _ENTRY[name]
        at = map_file(self.fd, length, offset=_PAGES[name])
        register(at, length, "AF_XDP ring")
        ring = Ring(at + producer, at + consumer, at + flags, at + entries, size, at, length)
        self._mapped.append(ring)
        return ring

    def _poll_busily(self, wish: Wish) -> None:
        try:
            for name, value in (
                (_PREFER_BUSY_POLL, 1), (_BUSY_POLL, wish.busy_us), (_BUSY_BUDGET, wish.busy_budget),
            ):  # fmt: skip
                self.socket.setsockopt(socket.SOL_SOCKET, name, value)
        except OSError as error:
            raise PortError(
                f"port {self.spec!r}: no busy polling: {error.strerror}; it needs Linux 5.11 and CAP_NET_ADMIN"
            ) from None

    def _bind(self, index: int, wish: Wish, first: "Xsk | None") -> None:
        if first is not None:
            self._bind_as(_SHARED, index, first.fd)
            self.zero_copy, self.segments = first.zero_copy, first.segments
            return
        refused: OSError | None = None
        for copy, segments in _ways(wish):
            try:
                self._bind_as(_NEED_WAKEUP | copy | (_SEGMENTS if segments else 0), index, 0)
            except OSError as error:
                refused = error
                tried = copy == _ZERO_COPY and wish.zero_copy is None  # where copying will do, any reason is good
                if error.errno in (errno.EINVAL, errno.EOPNOTSUPP) or (
                    tried and error.errno not in (errno.EBUSY, errno.EPERM)
                ):
                    continue
                break
            self.segments = segments
            options = self.socket.getsockopt(_SOL_XDP, _OPTIONS, 4)
            self.zero_copy = bool(struct.unpack("=I", options)[0] & 1)
            return
        assert refused is not None
        raise PortError(f"port {self.spec!r}: {_why_not_bound(refused, self.queue, wish.zero_copy)}")

    def _bind_as(self, flags: int, index: int, shared: int) -> None:
        address = struct.pack("=HHIII", _AF_XDP, flags, index, self.queue, shared)
        until = time.monotonic() + _RELEASE_S
        while _libc.bind(self.fd, address, len(address)):
            code = ctypes.get_errno()
            if code != errno.EBUSY or time.monotonic() > until:
                raise OSError(code, os.strerror(code))
            time.sleep(0.005)

    def statistics(self) -> dict[str, int]:
        """What the kernel counted for it (struct xdp_statistics)."""
        names = (
            "rx_dropped", "rx_invalid_descs", "tx_invalid_descs", "rx_ring_full", "rx_fill_ring_empty",
            "tx_ring_empty",
        )  # fmt: skip
        return dict(zip(names, struct.unpack("=6Q", self.socket.getsockopt(_SOL_XDP, _STATISTICS, 48)), strict=True))

    def close(self) -> None:
        """Unmap the rings and close the socket; the kernel uses no cell any more when the last one is closed."""
        for ring in self._mapped:
            unregister(ring.mapping)
            unmap(ring.mapping, ring.bytes)
        self._mapped = []
        self.socket.close()


def _ways(wish: Wish) -> list[tuple[int, bool]]:
    """Copying or not, in segments or not: what to try, the best first.

    Not both left to the kernel: asked for segments, a driver that has none in zero-copy would copy without a word, also
    where every packet fits a cell (net/xdp/xsk_buff_pool.c, xp_assign_dev).
    """
    copies = {None: (_ZERO_COPY, _COPY), True: (_ZERO_COPY,), False: (_COPY,)}[wish.zero_copy]
    ways = [(copy, segments) for copy in copies for segments in ((True, False) if wish.segments else (False,))]
    if wish.zero_copy is None and wish.needs_segments:  # then copies in segments are better than nothing
        ways.remove((_ZERO_COPY, False))
    return ways


def _why_no_socket(error: OSError) -> str:
    if error.errno == errno.EPERM:
        return _PERMITTED
    if error.errno == errno.EAFNOSUPPORT:
        return "this kernel has no AF_XDP (CONFIG_XDP_SOCKETS, Linux 4.18): use af_packet"
    return f"no AF_XDP socket: {error.strerror}"


def _why_not_bound(error: OSError, queue: int, zero_copy: bool | None = None) -> str:
    if error.errno == errno.EBUSY:
        return f"queue {queue} is in use by another AF_XDP socket: choose other queues, or end that program"
    if error.errno == errno.EPERM:
        return _PERMITTED
    if zero_copy and error.errno in (errno.EOPNOTSUPP, errno.EINVAL):
        return "this interface's driver has no zero-copy: zero_copy=auto"
    return f"queue {queue} cannot be bound: {error.strerror}"


__all__ = ["NO_RING", "Ring", "Wish", "Xsk"]
