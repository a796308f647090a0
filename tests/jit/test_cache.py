"""Machine code on disk: found by the next process, not found once a source has changed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import wirespeed
from wirespeed.jit import COMPILED

PACKAGE = Path(wirespeed.__file__).parent

PROGRAM = """
import warnings
warnings.filterwarnings("error", "Cannot cache compiled function")
from wirespeed.jit import CACHE_DIRECTORY, View, be16, inline, kernel, python_function

class Pair(View):
    first = be16(0)
    second = be16(2)

    @property
    def total(self):
        return self.first + self.second

@inline
def twice(value):
    return value * 2

@kernel
def work(at):
    return twice(Pair(at).total) if at else 0

work(0)
print(CACHE_DIRECTORY.name, sum(work.stats.cache_hits.values()), sum(work.stats.cache_misses.values()))
"""


def run(program, cache, package=PACKAGE, **environment):
    """The words a program prints, in a process of its own."""
    env = {**os.environ, "WIRESPEED_CACHE": str(cache), "PYTHONPATH": str(package.parent), **environment}
    done = subprocess.run([sys.executable, str(program)], capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@pytest.fixture
def program(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    return path


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_the_second_process_finds_the_machine_code(program, tmp_path):
    first = run(program, tmp_path / "cache")
    second = run(program, tmp_path / "cache")
    assert first[1:] == ["0", "1"]
    assert second == [first[0], "1", "0"]


def test_the_directory_changes_with_any_source(program, tmp_path):
    program.write_text("from wirespeed.jit import CACHE_DIRECTORY; print(CACHE_DIRECTORY)")
    package = tmp_path / "copy" / "wirespeed"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    before = run(program, tmp_path / "cache", package)
    assert run(program, tmp_path / "cache", package) == before
    with (package / "wire" / "udp.py").open("a") as source:
        source.write("# an edit far from jit\n")
    after = run(program, tmp_path / "cache", package)
    assert after != before
    (package / "wire" / "another.py").write_text("")
    assert run(program, tmp_path / "cache", package) not in (before, after)


def test_old_directories_go(program, tmp_path):
    program.write_text("from wirespeed.jit import CACHE_DIRECTORY; print(CACHE_DIRECTORY)")
    cache = tmp_path / "cache"
    for age in range(9):
        (cache / f"old{age}").mkdir(parents=True)
        stamp = cache / f"old{age}" / "stamp"
        stamp.write_text("")
        os.utime(stamp, (age, age))
    mine = Path(run(program, cache)[0])
    assert sorted(path.name for path in cache.iterdir()) == sorted(["old4", "old5", "old6", "old7", "old8", mine.name])


def test_an_unwritable_cache_is_no_error(program, tmp_path):
    program.write_text("from wirespeed.jit import CACHE_DIRECTORY; print(CACHE_DIRECTORY)")
    taken = tmp_path / "a file"
    taken.write_text("")
    place = run(program, taken, TMPDIR=str(tmp_path))[0]
    assert Path(place).name.startswith("wirespeed-")


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to give its rights up")
def test_a_process_that_may_not_write_compiles_all_the_same(tmp_path):
    program = tmp_path / "program.py"
    before = "import os\n@kernel\ndef warm(at):\n    return at + 1\nwarm(1)\n"  # the compiler's modules are loaded
    without = "os.setgid(65534)\nos.setuid(65534)\nprint(work(0))\n"
    program.write_text(PROGRAM.replace("work(0)\n", before + without, 1))
    assert run(program, tmp_path / "cache")[0] == "0"
    assert run(program, tmp_path / "cache")[0] == "0"
