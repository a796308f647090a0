"""The kernel's text formats; expected values from Documentation/admin-guide/cputopology.rst and by hand."""

import pytest

from wirespeed.eal import sysfs


@pytest.mark.parametrize(
    ("listing", "cores"),
    [
        ("", ()),
        ("0", (0,)),
        ("0-3", (0, 1, 2, 3)),
        ("2,4-6,8", (2, 4, 5, 6, 8)),
        ("0-1,0", (0, 1)),
        ("0-7:2/4", (0, 1, 4, 5)),
        ("(null)", ()),
    ],
)
def test_cpulist(listing, cores):
    assert sysfs.cpulist(listing) == cores


@pytest.mark.parametrize(
    ("cores", "listing"),
    [((), "none"), ((5,), "5"), ((0, 1, 2, 8), "0-2,8"), ((3, 1), "1,3")],
)
def test_ranges(cores, listing):
    assert sysfs.ranges(cores) == listing


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (2 << 20, "2 MiB"), (3 << 29, "1.5 GiB"), (1 << 50, "1024 TiB")],
)
def test_bytes_text(size, text):
    assert sysfs.bytes_text(size) == text


def test_absent_files_are_defaults(tmp_path):
    assert sysfs.text(tmp_path / "none", "-") == "-"
    assert sysfs.number(tmp_path / "none") == -1
    assert sysfs.names(tmp_path / "none") == []
    assert sysfs.cores(tmp_path / "none") == ()
    assert sysfs.chosen(tmp_path / "none") == ""


def test_chosen(tmp_path):
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    assert sysfs.chosen(tmp_path / "enabled") == "madvise"
