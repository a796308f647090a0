"""Moves of 32 bytes, 16-bit loads with order, and epoll_wait: compiled and as their Python twins."""

import os
import select

import numpy as np

from wirespeed.jit import copy32, kernel, lent, load_acquire16
from wirespeed.jit.libc import epoll_wait


@kernel
def _copy(to, source):  # type: ignore[no-untyped-def]
    copy32(to, source)


@kernel
def _load(address):  # type: ignore[no-untyped-def]
    return load_acquire16(address)


@kernel
def _wait(epoll, events):  # type: ignore[no-untyped-def]
    return epoll_wait(epoll, events, 2, 0)


def test_copy32() -> None:
    source, to = np.arange(1, 97, dtype=np.uint8), np.zeros(96, np.uint8)
    with lent(source, to) as (a, b):
        _copy(b + 3, a + 1)
    assert to.tobytes() == bytes(3) + source.tobytes()[1:33] + bytes(61)


def test_load_acquire16() -> None:
    words = np.array([0xFFFE, 1], np.uint16)
    with lent(words) as (at,):
        assert _load(at) == 0xFFFE
        assert _load(at + 2) == 1


def test_epoll_wait() -> None:
    events = np.zeros(24, np.uint8)
    bell = os.eventfd(0, os.EFD_NONBLOCK)
    with select.epoll() as epoll, lent(events) as (at,):
        epoll.register(bell, select.EPOLLIN | select.EPOLLET)
        assert _wait(epoll.fileno(), at) == 0
        os.eventfd_write(bell, 1)
        assert _wait(epoll.fileno(), at) == 1
        assert _wait(epoll.fileno(), at) == 0  # an edge, once
        assert _wait(-1, at) == -1
    os.close(bell)
