"""Our XDP program on an interface: made, attached by a link, asked what it counted, taken away.

The link is what keeps it: when its descriptor is closed, by us or because the process is no more, the program goes,
and packets go to the kernel as before. While no socket is entered in its map, it lets everything pass.
"""

import contextlib
import errno
import os
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from wirespeed.errors import PortError
from wirespeed.ports.af_xdp import bpf
from wirespeed.ports.af_xdp import program as xdp_program
from wirespeed.ports.af_xdp import rules as xdp_rules
from wirespeed.ports.af_xdp.assembler import Assembler
from wirespeed.ports.af_xdp.metadata import Wanted, write_metadata
from wirespeed.ports.af_xdp.query import attached
from wirespeed.ports.match import Match
from wirespeed.ports.netdev import Netdev
from wirespeed.ports.rules.rules import Action, Rule

NAME = "wirespeed"
_MODES = {"native": (bpf.NATIVE,), "generic": (bpf.GENERIC,), "auto": (bpf.NATIVE, bpf.GENERIC)}
_CAPABILITIES = (
    "attaching an XDP program needs CAP_NET_ADMIN and CAP_BPF: run with sudo, or once: sudo setcap "
    'cap_net_admin,cap_net_raw,cap_bpf,cap_ipc_lock+ep "$(readlink -f "$(which python3)")"'
)


class Attachment:
    """A program for ``matches`` on interface ``device`` of the calling thread's namespace.

    Args:
        mode: native, generic, or auto for the first of them that works.
        queues: one more than the highest queue that gets a socket.
        wanted: metadata to write in front of packets.

    Attributes:
        metadata: what of it is written; None: nothing.

    Raises:
        PortError: it is not possible: another program is attached, the driver cannot, it is not allowed.
    """

    def __init__(
        self, spec: str, device: Netdev, matches: Sequence[Match], mode: str, queues: int, wanted: Wanted | None = None
    ) -> None:
        self.spec, self.queues, self.metadata, self._device = spec, queues, wanted, device
        self._fds: list[int] = []
        self._rules = -1
        self.mode = ""
        self.why_generic = ""
        try:
            self._sockets = self._keep(bpf.create_map(bpf.XSKMAP, 4, 4, max(queues, 1), "ws_sockets"))
            self._counters = self._keep(bpf.create_map(bpf.PER_CPU_ARRAY, 4, 8, 1, "ws_passed"))
            self._attach(matches, device, mode)
        except OSError as error:
            self.close()
            if error.errno in (errno.EPERM, errno.EACCES) and "/" not in (error.strerror or ""):
                raise PortError(f"port {spec!r}: {_CAPABILITIES}") from None
            raise PortError(f"port {spec!r}: no XDP program: {error.strerror}") from None
        except BaseException:
            self.close()
            raise

    def _keep(self, fd: int) -> int:
        self._fds.append(fd)
        return fd

    def _load(self, make: Callable[[Callable[[Assembler], None] | None], bytes]) -> int:
        """Load what ``make`` makes with metadata written before a packet is taken; returns the program's descriptor."""
        wanted = self.metadata
        code = make((lambda code: write_metadata(code, wanted)) if wanted else None)
        self.instructions = len(code) // 8
        if wanted and wanted.bound:
            program = bpf.load_xdp(code, NAME, bpf.HAS_FRAGS | bpf.DEVICE_BOUND, self._device.index)
        else:
            program = bpf.load_xdp(code, NAME)
        self.number = bpf.program_of(program).number
        return program

    def _load_for(self, matches: Sequence[Match], native: bool) -> int:
        """Bound to the device, where that gives metadata and is possible."""

        def make(before: Callable[[Assembler], None] | None) -> bytes:
            return xdp_program.make(matches, self._sockets, self._counters, before)

        if self.metadata and native:
            self.metadata = replace(self.metadata, bound=True)
            with contextlib.suppress(OSError):
                return self._load(make)
        if self.metadata:
            self.metadata = replace(self.metadata, bound=False)
        return self._load(make)

    def _attach(self, matches: Sequence[Match], device: Netdev, mode: str) -> None:
        for flag in _MODES[mode]:
            program = self._keep(self._load_for(matches, flag == bpf.NATIVE))
            try:
                self._link = self._keep(bpf.attach_xdp(program, device.index, flag))
            except OSError as error:
                self._refuse_other(device, error)
                if mode == "auto" and flag == bpf.NATIVE:
                    self.why_generic = error.strerror or ""
                    continue
                if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ERANGE):
                    raise PortError(
                        f"port {self.spec!r}: the interface's driver takes no {mode} XDP program ({error.strerror}): "
                        "mode=auto"
                    ) from None
                raise
            self.mode = "native" if flag == bpf.NATIVE else "generic"
            return

    def _refuse_other(self, device: Netdev, error: OSError) -> None:
        if error.errno not in (errno.EBUSY, errno.EEXIST):
            return
        number = attached(device.index)
        if number == 0:
            return
        other, name = bpf.program(number), device.name
        called = f" called {other.name!r}" if other.name else ""
        raise PortError(
            f"port {self.spec!r}: {name} has another XDP program already, number {other.number}{called}: end what "
            f"attached it, or: sudo ip link set {name} xdp off (see: bpftool prog show id {other.number})"
        )

    def carry_out(
        self, rules: Sequence[Rule], otherwise: Action, slots: Mapping[int, int], fresh: Iterable[int]
    ) -> None:
        """Put a program for these rules in the place of the one there is; no packet comes between the two.

        In the interface's namespace.

        Args:
            slots: by a rule's number, where it counts.
            fresh: slots that begin at 0.
        """
        if self._rules < 0:
            self._rules = self._keep(bpf.create_map(bpf.PER_CPU_ARRAY, 4, 16, xdp_rules.MOST, "ws_rules"))
        for slot in fresh:
            bpf.update(self._rules, slot, bytes(16 * bpf.possible_cpus()))
        maps = (self._sockets, self._counters, self._rules)
        program = self._load(lambda before: xdp_rules.make_rules(rules, otherwise, slots, *maps, before))
        try:
            bpf.update_link(self._link, program)
        finally:
            os.close(program)  # the link holds it

    def counted(self, slot: int) -> tuple[int, int]:
        """Packets and bytes that the rule with that slot has met."""
        cpus = bpf.possible_cpus()
        words = struct.unpack(f"={2 * cpus}Q", bpf.lookup(self._rules, slot, 16 * cpus))
        return sum(words[::2]), sum(words[1::2])

    def enter(self, queue: int, fd: int) -> None:
        """From now on packets of ``queue`` go to the socket ``fd``."""
        bpf.update(self._sockets, queue, struct.pack("=i", fd))

    def leave(self, queue: int) -> None:
        """Packets of ``queue`` go to the kernel again."""
        bpf.delete(self._sockets, queue)

    @property
    def passed(self) -> int:
        """Packets that were left to the kernel because they do not match."""
        cpus = bpf.possible_cpus()
        return sum(struct.unpack(f"={cpus}Q", bpf.lookup(self._counters, 0, 8 * cpus)))

    def close(self) -> None:
        """Take the program off: the last descriptor of the link goes."""
        for fd in reversed(self._fds):
            os.close(fd)
        self._fds = []


__all__ = ["NAME", "Attachment"]
