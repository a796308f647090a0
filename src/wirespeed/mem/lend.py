"""Lend a NumPy array's memory to a kernel, by address."""

import contextlib
from collections.abc import Iterator
from typing import Any

from numpy.typing import NDArray

from wirespeed.jit import register, unregister


@contextlib.contextmanager
def lent(array: NDArray[Any]) -> Iterator[int]:
    """The address of a contiguous array, which interpreted kernels may touch while this is open."""
    assert array.flags.c_contiguous, "a kernel sees the array's bytes one after the other"
    address = int(array.ctypes.data)
    if not array.nbytes:
        yield address
        return
    register(address, array.nbytes, "an array")
    try:
        yield address
    finally:
        unregister(address)
