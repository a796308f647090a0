"""jit: the only package that knows Numba and LLVM.

``kernel`` and ``inline`` turn Python functions into machine code; ``View`` gives memory types and names;
the rest are single instructions (loads, stores, byte swaps, atomics, prefetch) and system calls, each with
a checked Python twin. Everything above is written in terms of these and runs compiled or interpreted.
"""

from wirespeed.jit.apart import load64_apart, store64_apart
from wirespeed.jit.atomics import (
    compare_exchange,
    cycles,
    exchange,
    fence,
    fetch_add,
    load_acquire,
    load_acquire16,
    load_acquire32,
    load_relaxed,
    pause,
    store_release,
    store_release16,
    store_release32,
)
from wirespeed.jit.bits import (
    add,
    bit_reverse32,
    bswap16,
    bswap32,
    bswap64,
    leading_zeros,
    multiply,
    multiply_high,
    popcount,
    rotate_left,
    shift_right,
    signed64,
    trailing_zeros,
)
from wirespeed.jit.cache import DIRECTORY as CACHE_DIRECTORY
from wirespeed.jit.carryless import carryless_multiply
from wirespeed.jit.clock import tsc
from wirespeed.jit.crc import crc_steps
from wirespeed.jit.crc32c import crc32c_byte, crc32c_half, crc32c_word
from wirespeed.jit.decorators import COMPILED, cold, inline, kernel, python_function
from wirespeed.jit.fences import fence_acquire, fence_release
from wirespeed.jit.fields import be16, be32, be64, bits, ipv6, le16, le32, le64, mac, u8
from wirespeed.jit.fold import multiply_fold
from wirespeed.jit.lend import lent
from wirespeed.jit.local import Local, slot, word
from wirespeed.jit.match import match16
from wirespeed.jit.memory import (
    check,
    copy,
    copy32,
    copy64,
    fill,
    load8,
    load16,
    load32,
    load64,
    move,
    prefetch,
    read_bytes,
    register,
    store8,
    store16,
    store32,
    store64,
    unregister,
    write_bytes,
)
from wirespeed.jit.ordered import cycles_ordered
from wirespeed.jit.sums import sum_blocks, sum_tail
from wirespeed.jit.thread import getpid, gettid, sched_yield
from wirespeed.jit.view import View

__all__ = [
    "CACHE_DIRECTORY",
    "COMPILED",
    "Local",
    "View",
    "add",
    "be16",
    "be32",
    "be64",
    "bit_reverse32",
    "bits",
    "bswap16",
    "bswap32",
    "bswap64",
    "carryless_multiply",
    "check",
    "cold",
    "compare_exchange",
    "copy",
    "copy32",
    "copy64",
    "crc32c_byte",
    "crc32c_half",
    "crc32c_word",
    "crc_steps",
    "cycles",
    "cycles_ordered",
    "exchange",
    "fence",
    "fence_acquire",
    "fence_release",
    "fetch_add",
    "fill",
    "getpid",
    "gettid",
    "inline",
    "ipv6",
    "kernel",
    "le16",
    "le32",
    "le64",
    "leading_zeros",
    "lent",
    "load8",
    "load16",
    "load32",
    "load64",
    "load64_apart",
    "load_acquire",
    "load_acquire16",
    "load_acquire32",
    "load_relaxed",
    "mac",
    "match16",
    "move",
    "multiply",
    "multiply_fold",
    "multiply_high",
    "pause",
    "popcount",
    "prefetch",
    "python_function",
    "read_bytes",
    "register",
    "rotate_left",
    "sched_yield",
    "shift_right",
    "signed64",
    "slot",
    "store8",
    "store16",
    "store32",
    "store64",
    "store64_apart",
    "store_release",
    "store_release16",
    "store_release32",
    "sum_blocks",
    "sum_tail",
    "trailing_zeros",
    "tsc",
    "u8",
    "unregister",
    "word",
    "write_bytes",
]  # fmt: skip
