"""RSS of a port: which fields make a flow's hash, with which key, and which queue gets which share of the hashes.

::

    port.rss = Rss(fields=("ipv4", "tcp"), key=symmetric_key(), table=(0, 0, 0, 1))

In a port's text: ``rss=ipv4+tcp+udp``, ``rss=symmetric``, ``rss_key=6d5a...``, ``rss_table=0+0+0+1``. A device that
spreads its packets so does (:meth:`wirespeed.ports.port.Port.configure_rss`); else the workers do where they spread
packets at all (:mod:`wirespeed.graph.handoff`), and a queue of the table is the worker of that number. All of it may be
set while the port is open, and is so for the next burst; one that is being spread may see the new key with the old
fields or table, so a flow may then go to either worker once, as it may when any of them changes.

A record that workers read::

    0    how: not at all, by hash, only as rules say
    8    addresses of the Toeplitz tables and of the redirection table
    24   fields
    32   where rules say which queue: of worker 0, and bytes to the next worker's
    64   the redirection table follows in memory of its own

References: Microsoft, "Introduction to receive side scaling"; Linux, Documentation/networking/scaling.rst.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from wirespeed.errors import PortError, TableError
from wirespeed.jit import store_release
from wirespeed.ports.options import nearest
from wirespeed.ports.spread import BY_HASH, BY_RULE, NOT_AT_ALL, SpreadView
from wirespeed.tables.reta import DEFAULT_SIZE, Reta
from wirespeed.tables.toeplitz import SYMMETRIC_KEY, Toeplitz
from wirespeed.wire.rss import FIELDS


@dataclass(frozen=True)
class Rss:
    """What a port is to do.

    Attributes:
        fields: of ``ipv4``, ``ipv6`` (addresses), ``tcp``, ``udp`` (ports too, for packets of that protocol). A packet
            of none of these stays where it came in.
        key: of the Toeplitz hash, 40 bytes as cards have it; empty: the usual one.
        table: the redirection table, a queue for each entry, repeated up to 128; empty: all queues in turn.
    """

    fields: tuple[str, ...] = ("ipv4", "ipv6", "tcp", "udp")
    key: bytes = b""
    table: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for field in self.fields:
            if field not in FIELDS:
                raise PortError(f"RSS has no field {field!r}; {nearest(field, list(FIELDS))}")
        if not self.fields:
            raise PortError(f"RSS without a field spreads nothing: use some of {', '.join(FIELDS)}")
        if self.key and (len(self.key) % 4 or not 40 <= len(self.key) <= 1024):
            raise PortError(f"an RSS key of {len(self.key)} bytes is not possible: use 40 (or 52, as some cards do)")
        if any(not 0 <= queue < 1024 for queue in self.table) or len(self.table) > DEFAULT_SIZE:
            raise PortError(f"an RSS table has 1 to {DEFAULT_SIZE} entries, queues from 0 to 1023")

    @property
    def mask(self) -> int:
        """The fields as bits."""
        return sum({FIELDS[field] for field in self.fields})

    def check_queues(self, spec: str, queues: int) -> None:
        """Raises PortError: the table leads to a queue that is not there."""
        if self.table and max(self.table) >= queues:
            raise PortError(
                f"port {spec!r}: rss_table leads to queue {max(self.table)}, and there are {queues}: run more workers"
            )


def parse_rss(spec: str, fields: str, key: str, table: str) -> Rss | None:
    """Read a port's three options; None if none was given.

    Raises:
        PortError: no such field, no key, no table.
    """
    if not (fields or key or table):
        return None
    words = [word for word in fields.split("+") if word]
    given = b""
    try:
        given = bytes.fromhex(key)
        queues = tuple(int(word) for word in table.split("+") if word)
    except ValueError as error:
        raise PortError(
            f"port {spec!r}: rss_key is in hexadecimal, rss_table is queues such as 0+0+1: {error}"
        ) from None
    if "symmetric" in words:
        if given:
            raise PortError(f"port {spec!r}: rss=symmetric has a key of its own: leave rss_key out")
        given = SYMMETRIC_KEY
    chosen = tuple(word for word in words if word != "symmetric")
    try:
        return Rss(chosen or Rss.fields, given, queues)
    except PortError as error:
        raise PortError(f"port {spec!r}: {error}") from None


class Spreading:
    """How one port's packets are spread by the workers: a record, a hash and a table, while the port is open.

    Args:
        address: of the record, SpreadView.SIZE bytes.
        rss: what was configured; None: every field, all queues in turn.
        workers: that packets are spread over.
        default: the hash where the port has no key of its own.
    """

    def __init__(self, address: int, spec: str, rss: Rss | None, workers: int, default: Toeplitz) -> None:
        self.record = SpreadView(address)
        self._spec, self._workers, self._default = spec, workers, default
        self._toeplitz: Toeplitz | None = None
        self.table = Reta(workers)
        self.record.how = NOT_AT_ALL
        self.record.reta = self.table.address
        try:
            self.configure(rss)
        except BaseException:
            self.table.close()
            raise

    def configure(self, rss: Rss | None) -> Toeplitz | None:
        """Spread so from the next burst on; the hash before, if any, to be closed when no worker reads it any more.

        Raises:
            PortError: the table leads to a worker that is not there, or there can be no such key. Nothing has changed.
        """
        chosen = rss or Rss()
        chosen.check_queues(self._spec, self._workers)
        try:
            toeplitz = Toeplitz(chosen.key) if chosen.key else None
        except TableError as error:
            raise PortError(f"port {self._spec!r}: {error}") from None
        before, self._toeplitz = self._toeplitz, toeplitz
        self.move(chosen.table or range(self._workers))
        self.record.over = chosen.mask
        store_release(self.record.address + SpreadView.toeplitz.offset, (toeplitz or self._default).address)
        return before

    def steer(self, targets: int, stride: int) -> None:
        """Rules say where some packets go: by worker, where that is written."""
        self.record.targets, self.record.stride = targets, stride

    def set(self, by_hash: bool, by_rule: bool) -> None:
        """What the workers do from their next burst on."""
        self.record.how = BY_HASH if by_hash else BY_RULE if by_rule else NOT_AT_ALL

    def move(self, table: Sequence[int]) -> None:
        """Another redirection table, live."""
        for index in range(len(self.table)):
            self.table[index] = table[index % len(table)]

    def close(self) -> None:
        """Free the tables; no worker reads them any more."""
        self.table.close()
        if self._toeplitz is not None:
            self._toeplitz.close()


__all__ = ["Rss", "Spreading", "parse_rss"]
