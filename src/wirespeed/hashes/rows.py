"""What Python gives to hash: bytes, or an array with a key in each row; as addresses, which kernels want."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError


@dataclass(frozen=True)
class Rows:
    """Keys in memory: ``count`` of ``length`` bytes, ``stride`` bytes apart."""

    address: int
    count: int
    stride: int
    length: int
    array: NDArray[Any]  # kept alive


def rows(keys: Any) -> Rows:
    """The rows of an array: of numbers (each is a key) or of two dimensions (each row is one).

    Rows may be apart (``table[:, :13]``); the bytes of one must follow each other.

    Raises:
        TableError: not such an array.
    """
    array = np.asarray(keys)
    if array.dtype.hasobject or array.ndim not in (1, 2):
        raise TableError(
            f"keys are an array of numbers or of rows of bytes, not {array.ndim} dimensions of {array.dtype}"
        )
    if array.ndim == 2 and array.shape[1] > 1 and array.strides[1] != array.itemsize:
        array = np.ascontiguousarray(array)
    if array.ndim == 1 and array.size > 1 and array.strides[0] < 0:
        array = np.ascontiguousarray(array)
    length = array.itemsize * (array.shape[1] if array.ndim == 2 else 1)
    address = array.__array_interface__["data"][0]
    return Rows(address, len(array), array.strides[0] if len(array) > 1 else length, length, array)


def octets(data: Any) -> NDArray[np.uint8]:
    """Anything with a buffer (bytes, bytearray, memoryview, an array) as bytes, not copied.

    Raises:
        TableError: it has no buffer, or not one of bytes that follow each other.
    """
    try:
        view = memoryview(data).cast("B")
    except (TypeError, ValueError) as error:
        raise TableError(
            f"{type(data).__name__} cannot be hashed: give bytes, or what has a buffer ({error})"
        ) from None
    return np.frombuffer(view, dtype=np.uint8) if len(view) else np.zeros(0, dtype=np.uint8)


__all__ = ["Rows", "octets", "rows"]
