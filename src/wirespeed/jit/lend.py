"""Lend arrays to kernels by address."""

import contextlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.jit.decorators import COMPILED
from wirespeed.jit.memory import register, unregister


@contextlib.contextmanager
def lent(*arrays: NDArray[Any]) -> Iterator[list[int]]:
    """The addresses of arrays' first elements; while this is open the arrays stay, and interpreted kernels may touch
    them, as compiled ones always may."""
    bounds = []
    if not COMPILED:
        bounds = [np.lib.array_utils.byte_bounds(array) for array in arrays if array.nbytes]
    for low, high in bounds:
        register(low, high - low, "an array")
    try:
        yield [int(array.__array_interface__["data"][0]) for array in arrays]
    finally:
        for low, _ in bounds:
            unregister(low)
