"""The folders are layers: what imports what is held by the contracts in pyproject.toml."""

from pathlib import Path

from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]


def test_imports_point_one_way(monkeypatch, capsys):
    """The same check as the command ``lint-imports``; what it prints says which import is wrong."""
    monkeypatch.chdir(ROOT)
    result = lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True, no_logo=True)
    assert result == 0, capsys.readouterr().out
