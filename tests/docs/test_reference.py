"""The reference is made from the code: it has every public name, port, option, header field and command."""

import dataclasses
import importlib
import runpy
from pathlib import Path

import pytest

import wirespeed
from wirespeed.ports.port import KINDS
from wirespeed.wire.header import Header

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pages() -> dict[str, str]:
    """The pages by name."""
    made: dict[str, str] = runpy.run_path(str(ROOT / "docs" / "gen_reference.py"))["pages"]()
    return made


@pytest.mark.parametrize("name", wirespeed.__all__)
def test_public_name(pages, name):
    assert f"\n## {name} {{ #" in pages["api.md"]


@pytest.mark.parametrize("kind", KINDS)
def test_port_and_its_options(pages, kind):
    module, _, name = KINDS[kind].partition(":")
    driver = getattr(importlib.import_module(module), name)
    section = pages["ports.md"].partition(f"\n## {kind}\n")[2].partition("\n## ")[0]
    for field in dataclasses.fields(driver.Options):
        assert f"| `{field.name}`" in section
        assert field.metadata["doc"], f"option {field.name} of {kind} says nothing of itself"


@pytest.mark.parametrize("name", [n for n in wirespeed.__all__ if isinstance(getattr(wirespeed, n), type)])
def test_header_and_its_fields(pages, name):
    kind = getattr(wirespeed, name)
    if issubclass(kind, Header) and kind.FOUND:
        section = pages["headers.md"].partition(f"\n## {name}\n")[2].partition("\n## ")[0]
        assert all(f"| `{field}` |" in section for field in kind.fields)


def test_bits_are_counted_as_in_the_diagrams(pages):
    ipv4 = pages["headers.md"].partition("\n## Ipv4\n")[2]
    assert "| `ihl` | bits 4 to 7 |" in ipv4
    assert "| `dont_fragment` | bit 49 |" in ipv4
    assert "| `dst` | bytes 16 to 19 |" in ipv4


@pytest.mark.parametrize("command", ["demo", "run", "bench", "doctor", "devices", "inspect"])
def test_command(pages, command):
    assert f"\n## wirespeed {command}\n" in pages["cli.md"]


def test_every_page_is_in_the_navigation(pages):
    navigation = (ROOT / "mkdocs.yml").read_text()
    assert all(f"reference/{name}" in navigation for name in pages)
