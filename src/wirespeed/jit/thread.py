"""Who runs this: the process, the thread; and giving the core away. System calls of some 50 to 100 ns each."""

import os
import threading

from wirespeed.jit.libc import _narrow


@_narrow("getpid", 0)
def getpid() -> int:
    """getpid(2): the process."""
    return os.getpid()


@_narrow("gettid", 0)
def gettid() -> int:
    """gettid(2): the thread, as the kernel numbers it."""
    return threading.get_native_id()


@_narrow("sched_yield", 0)
def sched_yield() -> int:
    """sched_yield(2): another thread of the same priority may have this core now."""
    os.sched_yield()
    return 0
