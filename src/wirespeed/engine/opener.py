"""The ports of an engine: opened for what the graph does with them, listened to, and closed."""

import contextlib
import threading
from collections.abc import Callable, Iterator

from wirespeed.graph.graph import Graph
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import Port
from wirespeed.ports.software.software import Software
from wirespeed.ports.status import Event
from wirespeed.tables.toeplitz import Toeplitz


class Opener:
    """Opens and closes ports for ``workers`` workers with one pool.

    Args:
        hash: the RSS hash of ports without a key of their own.
        on_event: told each event of an open port; what it raises becomes a note.
        notes: where notes go.
        rules_changed: called when a port's rules need another loop.
    """

    def __init__(
        self,
        pool: Pool,
        workers: int,
        hash: Toeplitz,
        on_event: Callable[[Event], None] | None,
        notes: list[str],
        rules_changed: Callable[[], None],
    ) -> None:
        self._pool, self._workers, self._hash = pool, workers, hash
        self._on_event, self._notes, self._rules_changed = on_event, notes, rules_changed
        self._open: list[Port] = []
        self._untold = threading.local()  # events of this thread that wait until it holds no lock

    def open(self, port: Port, graph: Graph) -> None:
        """Open a port for what ``graph`` does with it, and make ready what workers do in software for it.

        Raises:
            PortError: it cannot be opened, or not as it was told; it is closed then.
        """
        workers = self._workers
        reads = min(port.rx_queues or workers, workers) if port in graph.sources else 0
        writes = min(port.tx_queues or workers, workers) if port in graph.sinks else 0
        port.events.listen(self._tell)
        try:
            port.open(self._pool, reads, writes)
            self._open.append(port)
            port.software = Software(port, workers, self._hash)
        except BaseException:
            self.shut(port)
            raise
        port.rules.changed = self._rules_changed

    def shut(self, port: Port) -> None:
        """Close a port that no worker uses any more; a second call does nothing."""
        with contextlib.suppress(ValueError):
            port.events.unlisten(self._tell)
        port.rules.changed = None
        software, port.software = port.software, None
        if software is not None:
            software.close()
        if port in self._open:
            self._open.remove(port)
            port.close()

    def close(self) -> None:
        """Close all that are open still, the last one first."""
        while self._open:
            self.shut(self._open[-1])

    @contextlib.contextmanager
    def telling_later(self) -> Iterator[None]:
        """What ports say in this thread meanwhile is told behind it, when the thread holds no lock any more."""
        if getattr(self._untold, "events", None) is not None:
            yield  # to be told further out
            return
        events: list[Event] = []
        self._untold.events = events
        try:
            yield
        finally:
            self._untold.events = None
            for event in events:
                self._tell(event)

    def _tell(self, event: Event) -> None:
        if self._on_event is None:
            return
        waiting: list[Event] | None = getattr(self._untold, "events", None)
        if waiting is not None:
            waiting.append(event)
            return
        try:
            self._on_event(event)
        except Exception as error:  # the caller's, in a port's own thread: nobody there can use it
            self._notes.append(f"on_event: {type(error).__name__}: {error}")


__all__ = ["Opener"]
