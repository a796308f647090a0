"""What the bench of services says of its own figures: who was the bound, the spread of turns, which are disturbed."""

import os
import time

import numpy as np

from wirespeed.bench.port_echo import cpu_s, waited_s
from wirespeed.bench.port_memif import Turn
from wirespeed.bench.serve_client import Asked, shown
from wirespeed.bench.serve_latency import Latencies, overlapping
from wirespeed.bench.serve_veth import _bounds, _spread


def test_a_server_that_answers_whatever_is_asked_is_bound_by_its_client() -> None:
    rates = {"ours": [495.0, 490.0, 500.0], "mmsg": [240.0, 250.0, 245.0]}
    asked = {"ours": [500.0, 500.0, 501.0], "mmsg": [500.0, 400.0, 600.0]}
    assert _bounds(rates, asked) == "ours 495 of 500 (bound by the client), mmsg 245 of 500 (bound by the server)"


def test_the_spread_is_every_turn_and_what_had_no_answer() -> None:
    turns = [Latencies([9.5, 100.0], 0), Latencies([10.5, 390.25], 3, 0.02)]
    assert _spread(turns) == (
        "p50 9.5/10.5, p99.9 100.0/390.2 us; 3 probes without an answer, 1.0% left out: the prober stood still"
    )


def test_a_probe_that_was_under_way_while_the_prober_stood_still_is_known() -> None:
    away = np.array([[100, 200], [300, 310]])
    first = np.array([0, 50, 150, 201, 250, 305, 311])
    last = np.array([99, 100, 160, 299, 400, 306, 999])
    assert overlapping(first, last, away).tolist() == [False, True, True, False, True, True, False]
    assert not overlapping(first, last, away[:0]).any()


def test_a_turn_in_which_others_had_the_core_says_so() -> None:
    quiet, disturbed = Asked(9.72e6, 55, 60, 0.0012, 0.001), Asked(1e6, 250, 250, 0.5, 0.44)
    assert shown([quiet, disturbed, Turn(2e6, 1, 2)]) == (
        "9.72 M/s (55/60 ns), 0.1% lost, 1.00 M/s (250/250 ns), 50.0% lost, disturbed: waited 44% for its core, "
        "2.00 M/s (1/2 ns)"
    )


def test_time_on_a_core_is_not_time_waited_for_one() -> None:
    before, waited, until = cpu_s(), waited_s(os.getpid()), time.monotonic() + 10
    while cpu_s() == before and time.monotonic() < until:  # it is counted when the scheduler looks
        pass
    assert cpu_s() > before
    assert waited_s() >= waited
