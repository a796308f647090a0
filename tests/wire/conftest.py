"""Cells of memory to put packets in, and the kernel that says where the parser found what."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wirespeed import jit
from wirespeed.mem.descriptor import CELL, HEADROOM, CellHeader, describe

HERE = Path(__file__).parent
if str(HERE) not in sys.path:
    sys.path.append(str(HERE))  # machine code is cached under its module's name, which must be importable


class Cells:
    """A few cells, alone in memory: an interpreted access outside them fails."""

    def __init__(self, count: int) -> None:
        self.memory = np.zeros(count * CELL + 64, dtype=np.uint8)
        self.base = (self.memory.ctypes.data + 63) & ~63
        self.count = count
        jit.register(self.base, count * CELL, "cells of a test")

    def put(self, data: bytes, cell: int = 0, offset: int = HEADROOM, flags: int = 0) -> int:
        """Lay a frame in a cell; gives its descriptor."""
        assert offset + len(data) <= CELL
        jit.write_bytes(self.base + cell * CELL + offset, bytes(data))
        return describe(cell, offset, len(data), flags)

    def read(self, desc: int) -> bytes:
        """The bytes of a descriptor, this cell's."""
        desc &= (1 << 64) - 1
        cell, offset, length = desc >> 12 & 0xFFFF_FFFF, desc & 0xFFF, desc >> 48
        return jit.read_bytes(self.base + cell * CELL + offset, length)

    def header(self, cell: int = 0) -> CellHeader:
        """The header line of a cell."""
        return CellHeader(self.base + cell * CELL)


@pytest.fixture
def cells():
    """Two cells."""
    made = Cells(2)
    yield made
    jit.unregister(made.base)


@pytest.fixture(scope="session")
def twin():
    """The module of ``places``: every attribute of a parsed packet, as plain numbers."""
    return importlib.import_module("wire_twin")


@pytest.fixture
def where(cells, twin):
    """``where(frame)``: what the parser finds, addresses as offsets from the first byte."""

    def look(data, offset=HEADROOM, flags=0):
        desc = cells.put(data, offset=offset, flags=flags)
        return dict(zip(twin.NAMES, twin.places(cells.base, desc), strict=True))

    return look


@pytest.fixture(scope="session")
def other_machine():
    """``other_machine(frames)``: what the parser finds in each, in a process that runs the other way."""

    def look(frames):
        path = os.pathsep.join([*sys.path, str(HERE)])
        env = {**os.environ, "NUMBA_DISABLE_JIT": "1" if jit.COMPILED else "0", "PYTHONPATH": path}
        lines = "".join(f"{frame.hex() or '-'}\n" for frame in frames)
        command = [sys.executable, "-c", "import wire_twin; wire_twin.main()"]
        run = subprocess.run(command, input=lines, capture_output=True, text=True, env=env)
        assert run.returncode == 0, run.stderr
        return [tuple(int(word) for word in line.split()) for line in run.stdout.splitlines()]

    return look
