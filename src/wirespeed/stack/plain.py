"""Handlers in plain Python, in the control thread: what cannot be compiled, or waits. ::

    @service.udp(port=9, compiled=False)
    def look(request, reply):
        reply.write(json.dumps(names[request.payload]).encode())

    @service.udp(port=10)
    async def ask(request, reply):
        reply.write(await upstream.request(request.payload))

A burst of requests is taken at a time; what Python has to do for each of them is call the function
(:mod:`wirespeed.stack.plain_path` does the rest). An exception is logged with the request that caused it, which gets no
answer, and the service goes on.
"""

import ctypes
import inspect
import ipaddress
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from wirespeed.errors import NodeError
from wirespeed.jit import load64, read_bytes, write_bytes
from wirespeed.mem.descriptor import CELL
from wirespeed.mem.pool import MAX_BURST, Pool
from wirespeed.mem.region import Region
from wirespeed.ports.host import path as host_path
from wirespeed.ports.host.port import Host, HostOptions
from wirespeed.stack import plain_path
from wirespeed.stack.interface import Interface
from wirespeed.stack.interface_settings import Address
from wirespeed.stack.reply import LONGEST_REPLY
from wirespeed.stack.udp import AMPLIFIED

Later = Callable[["PlainRequest", bytes], object]
"""Sends a datagram back to whom a request came from, some time after it."""

_log = logging.getLogger("wirespeed.service")
_SLICE_S = 0.02
_BATCH = MAX_BURST
_DATA = _BATCH * CELL
_IN_PLACE = 1472  # bytes of an answer that a cell has room for, and a frame of Ethernet


class PlainRequest:
    """A datagram that came in.

    Attributes:
        payload: its bytes.
    """

    __slots__ = ("_index", "_rows", "payload")

    def __init__(self, payload: bytes, rows: NDArray[np.int64], index: int) -> None:
        self.payload = payload
        self._rows = rows
        self._index = index

    def _word(self, place: int) -> int:
        """What a row says (:mod:`wirespeed.stack.plain_path`); nothing is computed that nobody asks for."""
        return int(self._rows[self._index, place])

    @property
    def length(self) -> int:
        """Bytes of payload."""
        return len(self.payload)

    @property
    def source(self) -> Address:
        """Who sent it."""
        return _address(self._word(6), self._word(0), self._word(1))

    @property
    def destination(self) -> Address:
        """The address it was sent to: one of ours, or a group's."""
        return _address(self._word(6), self._word(3), self._word(4))

    @property
    def source_port(self) -> int:
        """The sender's port."""
        return self._word(2)

    @property
    def port(self) -> int:
        """The port it was sent to."""
        return self._word(5)

    @property
    def arrival(self) -> int:
        """When it was received, in nanoseconds, if the port says so; else 0."""
        return self._word(7)

    def __repr__(self) -> str:
        return f"<request from {self.source} port {self.source_port} to port {self.port}: {self.payload!r}>"


class PlainReply:
    """The answer to a request: nothing is sent if nothing is written, or ``allowed`` bytes are exceeded."""

    __slots__ = ("allowed", "data", "sent")

    def __init__(self, allowed: float = math.inf) -> None:
        self.data: bytes | None = None
        self.sent: tuple[bytes, ...] = ()
        self.allowed = allowed

    def verified(self) -> None:
        """Who asked is who it says it is, a cookie has shown: there is no limit of amplification for it."""
        self.allowed = math.inf

    @property
    def amplifies(self) -> bool:
        """Whether all of it together is beyond the limit of amplification."""
        return sum(map(len, self.sent)) + len(self.data or b"") > self.allowed

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        Raises:
            ValueError: the datagram would be longer than UDP allows.
        """
        self.data = bytes(data) if self.data is None else self.data + data
        if len(self.data) > LONGEST_REPLY:
            raise ValueError(f"a datagram of {len(self.data)} bytes: UDP carries {LONGEST_REPLY}, send() some before")

    def send(self) -> None:
        """What is written is a datagram of its own; what is written from now on is the next one."""
        self.sent += (self.data or b"",)
        self.data = None


Handler = Callable[[PlainRequest, PlainReply], Any]


class PlainPort(Host):
    """Where the graph leaves requests for a function, and takes up its answers.

    Args:
        function: ``function(request, reply)``, or a coroutine function, which then runs as a task.
        interface: whose address answers what was sent to a group.
        drops: names the function may return, to say that it drops the request.
        amplification: all answers to a request are together at most so many times as long; 0: no limit.

    Attributes:
        later: sends a datagram to whom a request came from; to be set before the first request.
        spawn: runs a coroutine as a task; to be set where there are coroutine functions.
        dropped: how often each reason was returned, ``exception`` and ``amplified`` among them.
    """

    passive = stays = True

    def __init__(
        self,
        function: Handler,
        interface: Interface,
        drops: Sequence[str] = (),
        size: int = 4096,
        amplification: int = 0,
    ) -> None:
        name = f"{function.__name__}"
        super().__init__(f"host:{name},size={size}", HostOptions(name, size))
        self._function, self._interface = function, interface
        self._reasons = frozenset(drops)
        self._times: float = amplification or math.inf
        self.is_async = inspect.iscoroutinefunction(function)
        self.later: Later = lambda request, data: None
        self.spawn: Callable[[Coroutine[Any, Any, None]], object] | None = None
        self.dropped: Counter[str] = Counter()

    def open(self, pool: Pool, rx_queues: int, tx_queues: int) -> None:
        """Lay out vectors, rows, lengths and data."""
        super().open(pool, rx_queues, tx_queues)
        self._desk = Region(_BATCH * (8 + plain_path.ROW + 8) + _DATA, "wirespeed-plain", huge=False)
        self._requests = self._desk.address
        rows = self._requests + _BATCH * 8
        self._lengths = rows + _BATCH * plain_path.ROW
        self._data = self._lengths + _BATCH * 8
        self._rows_at = rows
        self._rows = _words(rows, _BATCH * plain_path.ROW // 8).reshape(_BATCH, -1)
        self._sizes = _words(self._lengths, _BATCH)
        self._answer(0)  # compiled now, not when somebody waits

    def serve(self) -> int:
        """Let the function answer what is there, for a few milliseconds at most; how many requests that were."""
        self._check()
        self._quieten()
        done, end_s = 0, time.monotonic() + _SLICE_S
        while time.monotonic() < end_s:
            got = sum(self._serve(queue) for queue in self.tx)
            done += got
            if not got:
                host_path.declare_asleep(self._asleep)
                got = sum(self._serve(queue) for queue in self.tx)  # sent before the workers could know that we sleep
                if not got:
                    return done
                self._quieten()
                done += got
        self._rearm()
        return done

    def _serve(self, queue: int) -> int:
        """A burst from one worker."""
        count = int(
            plain_path.collect(
                queue, self._pool.cells, self._requests, _BATCH, self._rows_at, self._lengths, self._data
            )
        )  # fmt: skip
        if not count:
            return 0
        lengths = self._sizes[:count].tolist()
        payloads = read_bytes(self._data, sum(length for length in lengths if length > 0))
        rows = self._rows[:count].copy()
        function, is_async, times = self._function, self.is_async, self._times
        limited = times != math.inf
        answers: list[bytes] = []
        sizes = [plain_path.NO_ANSWER] * count
        at, space = 0, _DATA
        for index, length in enumerate(lengths):
            if length >= 0:
                request = PlainRequest(payloads[at : at + length], rows, index)
                at += length
            else:
                request = PlainRequest(self._whole(index, -1 - length), rows, index)
            reply = PlainReply(times * len(request.payload)) if limited else PlainReply()
            if is_async:
                assert self.spawn is not None
                self.spawn(self._answer_later(request, reply))
                continue
            try:
                reason = function(request, reply)
                if reason is not None:
                    self._note(reason)
            except Exception:
                self._failed(request)
                continue
            if limited and reply.amplifies:
                self.dropped[AMPLIFIED] += 1
                continue
            if reply.sent:
                for data in reply.sent:
                    self.later(request, data)
            if reply.data is None:
                continue
            data = reply.data
            if length < 0 or len(data) > _IN_PLACE or len(data) > space:
                self.later(request, data)
                continue
            sizes[index] = len(data)
            space -= len(data)
            answers.append(data)
        self._sizes[:count] = sizes
        if answers:
            write_bytes(self._data, b"".join(answers))
        done = self._answer(count)
        self._refused += len(answers) - (done & 0xFFFF_FFFF)
        if done >> 32:
            self._wake()
        return count

    def _whole(self, index: int, length: int) -> bytes:
        """The payload of a request in several cells."""
        at = int(self._rows[index, 8])
        return self._read(load64(self._requests + index * 8))[0].data[at : at + length]

    def _answer(self, count: int) -> int:
        cache, interface = self._pool.control_cache, self._interface.address
        return int(plain_path.answer(self.rx[0], cache, interface, self._requests, count, self._lengths, self._data))

    async def _answer_later(self, request: PlainRequest, reply: PlainReply) -> None:
        try:
            reason = await self._function(request, reply)
            if reason is not None:
                self._note(reason)
        except Exception:
            self._failed(request)
            return
        if reply.amplifies:
            self.dropped[AMPLIFIED] += 1
            return
        for data in reply.sent:
            self.later(request, data)
        if reply.data is not None:
            self.later(request, reply.data)

    def _note(self, reason: object) -> None:
        if reason not in self._reasons:
            named = ", ".join(sorted(self._reasons)) or "nothing"
            raise NodeError(f"{self._function.__name__} returned {reason!r}; its drops declare {named}")
        self.dropped[str(reason)] += 1

    def _failed(self, request: PlainRequest) -> None:
        self.dropped["exception"] += 1
        _log.exception("%s failed on %r", self._function.__name__, request)

    def close(self) -> None:
        """Free what nobody answered."""
        super().close()
        del self._rows, self._sizes
        self._desk.close()


def _address(six: int, high: int, low: int) -> Address:
    word = (1 << 64) - 1
    return ipaddress.IPv6Address((high & word) << 64 | low & word) if six else ipaddress.IPv4Address(low)


def _words(address: int, count: int) -> NDArray[np.int64]:
    return np.ctypeslib.as_array((ctypes.c_int64 * count).from_address(address))


__all__ = ["PlainPort", "PlainReply", "PlainRequest"]
