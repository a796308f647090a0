"""bpf(2): maps, programs and links, by the system call itself.

Everything is a descriptor. What it stands for lives as long as somebody holds it: a program that is attached by a
*link* goes when the link's last descriptor is closed, and the kernel closes those of a process that is killed.

References: bpf(2); include/uapi/linux/bpf.h (union bpf_attr, struct bpf_prog_info, struct bpf_link_info).
"""

import contextlib
import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterator
from dataclasses import dataclass

_SYS_BPF = {"x86_64": 321, "aarch64": 280}.get(platform.machine(), 280)
_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _PROG_LOAD = 0, 1, 2, 3, 5
_TEST_RUN, _PROG_FD_BY_ID, _INFO_BY_FD, _LINK_CREATE, _LINK_UPDATE = 10, 13, 15, 28, 29
_XDP, _ATTACH_XDP = 6, 37  # BPF_PROG_TYPE_XDP, BPF_XDP
ARRAY, PER_CPU_ARRAY, DEVMAP, XSKMAP = 2, 6, 14, 17
"""Kinds of maps."""
HAS_FRAGS, DEVICE_BOUND = 1 << 5, 1 << 6
"""Flags of a program: it takes packets of several buffers; it is for one device and may ask it for metadata."""
GENERIC, NATIVE = 1 << 1, 1 << 2
"""XDP_FLAGS_SKB_MODE, XDP_FLAGS_DRV_MODE: where a program runs."""
_LIVE_FRAMES = 1 << 1
_LOG_BYTES = 1 << 16
_LICENCE = ctypes.create_string_buffer(b"GPL")  # some helpers are for such programs only

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


def _bpf(command: int, attributes: bytes | bytearray) -> int:
    """One call; the kernel may write into a bytearray.

    Raises:
        OSError: as bpf(2).
    """
    memory = (ctypes.c_char * len(attributes)).from_buffer(
        attributes if isinstance(attributes, bytearray) else bytearray(attributes)
    )
    result = _libc.syscall(
        ctypes.c_long(_SYS_BPF), ctypes.c_int(command), ctypes.byref(memory), ctypes.c_uint(len(attributes))
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def create_map(kind: int, key_bytes: int, value_bytes: int, entries: int, name: str) -> int:
    """A map; returns its descriptor."""
    attributes = struct.pack("=5I4xI16s", kind, key_bytes, value_bytes, entries, 0, 0, name.encode()[:15])
    return _bpf(_MAP_CREATE, attributes)


def update(fd: int, key: int, value: bytes) -> None:
    """Store an element; keys here are 32-bit numbers."""
    _element(_MAP_UPDATE, fd, key, bytearray(value))


def delete(fd: int, key: int) -> None:
    """Remove an element; one that is not there stays so."""
    with contextlib.suppress(FileNotFoundError):
        _element(_MAP_DELETE, fd, key, bytearray(8))


def lookup(fd: int, key: int, size: int) -> bytes:
    """An element of ``size`` bytes (of a per-CPU map: of all CPUs, each rounded up to 8 bytes)."""
    value = bytearray(size)
    _element(_MAP_LOOKUP, fd, key, value)
    return bytes(value)


def _element(command: int, fd: int, key: int, value: bytearray) -> None:
    word = ctypes.c_uint32(key)
    memory = (ctypes.c_char * len(value)).from_buffer(value)
    _bpf(command, struct.pack("=I4xQQQ", fd, ctypes.addressof(word), ctypes.addressof(memory), 0))


def load_xdp(code: bytes, name: str, flags: int = HAS_FRAGS, index: int = 0) -> int:
    """Load an XDP program; returns its descriptor.

    Args:
        flags: HAS_FRAGS, DEVICE_BOUND.
        index: the interface it is bound to, with DEVICE_BOUND.

    Raises:
        OSError: refused; for EINVAL and EACCES the text ends with what the verifier said.
    """
    memory = ctypes.create_string_buffer(code, len(code))
    log = ctypes.create_string_buffer(_LOG_BYTES)

    def attempt(level: int) -> int:
        return _bpf(
            _PROG_LOAD,
            struct.pack(
                "=IIQQIIQII16sII", _XDP, len(code) // 8, ctypes.addressof(memory), ctypes.addressof(_LICENCE), level,
                _LOG_BYTES if level else 0, ctypes.addressof(log) if level else 0, 0, flags, name.encode()[:15], index,
                _ATTACH_XDP,
            ),
        )  # fmt: skip

    try:
        return attempt(0)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EACCES):
            raise
        with contextlib.suppress(OSError):
            return attempt(1)
        said = log.value.decode(errors="replace").strip().splitlines()
        raise OSError(error.errno, f"{error.strerror}: {' / '.join(said[-4:])}") from None


def attach_xdp(program: int, index: int, mode: int) -> int:
    """Attach a program to interface ``index`` (of the thread's namespace) by a link; returns the link's descriptor.

    Raises:
        OSError: EBUSY or EEXIST when another program is attached; EOPNOTSUPP when the driver has no native XDP.
    """
    return _bpf(_LINK_CREATE, struct.pack("=IIII48x", program, index, _ATTACH_XDP, mode))


def update_link(link: int, program: int) -> None:
    """Let another program run where a link attaches one."""
    _bpf(_LINK_UPDATE, struct.pack("=IIII", link, program, 0, 0))


def run_xdp(program: int, frame: bytes, context: bytes = b"") -> tuple[int, bytes]:
    """Run a program once on a frame, without a device: what it returns, and the frame afterwards."""
    source = ctypes.create_string_buffer(frame, len(frame))
    room = len(frame) + 512
    result = ctypes.create_string_buffer(room)
    about = ctypes.create_string_buffer(context, len(context)) if context else None
    attributes = bytearray(
        struct.pack(
            "=IIIIQQIIIIQQ", program, 0, len(frame), room, ctypes.addressof(source), ctypes.addressof(result), 1, 0,
            len(context), 0, ctypes.addressof(about) if about else 0, 0,
        )
    )  # fmt: skip
    _bpf(_TEST_RUN, attributes)
    code, _, size = struct.unpack_from("=III", attributes, 4)
    return code, result.raw[:size]


def send_xdp(program: int, frame: bytes, count: int, batch: int = 64) -> None:
    """Run a program on ``count`` frames that are packets: what it redirects is sent (BPF_F_TEST_XDP_LIVE_FRAMES).

    The frames come from the loopback interface of the calling thread's namespace. Needs Linux 5.18; blocks meanwhile.
    """
    source = ctypes.create_string_buffer(frame, len(frame))
    attributes = struct.pack(
        "=IIIIQQIIIIQQIII4x", program, 0, len(frame), 0, ctypes.addressof(source), 0, count, 0, 0, 0, 0, 0,
        _LIVE_FRAMES, 0, batch,
    )  # fmt: skip
    _bpf(_TEST_RUN, attributes)


@dataclass(frozen=True)
class Program:
    """A loaded program: its number and its name, which may be empty."""

    number: int
    name: str


def program(number: int) -> Program:
    """What the kernel says about program ``number``; its name is empty if we may not know."""
    try:
        fd = _bpf(_PROG_FD_BY_ID, struct.pack("=I12x", number))
    except OSError:
        return Program(number, "")
    try:
        return program_of(fd)
    except OSError:
        return Program(number, "")
    finally:
        os.close(fd)


def program_of(fd: int) -> Program:
    """What the kernel says about the program behind a descriptor."""
    info = ctypes.create_string_buffer(256)  # struct bpf_prog_info: id at 4, name at 64
    _bpf(_INFO_BY_FD, struct.pack("=IIQ", fd, len(info), ctypes.addressof(info)))
    number = struct.unpack_from("=I", info, 4)[0]
    return Program(number, info.raw[64:80].split(b"\0")[0].decode(errors="replace"))


def possible_cpus() -> int:
    """How many values an element of a per-CPU map has."""
    with open("/sys/devices/system/cpu/possible") as file:
        last = file.read().strip().split(",")[-1].split("-")[-1]
    return int(last) + 1


@contextlib.contextmanager
def closing(*descriptors: int) -> Iterator[None]:
    """Close them at the end, whatever happens."""
    try:
        yield
    finally:
        for fd in descriptors:
            os.close(fd)
