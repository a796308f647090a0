"""What XDP knows of a packet besides its bytes: the time of receipt and the RSS hash, written in front of it.

Before the program gives a packet to a socket, it asks the driver by the kernel's functions for that
(bpf_xdp_metadata_rx_timestamp, bpf_xdp_metadata_rx_hash: Linux 6.3, drivers that have them, a program bound to the
device), and writes 16 bytes into the packet's headroom, from where the worker takes them::

    -16   8 bytes   time of receipt, nanoseconds
    -8    4 bytes   RSS hash
    -4    4 bytes   MARK and which of these are there

Where the driver has no time, or the program is not bound, the program reads the clock when the packet has come, which
every kernel can do: International Atomic Time, as that cannot jump; the difference to CLOCK_REALTIME is the worker's.

References: Documentation/networking/xdp-rx-metadata.rst; Documentation/bpf/btf.rst; net/core/xdp.c.
"""

import functools
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from wirespeed.ports.af_xdp.assembler import Assembler, Reg

SIZE: int = 16
"""Bytes in front of a packet."""
MARK: int = 0x5750_0000
"""In the last word, so that a packet without metadata is told from one with."""
HARDWARE, HASH, SOFTWARE = 1, 2, 4
"""What is there: the device's time, its hash, the kernel's time."""

_TIME, _HASHING = "bpf_xdp_metadata_rx_timestamp", "bpf_xdp_metadata_rx_hash"
_ADJUST_META, _TAI = 54, 208  # bpf_xdp_adjust_meta, bpf_ktime_get_tai_ns (Linux 6.1)
_DATA, _DATA_META = 0, 8  # struct xdp_md
_AT_TIME, _AT_HASH, _AT_TYPE = -16, -24, -20  # on the program's stack; above are those of other parts
_BTF = Path("/sys/kernel/btf/vmlinux")
_FUNCTION = 12  # BTF_KIND_FUNC
# Bytes behind each type's twelve, and those for each of its members.
_REST = {1: (4, 0), 3: (12, 0), 4: (0, 12), 5: (0, 12), 6: (0, 8), 13: (0, 8), 14: (4, 0), 15: (0, 12), 17: (4, 0),
         19: (0, 12)}  # fmt: skip


@dataclass(frozen=True)
class Wanted:
    """What the port's text asks for, and how it can be had.

    Attributes:
        time, hash: asked for.
        bound: the program is bound to the device and may ask the driver.
    """

    time: bool
    hash: bool
    bound: bool

    @property
    def hashed(self) -> bool:
        """Whether packets have a hash: only a driver can tell it."""
        return self.hash and self.bound and _HASHING in functions()


def write_metadata(code: Assembler, wanted: Wanted) -> None:
    """Write the sixteen bytes; R6 is the context. A driver that has no room in front gives a packet without."""
    known = functions() if wanted.bound else {}
    none = code.fresh("nothing")
    for at in (_AT_TIME, _AT_HASH):
        code.store(8, Reg.R10, at, 0)
    code.mov(Reg.R7, MARK)
    if wanted.time:
        if _TIME in known:
            code.mov(Reg.R1, Reg.R6)
            code.mov(Reg.R2, Reg.R10)
            code.alu("add", Reg.R2, _AT_TIME)
            code.call_kernel(known[_TIME])
            unknown, there = code.fresh("unknown"), code.fresh("there")
            code.jump_if("ne", Reg.R0, 0, unknown)
            code.load(8, Reg.R1, Reg.R10, _AT_TIME)
            code.jump_if("eq", Reg.R1, 0, unknown)
            code.alu("or", Reg.R7, HARDWARE)
            code.jump(there)
            code.label(unknown)
            _read_clock(code)
            code.label(there)
        else:
            _read_clock(code)
    if wanted.hashed:
        code.mov(Reg.R1, Reg.R6)
        code.mov(Reg.R2, Reg.R10)
        code.alu("add", Reg.R2, _AT_HASH)
        code.mov(Reg.R3, Reg.R10)
        code.alu("add", Reg.R3, _AT_TYPE)
        code.call_kernel(known[_HASHING])
        unhashed = code.fresh("unhashed")
        code.jump_if("ne", Reg.R0, 0, unhashed)
        code.alu("or", Reg.R7, HASH)
        code.label(unhashed)
    code.mov(Reg.R1, Reg.R6)
    code.mov(Reg.R2, -SIZE)
    code.call(_ADJUST_META)
    code.jump_if("ne", Reg.R0, 0, none)
    code.load(4, Reg.R1, Reg.R6, _DATA_META)
    code.load(4, Reg.R2, Reg.R6, _DATA)
    code.mov(Reg.R3, Reg.R1)
    code.alu("add", Reg.R3, SIZE)
    code.jump_if("gt", Reg.R3, Reg.R2, none)
    code.load(8, Reg.R4, Reg.R10, _AT_TIME)
    code.store(8, Reg.R1, 0, Reg.R4)
    code.load(4, Reg.R4, Reg.R10, _AT_HASH)
    code.store(4, Reg.R1, 8, Reg.R4)
    code.store(4, Reg.R1, 12, Reg.R7)
    code.label(none)


def _read_clock(code: Assembler) -> None:
    code.call(_TAI)
    code.store(8, Reg.R10, _AT_TIME, Reg.R0)
    code.alu("or", Reg.R7, SOFTWARE)


def behind() -> int:
    """Nanoseconds from CLOCK_TAI to CLOCK_REALTIME: whole seconds, which leap seconds change."""
    return round(time.clock_gettime(time.CLOCK_REALTIME) - time.clock_gettime(time.CLOCK_TAI)) * 1_000_000_000


@functools.cache
def functions() -> dict[str, int]:
    """The kernel's functions for metadata, and their numbers in its type information; empty where it has none."""
    try:
        data = _BTF.read_bytes()
    except OSError:
        return {}
    return find_functions(data, (_TIME, _HASHING))


def find_functions(data: bytes, names: tuple[str, ...]) -> dict[str, int]:
    """The numbers of functions in BTF: a header, types one behind the other, numbered from 1, and strings."""
    if len(data) < 24 or data[:2] != b"\x9f\xeb":
        return {}
    header, types, types_bytes, strings, strings_bytes = struct.unpack_from("<5I", data, 4)
    texts = data[header + strings : header + strings + strings_bytes]
    wanted = {at + 1: name for name in names if (at := texts.find(b"\0" + name.encode() + b"\0")) >= 0}
    found: dict[str, int] = {}
    at, end, number = header + types, min(header + types + types_bytes, len(data) - 12), 1
    while at <= end:
        name, info = struct.unpack_from("<II", data, at)
        kind = info >> 24 & 0x1F
        if kind == _FUNCTION and name in wanted:
            found[wanted[name]] = number
        fixed, each = _REST.get(kind, (0, 0))
        at += 12 + fixed + each * (info & 0xFFFF)
        number += 1
    return found


__all__ = ["HARDWARE", "HASH", "MARK", "SIZE", "SOFTWARE", "Wanted", "behind", "find_functions", "functions",
           "write_metadata"]  # fmt: skip
