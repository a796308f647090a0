"""Parts that are kept on disk: found by another process, never taken for something else.

Each test runs small programs in processes of their own with a cache of their own. What a kernel returns is compared
with the same Python function run by the interpreter.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wirespeed.jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")

_WATCH = """
import json, sys
from wirespeed.jit import View, inline, kernel, part, be16
lowered = []
run = part.PartLowering.run_pass
def watched(self, state):
    lowered.append(state.func_id.func_qualname)
    return run(self, state)
part.PartLowering.run_pass = watched
from wirespeed.hashes.internet import fold, sum_inside
from wirespeed.mem.region import Region
"""

_SAY = """
with Region(4096, "kept", huge=False) as memory:
    for at in range(64):
        __import__("ctypes").c_uint8.from_address(memory.address + at).value = at * 7 & 255
    print(json.dumps([go(memory.address, 33), lowered, go.py_func(memory.address, 33)]))
"""

_SUM = """
@kernel
def go(address, length):
    return fold(sum_inside(address, length))
"""


def _run(tmp_path: Path, body: str, name: str = "program") -> tuple[int, list[str]]:
    """Run a program; what its kernel returned (as its interpreted twin did), and which parts were compiled."""
    file = tmp_path / f"{name}.py"
    file.write_text(_WATCH + body + _SAY)
    environment = {**os.environ, "WIRESPEED_CACHE": str(tmp_path / "cache")}
    ended = subprocess.run([sys.executable, str(file)], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]
    compiled, lowered, interpreted = json.loads(ended.stdout)
    assert compiled == interpreted
    return compiled, lowered


def test_another_kernel_in_another_process_finds_the_parts(tmp_path: Path) -> None:
    first, compiled = _run(tmp_path, _SUM)
    assert {"fold", "sum_inside"} <= set(compiled)
    second, again = _run(tmp_path, _SUM.replace("return", "return 1 +"), "other")
    assert (second, again) == (first + 1, [])


def test_parts_of_who_uses_the_kit_are_compiled_anew(tmp_path: Path) -> None:
    """Their source is not in the name of the cache's directory."""
    mine = """
@inline
def mine(value):
    return fold(value) + NUMBER
class Two(View):
    number = be16(0)
    SIZE = 2
    def twice(self):
        return self.number * 2
@kernel
def go(address, length):
    return mine(sum_inside(address, length)) + Two(address).twice()
"""
    first, _ = _run(tmp_path, "NUMBER = 5\n" + mine)
    second, again = _run(tmp_path, "NUMBER = 7\n" + mine, "other")
    assert second == first + 2
    assert sorted(again) == ["Two.twice", "mine"]


def test_two_views_of_one_name_stay_two(tmp_path: Path) -> None:
    """Classes that are made, as a per-worker record's are, may share a name."""
    body = """
def make(offset):
    class Word(View):
        value = be16(offset)
        SIZE = offset + 2
        def got(self):
            return fold(self.value) + offset
    return Word
A, B = make(0), make(ORDER)
@kernel
def go(address, length):
    return A(address).got() * 65536 * 16 + B(address).got()
"""
    for number, order in enumerate((2, 8, 2)):
        _run(tmp_path, body.replace("ORDER", str(order)), f"order{number}")


@pytest.mark.parametrize("harm", ["cut", "empty", "nonsense"])
def test_a_broken_file_is_compiled_over(tmp_path: Path, harm: str) -> None:
    first, _ = _run(tmp_path, _SUM)
    files = list((tmp_path / "cache").glob("*/parts/*"))
    assert len(files) >= 2
    for file in files:
        text = file.read_bytes()
        file.write_bytes({"cut": text[: len(text) // 2], "empty": b"", "nonsense": b"no pickle"}[harm])
    second, again = _run(tmp_path, _SUM.replace("return", "return 1 +"), "other")
    assert second == first + 1
    assert {"fold", "sum_inside"} <= set(again)


def test_a_folder_that_cannot_be_made_is_no_error(tmp_path: Path) -> None:
    block = 'import wirespeed.jit.cache as cache; (cache.DIRECTORY / "parts").write_text("in the way")\n'
    first, _ = _run(tmp_path, block + _SUM)
    second, again = _run(tmp_path, _SUM.replace("return", "return 1 +"), "other")
    assert second == first + 1
    assert {"fold", "sum_inside"} <= set(again)
