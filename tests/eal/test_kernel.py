"""Kernel probes: they leave nothing behind, and refusals carry a remedy."""

import os
import platform
import socket

import pytest

from wirespeed.eal import kernel


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc", (6, 18)),
        ("5.10.0", (5, 10)),
        ("6.1-rc3", (6, 1)),
        ("4.19.0-25-amd64", (4, 19)),
        ("7.0+", (7, 0)),
    ],
)
def test_version(monkeypatch, release, version):
    monkeypatch.setattr(platform, "release", lambda: release)
    assert kernel.version() == version


def test_probes_close_what_they_open():
    before = os.listdir("/proc/self/fd")
    names = [feature.name for feature in kernel.features()]
    assert os.listdir("/proc/self/fd") == before
    assert names == ["AF_PACKET", "TUN/TAP", "AF_XDP", "BPF", "io_uring"]


def test_what_does_not_work_has_a_reason_and_what_works_has_none():
    for feature in kernel.features():
        assert feature.works == (feature.why_not == "")
        assert not (feature.works and feature.remedy)


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        (PermissionError(1, "no"), "CAP_NET_RAW"),
        (OSError(97, "no"), "CONFIG_XDP_SOCKETS"),
    ],
)
def test_refused_sockets(monkeypatch, error, remedy):
    def refuse(*_):
        raise error

    monkeypatch.setattr(socket, "socket", refuse)
    found = kernel.af_xdp()
    assert not found.works
    assert remedy in found.remedy


def test_tun_agrees_with_the_device_file():
    assert kernel.tun().works <= os.path.exists("/dev/net/tun")
