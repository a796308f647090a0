"""UDP echo servers on the kernel's sockets, to be measured beside: ``python -m ... KIND ADDRESS PORT``.

============  ==========================================================================================
``mmsg``      as C would have it: recvmmsg and sendmmsg of 64 datagrams, in compiled code; sleeps when idle
``busy``      the same, polled without end, with SO_BUSY_POLL
``asyncio``   a DatagramProtocol
``uvloop``    the same protocol in uvloop's event loop (libuv)
============  ==========================================================================================

Prints ``ready`` and serves until it is ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys
from importlib import import_module
from typing import Any

from wirespeed.bench.errors import BenchError
from wirespeed.jit import kernel, store32, store64
from wirespeed.jit.libc import sendmmsg, syscall
from wirespeed.jit.memory import load32
from wirespeed.mem.region import Region

KINDS: tuple[str, ...] = ("mmsg", "busy", "asyncio", "uvloop")

_RECVMMSG = 299  # x86-64
_WAIT_FOR_ONE, _DONT_WAIT = 0x10000, 0x40
_BURST, _HEADER, _VECTOR, _NAME, _DATA = 64, 64, 16, 16, 2048
_VECTORS = _BURST * _HEADER
_NAMES = _VECTORS + _BURST * _VECTOR
_BUFFERS = _NAMES + _BURST * _NAME
_SO_BUSY_POLL, _BUSY_US = 46, 50


@kernel
def _serve(fd, memory, flags):  # type: ignore[no-untyped-def]
    """struct mmsghdr[64], struct iovec[64], struct sockaddr_in[64], 64 buffers: filled, sent back, for ever."""
    while True:
        got = syscall(_RECVMMSG, fd, memory, _BURST, flags, 0, 0)
        for i in range(got):
            store64(memory + _VECTORS + i * _VECTOR + 8, load32(memory + i * _HEADER + 56))
        sent = 0
        while sent < got:
            done = sendmmsg(fd, memory + sent * _HEADER, got - sent, 0)
            sent += max(done, 1)
        for i in range(got):
            store64(memory + _VECTORS + i * _VECTOR + 8, _DATA)
            store32(memory + i * _HEADER + 8, _NAME)


def _serve_in_bursts(made: socket.socket, flags: int) -> None:
    with Region(_BUFFERS + _BURST * _DATA, "wirespeed-mmsg", huge=False) as memory:
        base = memory.address
        for i in range(_BURST):
            header, vector = base + i * _HEADER, base + _VECTORS + i * _VECTOR
            store64(header, base + _NAMES + i * _NAME)
            store32(header + 8, _NAME)
            store64(header + 16, vector)
            store64(header + 24, 1)
            store64(vector, base + _BUFFERS + i * _DATA)
            store64(vector + 8, _DATA)
        print("ready", flush=True)
        _serve(made.fileno(), base, flags)


class _Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(data, addr)


async def _serve_in_loop(made: socket.socket) -> None:
    made.setblocking(False)
    await asyncio.get_running_loop().create_datagram_endpoint(_Echo, sock=made)
    print("ready", flush=True)
    await asyncio.Event().wait()


def main(kind: str, address: str, port: int) -> None:
    """Serve."""
    if kind not in KINDS:
        raise BenchError(f"no kernel echo is called {kind!r}: {', '.join(KINDS)}")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((address, port))
        if kind == "busy":
            made.setsockopt(socket.SOL_SOCKET, _SO_BUSY_POLL, _BUSY_US)
        if kind in ("mmsg", "busy"):
            _serve_in_bursts(made, _WAIT_FOR_ONE if kind == "mmsg" else _DONT_WAIT)
        elif kind == "asyncio":
            asyncio.run(_serve_in_loop(made))
        else:
            import_module("uvloop").run(_serve_in_loop(made))


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
