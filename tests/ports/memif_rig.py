"""One memif server for all examples of a property: opening one for each would take most of the time."""

import atexit
import functools
import tempfile
from typing import Any

from memif_peer import graceful
from netns import eventually

from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port


class Rig:
    """A server, its pool and a worker."""

    def __init__(self) -> None:
        from tests.ports.conftest import Worker

        self._folder = tempfile.TemporaryDirectory()
        self.path = f"{self._folder.name}/memif.sock"
        self.pool = Pool(2048)
        self.worker = Worker(self.pool)
        self.server: Any = port(f"memif:{self.path},role=server")
        graceful(self.worker, self.server)
        self.server.open(self.pool, 1, 1)
        atexit.register(self.close)

    @staticmethod
    @functools.cache
    def get() -> "Rig":
        """The one there is."""
        return Rig()

    def exercise(self, lengths: list[int]) -> None:
        """Receive what is there and send packets of these lengths."""
        for _ in range(4):
            self.worker.packet_list(self.server)
        descs = [self.worker.make(bytes(length)) for length in lengths]
        self.worker.free(descs[self.worker.send(self.server, descs) :] if descs else [])

    def settle(self) -> None:
        """Wait until the peer has left."""
        listener = self.server._listener
        eventually(lambda: not listener._strangers and not self.server.busy, "the server to be free")

    def close(self) -> None:
        self.server.close()
        self.worker.close()
        self.pool.close()
        self._folder.cleanup()
