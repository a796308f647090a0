"""What ``wirespeed collect`` refuses before anything is opened: one message, exit code 2."""

import pytest

from wirespeed.apps.collector.parquet import Parquet
from wirespeed.cli import main


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--flows"], "say where with --parquet DIR"),
        (["--prometheus", "9100"], "must be [HOST]:PORT"),
        (["--prometheus", ":70000"], "must be [HOST]:PORT"),
        (["--exporters", "10.0.0.1/8"], "is no prefix"),
        (["--netflow", "4739"], "is taken"),
        (["--parquet", "/proc/none"], "Parquet folder"),
        (["--prometheus", "192.0.2.77:9100"], "choose another port"),
    ],
)
def test_refused(capsys, options, said):
    with pytest.raises(SystemExit) as ended:
        main(["collect", "null:", "--address", "10.7.0.1/24", *options])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


def test_a_library_that_is_missing(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(Exception, match=r"pip install 'wirespeed\[collector\]'"):
        Parquet(tmp_path)
