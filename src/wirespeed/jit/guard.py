"""Memory that somebody else can take away: a page that is gone becomes zeros, not the end of the process.

Memory mapped from a file that a stranger holds, too, may be truncated by him at any time; an access beyond the file's
new end is then a SIGBUS. Guarded memory survives it: the handler, compiled code that needs no interpreter, puts an
anonymous page in the place and the access goes on, with zeros. That it happened is counted (:func:`lost`), and who
guards memory looks there and lets go of it. A SIGBUS anywhere else is what it was before.

Interpreted there is no guard: the interpreter would be in the middle of itself.

References: sigaction(2), "SIGBUS", mmap(2); Wayland compositors do the same for their clients' shared memory.
"""

import ctypes
import signal
import threading
from typing import Any

import numba
from numba.core import types

from wirespeed.jit.decorators import COMPILED
from wirespeed.jit.libc import _call
from wirespeed.jit.memory import load64, store64

SLOTS: int = 256
"""Pieces of memory that can be guarded at a time."""

_SLOT = 32  # first byte, byte after the last (0: free), bytes of a page, pages lost
_ACTION_BYTES, _FLAGS_AT = 152, 136  # struct sigaction of the C library on x86-64
_SA_SIGINFO, _SA_ONSTACK = 0x4, 0x0800_0000
_FAULT_ADDRESS = 16  # siginfo_t.si_addr
_READ_WRITE, _PRIVATE_FIXED_ANONYMOUS = 0x3, 0x32

_table = ctypes.create_string_buffer(SLOTS * _SLOT + 64)
_TABLE: int = ctypes.addressof(_table)
_old = ctypes.create_string_buffer(_ACTION_BYTES)
_OLD: int = ctypes.addressof(_old)
_words: Any = (ctypes.c_int64 * (SLOTS * _SLOT // 8)).from_buffer(_table)
_changing = threading.Lock()
_handlers: list[Any] = []

_libc = ctypes.CDLL(None, use_errno=True)


@_call("mmap", 6)
def _mmap(address: int, size: int, protection: int, flags: int, fd: int, offset: int) -> int:
    raise NotImplementedError


@_call("sigaction", 3)
def _sigaction(number: int, action: int, old: int) -> int:
    raise NotImplementedError


def _handle(number, information, context):  # type: ignore[no-untyped-def]
    at = load64(information + _FAULT_ADDRESS)
    for slot in range(SLOTS):
        place = _TABLE + slot * _SLOT
        if load64(place) <= at and at < load64(place + 8):
            page = load64(place + 16)
            store64(place + 24, load64(place + 24) + 1)
            _mmap(at // page * page, page, _READ_WRITE, _PRIVATE_FIXED_ANONYMOUS, -1, 0)
            return
    _sigaction(number, _OLD, 0)  # not ours: the access happens again, and who was there before hears of it


def _install() -> None:
    handler = numba.cfunc(types.void(types.int64, types.int64, types.int64), error_model="numpy")(_handle)
    action = bytearray(_ACTION_BYTES)
    action[:8] = int(handler.address).to_bytes(8, "little")
    action[_FLAGS_AT : _FLAGS_AT + 4] = (_SA_SIGINFO | _SA_ONSTACK).to_bytes(4, "little")
    given = (ctypes.c_char * _ACTION_BYTES).from_buffer(action)
    if _libc.sigaction(int(signal.SIGBUS), ctypes.byref(given), ctypes.c_void_p(_OLD)):
        raise OSError(ctypes.get_errno(), "sigaction")
    _handlers.append(handler)


def prepare() -> None:
    """Compile the handler and set it up: a fifth of a second, better spent before packets come than with a first peer.

    :func:`guard` does it if nobody did; interpreted it does nothing.
    """
    if COMPILED:
        with _changing:
            if not _handlers:
                _install()


def guard(address: int, size: int, page: int) -> int:
    """Guard mapped memory in whole pages of ``page`` bytes; its slot, for :func:`lost` and :func:`unguard`.

    Returns -1 where it cannot be guarded: interpreted, or when SLOTS are.
    """
    if not COMPILED:
        return -1
    prepare()
    with _changing:
        free = [slot for slot in range(SLOTS) if not _words[slot * 4 + 1]]
        if not free:
            return -1
        at = free[0] * 4
        _words[at], _words[at + 2], _words[at + 3] = address, page, 0
        _words[at + 1] = address + size
        return free[0]


def lost(slot: int) -> int:
    """Pages that were found gone, and are zeros now."""
    return int(_words[slot * 4 + 3]) if slot >= 0 else 0


def unguard(slot: int) -> None:
    """Guard it no longer; before it is unmapped."""
    if slot >= 0:
        with _changing:
            _words[slot * 4 + 1] = 0


__all__ = ["SLOTS", "guard", "lost", "prepare", "unguard"]
