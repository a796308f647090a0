"""What the sketches share: keys, their digests under a secret seed, and what Python gives and gets in bulk.

A sketch answers questions about a stream approximately, in memory that does not grow with it. Keys are 64-bit
integers, or rows of 1 to 64 bytes when it was made with ``key_bytes``. Each begins with the same record:

    offset  bytes  what
    0       8      bytes of a key, 0 for integers
    8       120    15 secret words
    128     128    what the sketch itself keeps there
    256            its data

A digest is 64 bits from products of 128: each pair of words of the key, masked with two secret words, is multiplied
and the halves of the product are added ("mum", as in wyhash), and so is the sum of it all once more. With secret
words nobody outside can choose keys that collide; with a ``seed`` of one's own, runs can be repeated.

Adding from several workers: where each worker has a copy of its own (``workers=``), reading sums them up.
"""

import hashlib
import secrets
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import TableError
from wirespeed.hashes.rows import rows
from wirespeed.jit import (
    View,
    add,
    inline,
    kernel,
    le64,
    lent,
    load8,
    load16,
    load32,
    load64,
    multiply,
    multiply_high,
    signed64,
    store64,
)
from wirespeed.mem.shared import Shared

DATA: int = 256
"""Offset of a sketch's data."""
MAX_KEY_BYTES: int = 64
_SECRETS = 15


@inline
def mum(a: int, b: int) -> int:
    """Both halves of the product, added."""
    return add(multiply(a, b), multiply_high(a, b))


class SketchView(View):
    """The record that each sketch begins with."""

    key_bytes = le64(0, "bytes of a key; 0: integers")
    secret0 = le64(8)
    secret1 = le64(16)
    secret2 = le64(24)
    SIZE = DATA

    def digest(self, key: int) -> int:
        """64 bits of an integer key."""
        return mum(mum(key ^ self.secret0, self.secret1) ^ key, self.secret2)

    def digest_at(self, address: int) -> int:
        """64 bits of the key of ``key_bytes`` bytes at an address."""
        length = self.key_bytes
        secret = self.address + 32
        total = length
        for _ in range(length >> 4):
            total = add(total, mum(load64(address) ^ load64(secret), load64(address + 8) ^ load64(secret + 8)))
            address += 16
            secret += 16
        word = 0
        last = 0
        if length & 8:
            word = load64(address)
            address += 8
        if length & 4:
            last = load32(address)
            address += 4
        if length & 2:
            last |= load16(address) << 32
            address += 2
        if length & 1:
            last |= load8(address) << 48
        total = add(total, mum(word ^ load64(secret), last ^ load64(secret + 8)))
        return mum(total ^ self.secret0, self.secret1)

    def digest_row(self, address: int) -> int:
        """The digest of a key in an array, whichever kind it is."""
        return self.digest_at(address) if self.key_bytes else self.digest(load64(address))


@kernel
def _digest_at(sketch: int, address: int) -> int:
    return SketchView(sketch).digest_at(address)


class Sketch(Shared):
    """Base of the sketches: keys from Python.

    Attributes:
        key_bytes: bytes of a key; 0 when keys are integers.
        seed: what digests were seeded with; None for a secret seed.
    """

    View: ClassVar[type[SketchView]]

    def _begin(
        self, name: str | None, block_bytes: int, workers: int, key_bytes: int, seed: int | None, **more: Any
    ) -> None:
        """Get the memory of ``workers`` blocks of ``block_bytes`` and fill in what their records share."""
        if not 0 <= key_bytes <= MAX_KEY_BYTES:
            raise TableError(
                f"{name or self.KIND}: keys of {key_bytes} bytes are not possible: 1 to {MAX_KEY_BYTES}, or 0 for "
                "integers"
            )
        if workers < 1:
            raise TableError(f"{name or self.KIND}: {workers} workers cannot add: 1 or more")
        if seed is None:
            noise = secrets.token_bytes(8 * _SECRETS)
        else:
            noise = hashlib.shake_128(f"wirespeed sketch {seed}".encode()).digest(8 * _SECRETS)
        stride = -(-(DATA + block_bytes) // 128) * 128
        self._create(stride * workers, name, workers=workers, stride=stride, key_bytes=key_bytes, seed=seed, **more)
        for worker in range(workers):
            block = self.address + worker * stride
            SketchView(block).key_bytes = key_bytes
            for at in range(0, 8 * _SECRETS, 8):
                # odd: no factor of a product is ever zero for all keys
                store64(block + 8 + at, signed64(int.from_bytes(noise[at : at + 8], "little") | 1))

    def _attached(self) -> None:
        self.workers, self.key_bytes = self.parameters["workers"], self.parameters["key_bytes"]
        self.seed, self._stride = self.parameters["seed"], self.parameters["stride"]
        self._blocks: list[Any] = [self.View(self.address + worker * self._stride) for worker in range(self.workers)]

    @property
    def stride(self) -> int:
        """Bytes from one worker's copy to the next; 0 when all share one."""
        return self._stride if self.workers > 1 else 0

    def prepare(self, workers: int) -> None:
        """The engine's question before a start: can so many workers add here?

        Raises:
            TableError: it was made for fewer.
        """
        if workers > self.workers:
            raise TableError(
                f"{self.name} adds for {self.workers} of {workers} workers: make it with workers={workers}"
            )

    def _digest(self, key: "int | bytes") -> int:
        """The digest of one key given by Python. Raises TableError: another kind or length."""
        view = self._blocks[0]
        if self.key_bytes == 0:
            if isinstance(key, (bytes, bytearray, memoryview)):
                raise TableError(f"{self.name}: keys are integers here, not bytes: make it with key_bytes={len(key)}")
            number = int(key)
            if not -(1 << 63) <= number < 1 << 64:
                raise TableError(f"{self.name}: key {number} has more than 64 bits")
            return int(view.digest(signed64(number)))
        data = bytes(key) if isinstance(key, (bytes, bytearray, memoryview)) else b""
        if len(data) != self.key_bytes:
            shown = f"{len(data)} bytes" if data else repr(key)
            raise TableError(f"{self.name}: a key is {self.key_bytes} bytes, not {shown}")
        array = np.frombuffer(data, dtype=np.uint8)
        with lent(array):
            return int(_digest_at(view.address, array.ctypes.data))

    def _bulk(self, kernel: Callable[..., Any], keys: Any, *more: Any) -> NDArray[np.int64]:
        """``kernel(block, address, count, stride, *more, out)`` over an array of keys; what it put in ``out``."""
        if self.key_bytes == 0:
            array = np.asarray(keys)
            if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
                raise TableError(
                    f"{self.name}: keys are an array of integers, not {array.ndim} dimensions of {array.dtype}"
                )
            wide = np.uint64 if array.dtype == np.uint64 else np.int64  # uint64 is taken bit for bit, as in a node
            given = rows(np.ascontiguousarray(array, dtype=wide))
        else:
            given = rows(keys)
            if given.length != self.key_bytes:
                raise TableError(f"{self.name}: a key is {self.key_bytes} bytes, the rows have {given.length}")
        out = np.empty(given.count, dtype=np.int64)
        with lent(given.array, out):
            kernel(self.address, given.address, given.count, given.stride, *more, out.ctypes.data)
        return out


__all__ = ["DATA", "MAX_KEY_BYTES", "Sketch", "SketchView", "mum"]
