"""The worker record: what a generated loop finds at the one address it is called with.

::

    0      command            written by control code only
    128    RCU slot           grace periods (wirespeed.sync.rcu)
    384    the worker's line  progress, written by the worker only
    448    where things are   written before the start
    1024   bindings           addresses of port queues and of the state that nodes hold, 8 bytes each

The generated module and the engine agree on the order of bindings through :class:`wirespeed.graph.plan.Plan`.
"""

from wirespeed.jit import View, le64

RUN, DRAIN, EXIT = 0, 1, 2
"""Commands: receive and process; process what is in flight but receive no more; return."""

RCU_SLOT: int = 128
BINDINGS: int = 1024
WHEELS: int = 552
MAX_WHEELS: int = 8
"""Sets of timers that one graph can have."""
MARKS: int = 4096 + 64
"""Where a vector's marks start: one word beside each descriptor, used only when nodes use ``pkt.mark``."""
VECTOR_STRIDE: int = 2 * MARKS + 320  # room for MAX_BURST of both; not all vectors in the same cache sets


class Worker(View):
    """The record of one worker."""

    command = le64(0, "RUN, DRAIN, EXIT, or the number of a loop to go on with, plus SWITCH")
    loops = le64(384, "turns of the loop")
    busy = le64(392, "turns that moved packets")
    ended = le64(400, "1 when every input is over and nothing moved in a whole turn")
    asleep = le64(408, "1 while it blocks")
    sleeps = le64(416, "times it blocked")
    first = le64(424, "cycle counter when the first burst had been sent")
    mark = le64(432, "profile: counter values at the last mark; see profile.py")
    cache = le64(448, "its stack of free cells")
    counters = le64(456, "its block of counters")
    vectors = le64(464, "its packet vectors, VECTOR_STRIDE apart")
    polled = le64(472, "struct pollfd array to block on")
    polled_count = le64(480)
    spin = le64(488, "time-stamp cycles without a packet before it blocks; negative: never blocks")
    nap_ms = le64(496, "the longest it blocks")
    index = le64(504, "which worker it is")
    handoff = le64(512, "rings between workers; 0 when there is one worker")
    profile = le64(520, "where the profiling loop adds up, or 0")
    perf_fd = le64(528, "hardware counters of this thread, or -1")
    drained = le64(536, "what was read from the wake-up descriptor")
    wheels = le64(544, "wheels of timers that it drives; their addresses are at WHEELS")
    spin_most = le64(632, "the most that spin grows to")
    idle_since = le64(640, "cycle counter when it had nothing to do; see support.tired")
    nap_s = le64(616, "struct timespec: how long it is going to block")
    nap_ns = le64(624)
    SIZE = BINDINGS


def binding(index: int) -> int:
    """Offset of binding ``index``."""
    return BINDINGS + 8 * index
