"""wirespeed dns: what it says of zone files that cannot be, before anything is opened."""

import pytest

from wirespeed.cli import main

SOA = "$ORIGIN a.\n$TTL 60\n@ SOA ns h 1 2 3 4 5\n@ NS ns\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{SOA}x A 192.0.2.1.1\n", "{file}:5: Text input is malformed: x A 192.0.2.1.1"),
        (f"{SOA}x A 192.0.2.1\nx CNAME y\n", "{file}:6: x.a. has a CNAME record and others, RFC 1034 section 3.6.2"),
        ("", "{file}: no SOA record: this is no zone"),
    ],
)
def test_errors_of_zones(tmp_path, capsys, text, said):
    file = tmp_path / "zone"
    file.write_text(text)
    with pytest.raises(SystemExit) as ended:
        main(["dns", "null:", "--address", "10.7.0.1/24", "--zone", str(file)])
    assert ended.value.code == 2
    assert capsys.readouterr().err == f"wirespeed: {said.format(file=file)}\n"


def test_origins(tmp_path, capsys):
    file = tmp_path / "zone"
    file.write_text(SOA.partition("\n")[2])
    for given in (f"exa..mple={file}", f"{tmp_path}/absent"):
        with pytest.raises(SystemExit) as ended:
            main(["dns", "null:", "--address", "10.7.0.1/24", "--zone", given])
        assert ended.value.code == 2
    assert "is no name" in capsys.readouterr().err
