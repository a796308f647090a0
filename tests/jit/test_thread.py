"""Who runs a kernel, and the fences of one direction: compiled and as plain Python."""

import os
import threading

import pytest

from wirespeed.jit import COMPILED, fence_acquire, fence_release, getpid, gettid, kernel, sched_yield


@kernel
def who():
    fence_acquire()
    fence_release()
    return getpid(), gettid(), sched_yield()


@pytest.mark.parametrize("call", [who, who.py_func if COMPILED else who], ids=["kernel", "python"])
def test_the_process_the_thread_and_a_yield(call):
    assert tuple(call()) == (os.getpid(), threading.get_native_id(), 0)
    told = []
    thread = threading.Thread(target=lambda: told.append((tuple(call()), threading.get_native_id())))
    thread.start()
    thread.join()
    (pid, tid, _), native = told[0]
    assert (pid, tid) == (os.getpid(), native)


@pytest.mark.skipif(not COMPILED, reason="interpreted")
def test_a_fence_of_one_direction_is_no_instruction():
    assert "mfence" not in next(iter(who.inspect_asm().values()))
