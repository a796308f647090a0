"""Every example of the README and of docs/ runs as it is printed.

A page's blocks run from top to bottom in one folder of their own, which holds the captures that
docs/tutorial/captures.py writes and a link to ``examples``. The Python blocks of a page share their names, as in a
notebook. A comment in the line above a block says what else to do with it:

    <!-- file: NAME -->         write the block to the file NAME instead of running it
    <!-- prints -->             the block above must have printed this; ``...`` stands for anything
    <!-- needs root -->         run it only as root
    <!-- not run: REASON -->    do not run it; the test is skipped with the reason

Of the rest, ``python`` and ``sh`` blocks run, others are only shown.
"""

import contextlib
import doctest
import io
import linecache
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import wirespeed

ROOT = Path(__file__).parents[2]
FOLDERS = ("docs/tutorial", "docs/howto")
PAGES = [ROOT / "README.md", *(page for folder in FOLDERS for page in sorted((ROOT / folder).glob("*.md")))]
_FENCE = re.compile(r"^(?:<!-- (?P<mark>.+?) -->\n)?```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^```$", re.M | re.S)
_MARKS = ("file: ", "not run: ", "prints", "needs root")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: Path
    line: int  # of its first line of text
    mark: str
    language: str
    text: str

    @property
    def why_not(self) -> str:
        """Why it is not run here; empty if it is."""
        if self.mark == "needs root" and os.geteuid() != 0:
            return "needs root"
        return self.mark.removeprefix("not run: ") if self.mark.startswith("not run: ") else ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: Path) -> list[Block]:
    """The blocks of a page, in order."""
    text = page.read_text()
    found = []
    for match in _FENCE.finditer(text):
        line = text.count("\n", 0, match.start("text")) + 1
        found.append(Block(page, line, match["mark"] or "", match["language"], match["text"]))
    return found


SHOWN_ONLY = [block for page in PAGES for block in blocks(page) if block.why_not]


@pytest.fixture(scope="session")
def captures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tutorial's captures."""
    folder = tmp_path_factory.mktemp("captures")
    with contextlib.chdir(folder):
        runpy.run_path(str(ROOT / "docs" / "tutorial" / "captures.py"), run_name="__main__")
    return folder


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the commands ``wirespeed`` and ``python`` of the interpreter that runs the tests."""
    folder = tmp_path_factory.mktemp("commands")
    sources = Path(wirespeed.__file__).parents[1]
    start = f'#!/bin/sh\nexport PYTHONPATH="{sources}${{PYTHONPATH:+:$PYTHONPATH}}"\nexec "{sys.executable}"'
    main = "-c \"import sys; sys.argv[0] = 'wirespeed'; from wirespeed.cli import main; main()\""
    for name, arguments in (("python", ""), ("wirespeed", main)):
        (folder / name).write_text(f'{start} {arguments} "$@"\n')
        (folder / name).chmod(0o755)
    return folder


@pytest.fixture
def place(tmp_path: Path, captures: Path, commands: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where a page's blocks run."""
    for capture in captures.iterdir():
        shutil.copy(capture, tmp_path)
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONBREAKPOINT", "0")
    yield tmp_path
    linecache.checkcache()


def run_python(block: Block, place: Path, names: dict[str, Any]) -> str:
    """Run a block in ``names``. Its lines have the numbers they have on the page; it is a file, as nodes want."""
    path = place / f"{block.page.stem}_{block.line}.py"
    path.write_text("\n" * (block.line - 1) + block.text)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(path.read_text(), str(path), "exec"), names)
    return printed.getvalue()


def run_shell(block: Block, place: Path) -> str:
    """Run a block in a shell that stops at the first command that fails."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        cwd=place, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=580,
    )  # fmt: skip
    assert done.returncode == 0, f"{block}: exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def matches(expected: str, printed: str) -> bool:
    """Whether that is what was printed, where ``...`` stands for anything."""
    return doctest.OutputChecker().check_output(expected.strip() + "\n", printed.strip() + "\n", doctest.ELLIPSIS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page(page: Path, place: Path) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    printed = ""
    for block in blocks(page):
        assert not block.mark or block.mark.startswith(_MARKS), f"{block}: no such mark: {block.mark}"
        if block.why_not:
            printed = ""
        elif block.mark.startswith("file: "):
            (place / block.mark.removeprefix("file: ")).write_text(block.text)
        elif block.mark == "prints":
            assert matches(block.text, printed), f"{block}: printed is\n{printed}"
        elif block.language == "python":
            printed = run_python(block, place, names)
        elif block.language == "sh":
            printed = run_shell(block, place)


@pytest.mark.parametrize("block", SHOWN_ONLY, ids=str)
def test_block_is_only_shown(block: Block) -> None:
    pytest.skip(f"only shown: {block.why_not}")
