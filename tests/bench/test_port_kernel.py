"""The load and the probe of the benches of af_packet and tap are what they say."""

import os
import socket

import pytest

from wirespeed.bench import port_rows
from wirespeed.bench.errors import BenchError
from wirespeed.bench.port_echo import percentiles
from wirespeed.bench.port_load import Load
from wirespeed.bench.port_turns import Nothing
from wirespeed.bench.veths import Veths
from wirespeed.jit import COMPILED
from wirespeed.ports.netdev import within

pytestmark = pytest.mark.skipif(os.geteuid() != 0 or not COMPILED, reason="needs root and the compiler")


def test_the_load_has_its_flows_and_goes_on_after_a_pause():
    frame = port_rows.frame(port_rows.SMALL)
    with Veths() as veths, Load(veths.left, "eth0", frame, min(os.sched_getaffinity(0)), flows=3) as load:
        heard = within(veths.middle, lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)))
        with heard:
            heard.bind(("left", 3))
            heard.settimeout(20)
            for _ in range(3):
                load.on()
                seen = {heard.recv(2048)[34:36] for _ in range(200)}
                load.off()
                assert seen == {b"\x04\x00", b"\x04\x01", b"\x04\x02"}


def test_an_echo_that_never_answers_is_said():
    with Veths() as veths, pytest.raises(BenchError, match="20 of 20 echoes"):
        percentiles(veths.left, "eth0", port_rows.frame(port_rows.SMALL), 20, (0.5,))


def test_no_source_is_one():
    Nothing().on()
    Nothing().off()
