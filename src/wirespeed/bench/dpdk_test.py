"""DPDK's own tests as the peer of the benches of libraries: Debian's ``dpdk-test``, ``-fib`` and ``-acl``.

``dpdk-test`` is one program with a prompt, at which the name of an autotest runs it; it prints its figures
as text, in TSC cycles mostly. :func:`run` starts it for one autotest and gives the text::

    text = run("lpm_perf_autotest", timeout_s=120)
    cost = figures(text, add=r"Average LPM Add: ([\\d.]+) cycles", delete=r"Average LPM Delete: ([\\d.]+) cycles")
    cost["add"]

A bench takes turns with it: :func:`recall` gives the text of the n-th turn and runs the autotest only if that
turn has not been, so that several rows share the turns of one autotest.

Nothing is left behind: memory is anonymous (``--in-memory``), EAL's folder of sockets is put into a folder of
ours that is removed, and the process is ended by its id, also when we are interrupted. What each autotest
prints, needs and takes is in bench/README.md.

References: doc.dpdk.org/guides-22.11: linux_gsg/linux_eal_parameters; lib/eal/common/eal_common_config.c and
lib/eal/linux/eal.c (``RUNTIME_DIRECTORY``).
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from functools import cache

from wirespeed.bench.errors import BenchError
from wirespeed.bench.prompt import Prompt
from wirespeed.bench.testpmd import huge_pages_free, version

__all__ = ["figures", "peer", "program", "recall", "run", "section", "version"]

log = logging.getLogger("wirespeed.bench")

_PROMPT = "RTE>>"
_MIB_PER_PAGE = 2
_OUTCOME = re.compile(r"^Test (OK|Failed|Skipped)", re.MULTILINE)

_turns: dict[tuple[object, ...], list[str]] = {}


def run(
    command: str,
    *,
    timeout_s: float = 300.0,
    cores: Sequence[int] | None = None,
    until: str | None = None,
    options: Sequence[str] = (),
    memory_mib: int = 1024,
    idle_main: bool = False,
    before: Callable[[int], None] | None = None,
    progress: Callable[[str], None] | None = None,
    binary: str = "dpdk-test",
) -> str:
    """Run one autotest; all that it printed.

    Arguments:
        command: the autotest, such as ``"ring_perf_autotest"``.
        timeout_s: how long it may take.
        cores: which CPU each lcore is pinned to; lcore 0, the main one, runs the tests that need one core. The
            same CPU may stand for several lcores. Default: the last CPU this process may use, where the benches
            measure, then the first.
        until: stop as soon as this pattern is found in the output (each line by itself) and end the process.
        options: more options of EAL.
        memory_mib: memory that EAL takes at the start; of huge pages if so many are free, and else a warning
            is logged, since the peer is not at its best then.
        idle_main: the main lcore only waits for the others, which it does by spinning: give its thread what
            nobody else wants (SCHED_IDLE), so that another lcore may have its core.
        before: told the process's id when it is ready, before the autotest starts.
        progress: told each line as it comes.

    Raises BenchError when the program is missing, the autotest does not exist, fails, skips itself or takes
    too long; the message has the last lines it printed.
    """
    stop = None if until is None else re.compile(until, re.MULTILINE)
    with tempfile.TemporaryDirectory(prefix="wirespeed-dpdk-") as folder:
        started = _command(binary, folder, cores, options, memory_mib)
        with Prompt(started, _PROMPT, timeout_s, environment=_environment(folder), progress=progress) as prompt:
            prompt.read()
            if idle_main:
                os.sched_setscheduler(prompt.child.pid, os.SCHED_IDLE, os.sched_param(0))
            if before is not None:
                before(prompt.child.pid)
            text = prompt.ask(command, stop)
            if stop is not None and stop.search(text):
                prompt.end(polite=False)
                return text
    outcome = _OUTCOME.search(text)
    if stop is not None:
        raise BenchError(f"{binary} {command}: ended before {until!r} was found; it last said: {_tail(text)}")
    if outcome is None:
        raise BenchError(f"{binary} has no {command!r}; it said: {_tail(text)}")
    if outcome[1] != "OK":
        raise BenchError(f"{binary} {command}: {outcome[1].lower()}; it last said: {_tail(text[: outcome.start()])}")
    return text


def recall(command: str, turn: int = 0, **settings: object) -> str:
    """What autotest `command` printed in its `turn`-th run (from 0) with these settings of :func:`run`.

    It is run only if it has not been run that often, so the rows of one bench share its turns.
    """
    settings.setdefault("cores", None)
    progress = settings.pop("progress", None)
    key = (command, *sorted((name, str(value)) for name, value in settings.items()))
    texts = _turns.setdefault(key, [])
    while len(texts) <= turn:
        texts.append(run(command, progress=progress, **settings))  # type: ignore[arg-type]
    return texts[turn]


def program(
    name: str,
    arguments: Sequence[str] = (),
    *,
    timeout_s: float = 300.0,
    cores: Sequence[int] | None = None,
    options: Sequence[str] = (),
    memory_mib: int = 1024,
    progress: Callable[[str], None] | None = None,
) -> str:
    """Run ``dpdk-test-fib``, ``dpdk-test-acl`` or another program of DPDK to its end; all that it printed.

    `arguments` are the program's own (after ``--``); the rest is as for :func:`run`.
    """
    with tempfile.TemporaryDirectory(prefix="wirespeed-dpdk-") as folder:
        started = [*_command(name, folder, cores, options, memory_mib), "--", *arguments]
        with Prompt(started, "\0", timeout_s, environment=_environment(folder), progress=progress) as child:
            return child.rest()


def figures(text: str, /, **patterns: str) -> dict[str, float]:
    """Named numbers out of `text`: for each name the group of its pattern's first match.

    ``figures("Average LPM Add: 812.5 cycles", add=r"LPM Add: ([\\d.]+)")`` is ``{"add": 812.5}``. ``^`` and
    ``$`` stand for the ends of lines, and thousands separators are understood. Raises BenchError that names the
    pattern which is not there or whose group is not a number.
    """
    found = {}
    for name, pattern in patterns.items():
        match = re.search(pattern, text, re.MULTILINE)
        if match is None:
            raise BenchError(f"no figure {name!r} ({pattern}) in what the peer said: {_tail(text)}")
        try:
            found[name] = float(match[1].replace(",", ""))
        except ValueError:
            raise BenchError(f"figure {name!r} ({pattern}) is {match[1]!r}, not a number") from None
    return found


def section(text: str, begin: str, end: str | None = None) -> str:
    """The part of `text` after the line that has pattern `begin`, up to the next that has `end`, or to the end.

    For autotests that print the same lines once for each of several settings.
    """
    first = re.search(rf".*(?:{begin}).*\n?", text, re.MULTILINE)
    if first is None:
        raise BenchError(f"no section {begin!r} in what the peer said: {_tail(text)}")
    rest = text[first.end() :]
    last = re.search(rf".*(?:{end}).*", rest, re.MULTILINE) if end is not None else None
    return rest if last is None else rest[: last.start()]


@cache
def peer(command: str) -> str:
    """The peer's name in a row: ``DPDK 22.11.11 lpm_perf_autotest``."""
    return f"{version('dpdk-test')} {command}"


def _command(
    binary: str, folder: str, cores: Sequence[int] | None, options: Sequence[str], memory_mib: int
) -> list[str]:
    """The program and EAL's options."""
    found = shutil.which(binary)
    if found is None:
        raise BenchError(f"{binary}: not found, so DPDK cannot be the peer; apt install dpdk-dev")
    allowed = sorted(os.sched_getaffinity(0))
    chosen = tuple(cores or dict.fromkeys((allowed[-1], allowed[0])))
    if not set(chosen) <= set(allowed):
        raise BenchError(f"{binary}: cores {chosen} are not all among those this process may use: {allowed}")
    memory = ["--in-memory"]
    if huge_pages_free() * _MIB_PER_PAGE < memory_mib:
        log.warning("%s runs without huge pages (%d MiB are not free) and is not at its best", binary, memory_mib)
        memory = ["--no-huge", "--no-shconf"]  # the two exclude each other
    lcores = ",".join(f"{lcore}@{core}" for lcore, core in enumerate(chosen))
    return [
        found, "--no-pci", *memory, "-m", str(memory_mib), "--no-telemetry", "--lcores", lcores,
        "--file-prefix", os.path.basename(folder), *options,
    ]  # fmt: skip


def _environment(folder: str) -> dict[str, str]:
    """EAL makes a folder for its sockets even if it needs none: in `folder`, not in /var/run/dpdk."""
    return {**os.environ, "RUNTIME_DIRECTORY": folder}


def _tail(text: str) -> str:
    return " | ".join(line.strip() for line in text.splitlines()[-6:] if line.strip()) or "nothing"
