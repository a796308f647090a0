"""What drivers say that they can do with XDP, of interfaces that every kernel has."""

import os
import subprocess

import pytest

from wirespeed.eal.kernel import version
from wirespeed.eal.xdp_features import XdpFeatures, xdp_features

asks = pytest.mark.skipif(version() < (6, 3), reason="the kernel is older than 6.3 and does not say")


@asks
def test_loopback_has_none():
    assert xdp_features("lo") == XdpFeatures.NONE


@asks
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make an interface")
def test_a_veth_is_native():
    name = f"ws{os.getpid()}x"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}y"], check=True)
    try:
        found = xdp_features(name)
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)
    assert found is not None
    assert XdpFeatures.BASIC in found
    assert XdpFeatures.REDIRECT in found


def test_no_such_interface():
    with pytest.raises(OSError, match="no interface with this name"):
        xdp_features("nosuch0")
