"""Eventfds in which nobody may be made to wait."""

import os
import threading
from typing import Any

import pytest

from wirespeed.ports.bell import drain, free


@pytest.mark.parametrize("blocking", [False, True])
@pytest.mark.parametrize("value", [0, 1, (1 << 64) - 2])
def test_it_is_empty_afterwards(value: int, blocking: bool) -> None:
    bell = os.eventfd(value & 0xFFFF, os.EFD_NONBLOCK)
    if value > 0xFFFF:
        os.eventfd_write(bell, value - (value & 0xFFFF))
    os.set_blocking(bell, blocking)
    drain(bell)
    os.set_blocking(bell, False)
    with pytest.raises(BlockingIOError):
        os.eventfd_read(bell)
    os.close(bell)


def test_a_peer_that_makes_it_block_again_at_once(monkeypatch: Any) -> None:
    """As if it did so between our two calls; it is empty, so that a plain read would wait for ever."""
    bell = os.eventfd(0)
    monkeypatch.setattr(os, "set_blocking", lambda *_: None)
    free(bell)
    os.close(bell)


def test_who_hangs_in_it_goes_on() -> None:
    bell = os.eventfd(0)
    os.eventfd_write(bell, (1 << 64) - 2)
    ringing = threading.Thread(target=os.eventfd_write, args=(bell, 1), daemon=True)
    ringing.start()
    free(bell)
    while ringing.is_alive():  # it may have begun to wait only now
        ringing.join(0.01)
        free(bell)
    assert not os.get_blocking(bell)
    os.close(bell)


def test_one_that_is_closed() -> None:
    bell = os.eventfd(0)
    os.close(bell)
    free(bell)
