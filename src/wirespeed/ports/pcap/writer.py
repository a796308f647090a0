"""The thread that takes records from workers' streams to the disk.

It sleeps until a tenth of a second has passed or a worker knocks, and then writes what there is in as large pieces as
there are. What it does not get rid of stays in the streams: while a disk is full or a pipe's reader stalls, workers
find no room, drop and count; when there is room again it goes on where it stopped, in the middle of a record if need
be. Streams of several queues take turns, in whole records. In its first idle moments it takes the streams' pages, so
that workers do not: for a short capture nobody waits for that.
"""

import os
import select
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from wirespeed.jit import load64, store64
from wirespeed.mem.stream import Stream, consume, place_of, produced, set_asleep
from wirespeed.ports.pcap.files import Files
from wirespeed.ports.pcap.headers import Tally, statistics
from wirespeed.ports.pcap.write import LaneQueue, whole_records

_SLEEP_S = 0.1
_PATIENCE_S = 5.0  # that a pipe's reader has at the end, from the last byte it took


@dataclass
class Lane:
    """One worker's way into the file.

    Attributes:
        queue: the worker's record.
        stream: what it lays records out in.
        scratch: address of two words.
        taken: position up to which the file has it.
        tally: what the present file has of it.
        dropped_before: what was dropped before the present file began.
        lost, lost_bytes: what the worker laid out and no file got.
    """

    queue: LaneQueue
    stream: Stream
    scratch: int
    taken: int = 0
    tally: Tally = field(default_factory=Tally)
    dropped_before: int = 0
    lost: int = 0
    lost_bytes: int = 0


class Writer:
    """Writes ``lanes`` to ``files`` from :meth:`begin` to :meth:`close`.

    Args:
        header: what every file begins with.
        pcapng: whether to close files with statistics.
        flush: write each burst at once.
        say: told what happens to the disk: a kind and a text.

    Attributes:
        files_written: how many.
    """

    def __init__(
        self,
        files: Files,
        lanes: list[Lane],
        header: bytes,
        pcapng: bool,
        flush: bool,
        say: Callable[[str, str], object],
    ) -> None:
        self.files, self.lanes, self.header, self.pcapng, self._say = files, lanes, header, pcapng, say
        self.files_written = 1
        self._enough = 1 if flush else min(lane.stream.size for lane in lanes) // 8
        self._piece: tuple[Lane, int, int] | None = None  # what must be written before anything else: from, to
        self._turning = False  # the present file is to end
        self._failing = 0.0  # since when
        self._begun_ns = 0
        files.reserved = len(self._trailer())
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        for lane in lanes:
            lane.queue.bell, lane.queue.one, lane.queue.enough = self._bell, 1, self._enough

    def begin(self) -> None:
        """Write the header and start.

        Raises:
            OSError: it cannot be written.
        """
        self.files.begin(self.header)
        self._begun_ns = time.time_ns()
        self._thread = threading.Thread(target=self._run, name="wirespeed-pcap", daemon=True)
        self._thread.start()

    def close(self) -> str:
        """Write what is left, end the file; what went wrong, empty if nothing. No worker may lay out any more."""
        if self._thread is None:
            self.files.give_up()
            os.close(self._bell)
            return ""
        self._stopping.set()
        os.eventfd_write(self._bell, 1)
        self._thread.join()
        os.close(self._bell)
        lost = sum(lane.lost for lane in self.lanes)
        if not lost or self.files.error is None:  # what came before the loss, or after it, is all there
            self.files.end(self._trailer())
        error, closing = self.files.error, self.files.close()
        if not (lost or error or closing):
            return ""
        why = error.strerror if error else closing or "its reader does not take any more"
        return f"{self.files.name}: writing failed: {why}; {lost} packets are not in the file"

    @property
    def failing(self) -> str:
        """What is wrong with writing now; empty if nothing."""
        error = self.files.error
        return "" if error is None else f"{self.files.name}: writing fails: {error.strerror}"

    @property
    def waiting(self) -> int:
        """Bytes that no file has yet."""
        return sum(produced(lane.stream.address) - lane.taken for lane in self.lanes)

    # The thread --------------------------------------------------------------------------------------------

    def _run(self) -> None:
        moved_last = time.monotonic()
        while True:
            stopping = self._stopping.is_set()  # asked before looking: what is there then, is all
            moved = self.turn()
            if moved:
                moved_last = time.monotonic()
            if stopping and not (moved or self._may_wait(moved_last)):
                break
            if moved < self._enough and not self._populates():
                self.files.flush()
                self._sleep(0.01 if stopping else _SLEEP_S)
        self._give_up()

    def _populates(self) -> bool:
        """Take some more pages, once there are packets; False if there is nothing to take."""
        return bool(self.files.started) and any(lane.stream.populate() for lane in self.lanes)

    def _may_wait(self, moved_last: float) -> bool:
        """At the end: whether there is something left that may still be taken."""
        left = any(lane.taken < produced(lane.stream.address) for lane in self.lanes)
        return left and self.files.error is None and time.monotonic() - moved_last < _PATIENCE_S

    def turn(self) -> int:
        """Write what there is; how many bytes were."""
        before = [lane.taken for lane in self.lanes]
        if self.files.due:
            self._turning = True
        for lane in [self._piece[0]] if self._piece else self.lanes:
            self._drain(lane)
        self._tell()
        return sum(lane.taken - start for lane, start in zip(self.lanes, before, strict=True))

    def _drain(self, lane: Lane) -> None:
        """Write one lane's records that are there now, or as many as the disk takes."""
        now = produced(lane.stream.address)
        while self._piece or lane.taken < now:
            if self._piece is None:
                end = self._next_end(lane)
                if end == lane.taken:
                    return
                self._piece = lane, lane.taken, end
            end = self._piece[2]
            done = self.files.write(lane.stream.between(lane.taken, end))
            lane.taken += done
            if self.files.failed:
                self._give_up()
                self._piece = None
                return
            if lane.taken < end and not done:
                return
            if lane.taken == end:
                consume(lane.stream.address, end)  # the whole piece at once: what failed in the middle can be counted
                self._piece = None

    def _next_end(self, lane: Lane) -> int:
        """The end of the next piece: whole records that fit in the present file. Turns to the next file if need be."""
        for _ in range(2):
            if self._turning and not self._turn_over():
                return lane.taken
            waiting = produced(lane.stream.address) - lane.taken
            if not waiting:
                return lane.taken
            fits = self._count(lane, min(waiting, self.files.piece, lane.stream.size // 4, self.files.left))
            if fits:
                return lane.taken + fits
            if not self.files.started:
                break
            self._turning = True
        return lane.taken + self._count_one(lane)

    def _count(self, lane: Lane, size: int) -> int:
        """Bytes of the whole records among the next ``size``; they are counted as the present file's."""
        store64(lane.scratch, 0)
        at = place_of(lane.stream.address, lane.taken)
        fits = int(whole_records(at, at + size, int(self.pcapng), lane.scratch))
        lane.tally.packets += load64(lane.scratch)
        return fits

    def _count_one(self, lane: Lane) -> int:
        """A record that is longer than a file may be has one to itself."""
        at = place_of(lane.stream.address, lane.taken)
        length = load64(at) >> 32 if self.pcapng else 16 + (load64(at + 8) & 0xFFFF_FFFF)
        return self._count(lane, length)

    def _turn_over(self) -> bool:
        """End this file and begin the next; False if the disk does not let us now."""
        try:
            if not self.files.end(self._trailer()):
                return False
            self.files.next(self.header)
        except OSError as error:
            self.files.error = error
            return False
        self.files_written += 1
        self._turning, self._begun_ns = False, time.time_ns()
        for lane in self.lanes:
            lane.dropped_before += lane.tally.dropped
            lane.tally = Tally()
        return True

    def _trailer(self) -> bytes:
        """The statistics of each interface in the present file."""
        if not self.pcapng:
            return b""
        found: dict[int, Tally] = {}
        for lane in self.lanes:
            lane.tally.dropped = lane.queue.dropped - lane.dropped_before
            tally = found.setdefault(lane.queue.interface, Tally())
            tally.packets += lane.tally.packets
            tally.dropped += lane.tally.dropped
        now = time.time_ns()
        return b"".join(statistics(number, tally, self._begun_ns, now) for number, tally in sorted(found.items()))

    def _tell(self) -> None:
        """Say when writing begins to fail, and when it works again."""
        error = self.files.error
        if error is not None and not self._failing:
            self._failing = time.monotonic()
            self._say("lost", f"{self.files.name}: writing fails: {error.strerror}; packets are dropped until it works")
        elif error is None and self._failing:
            seconds, self._failing = time.monotonic() - self._failing, 0.0
            self._say("returned", f"{self.files.name}: writing works again, after {seconds:.1f} s")

    def _sleep(self, seconds: float) -> None:
        """Until a worker knocks, or for ``seconds``. While the disk refuses, nobody needs to knock."""
        for lane in self.lanes:
            set_asleep(lane.stream.address, int(self.files.error is None))
        if self.files.error is not None or self.waiting < self._enough:
            poll = select.poll()
            poll.register(self._bell, select.POLLIN)
            if poll.poll(seconds * 1000):
                os.eventfd_read(self._bell)
        for lane in self.lanes:
            set_asleep(lane.stream.address, 0)

    def _give_up(self) -> None:
        """Nothing more can be written: count what is left, and cut off the record that is there in part."""
        if self._piece:
            lane, start, end = self._piece
            at = place_of(lane.stream.address, start)
            back = lane.taken - start
            store64(lane.scratch, 0)
            whole = int(whole_records(at, at + back, int(self.pcapng), lane.scratch))
            self.files.cut(back - whole)
            self._lose(lane, start + whole, end)
        for lane in self.lanes:
            self._lose(lane, lane.taken, produced(lane.stream.address))

    def _lose(self, lane: Lane, start: int, end: int) -> None:
        """Count the records between two positions as lost, and pass over them."""
        at = place_of(lane.stream.address, start)
        store64(lane.scratch, 0)
        store64(lane.scratch + 8, 0)
        whole_records(at, at + end - start, int(self.pcapng), lane.scratch)
        lane.lost += load64(lane.scratch)
        lane.lost_bytes += load64(lane.scratch + 8)
        lane.taken = end
        consume(lane.stream.address, end)


__all__ = ["Lane", "Writer"]
