"""The probe of shared-memory benches: which ends it makes, and what becomes of what it measured."""

from pathlib import Path

import pytest

from wirespeed.bench.port_probe import Stand, _echo


@pytest.mark.parametrize("layout", ["split", "packed"])
def test_the_guest_says_which_layout(layout: str) -> None:
    packed = "yes" if layout == "packed" else "no"
    for driver, far in (("virtio_user", "vhost_user"), ("vhost_user", "virtio_user")):
        stand = Stand(driver, layout, "")
        assert stand.far == far
        assert stand.spec("virtio_user", Path("/x")) == f"virtio_user:/x,packed={packed}"
        assert stand.spec("vhost_user", Path("/x")) == "vhost_user:/x"


def test_the_median_of_turns_and_of_their_ratios() -> None:
    samples = [([1.0, 10.0], [3.0, 10.0]), ([2.0, 20.0], [2.0, 30.0]), ([4.0, 40.0], [8.0, 40.0])]
    row = _echo("x {}, split", samples, 0, "testpmd")
    assert (row.metric, row.value, row.peer_value, row.ratio) == ("x echo at low load p50, split", 2.0, 3.0, 2.0)
    row = _echo("x {}, split", samples, 1, None)
    assert (row.metric, row.value, row.peer_value, row.ratio) == ("x echo at low load p99, split", 20.0, None, None)
