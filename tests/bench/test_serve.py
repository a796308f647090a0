"""What the bench of services says of its own figures: who was the bound, the spread of turns, which are disturbed."""

import time

import numpy as np
import pytest

from wirespeed.bench import serve_client
from wirespeed.bench.port_echo import cpu_s
from wirespeed.bench.port_memif import Turn
from wirespeed.bench.serve_client import Asked, shown
from wirespeed.bench.serve_late import spread
from wirespeed.bench.serve_latency import Latencies, overlapping, until_answered, until_back
from wirespeed.bench.serve_veth import _bounds


def test_a_server_that_answers_whatever_is_asked_is_bound_by_its_client() -> None:
    rates = {"ours": [495.0, 490.0, 500.0], "mmsg": [240.0, 250.0, 245.0]}
    asked = {"ours": [500.0, 500.0, 501.0], "mmsg": [500.0, 400.0, 600.0]}
    assert _bounds(rates, asked) == "ours 495 of 500 (bound by the client), mmsg 245 of 500 (bound by the server)"


def test_the_spread_is_every_turn_and_what_was_left_out() -> None:
    quiet = Latencies([9.5, 100.0], 0, undisturbed=[9.5, 80.0])
    disturbed = Latencies([10.5, 390.25], 3, 0.02, 0.01, [10.0, 90.0])
    assert spread([quiet, disturbed]) == (
        "p50 9.5/10.5, p99.9 100.0/390.2 us, 80.0/90.0 while it had its core (0.50% while it had not); 3 probes "
        "without an answer, 1.0% left out: the prober stood still"
    )


def test_a_probe_that_was_under_way_while_the_prober_stood_still_is_known() -> None:
    away = np.array([[100, 200], [300, 310]])
    first = np.array([0, 50, 150, 201, 250, 305, 311])
    last = np.array([99, 100, 160, 299, 400, 306, 999])
    assert overlapping(first, last, away).tolist() == [False, True, True, False, True, True, False]
    assert not overlapping(first, last, away[:0]).any()


def test_who_comes_while_a_core_stands_still_waits_until_it_looks_again() -> None:
    away = np.array([[100, 200], [300, 310]])
    comes = np.array([99, 100, 150, 200, 299, 305, 310, 999])
    assert until_back(comes, away).tolist() == [0, 100, 50, 0, 0, 5, 0, 0]
    assert not until_back(comes, away[:0]).any()


def test_a_turn_whose_cores_were_far_apart_is_repeated_and_told(monkeypatch: pytest.MonkeyPatch) -> None:
    turns = [Asked(5e6, 60, 250, 0.1, 0.0), Asked(6e6, 250, 60, 0.1, 0.0), Asked(9e6, 60, 55, 0.1, 0.0)]
    waiting = iter(turns)
    monkeypatch.setattr(serve_client, "_turn_over_memif", lambda *_: next(waiting))
    found = serve_client.over_memif(lambda service: None, "udp", [], 1)
    assert (found.rate, found.instead) == (9e6, tuple(turns[:2]))
    assert str(found) == (
        "9.00 M/s (60/55 ns), 10.0% lost, instead of 5.00 M/s (60/250 ns), 10.0% lost, 6.00 M/s (250/60 ns), 10.0% lost"
    )


def test_cores_that_stay_far_apart_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve_client, "_turn_over_memif", lambda *_: Asked(5e6, 250, 250, 0.1, 0.0))
    found = serve_client.over_memif(lambda service: None, "udp", [], 1)
    assert (found.rate, len(found.instead)) == (5e6, 3)


def test_a_core_was_taken_until_all_that_had_waited_were_answered() -> None:
    due = np.array([0, 100, 200, 300, 400, 500])
    done = np.array([50, 450, 460, 470, 480, 550])  # somebody had the core from 90 to 260
    taken = until_answered(due, done, np.array([[90, 260], [600, 700]]))
    assert taken.tolist() == [[90, 460], [600, 700]]
    assert overlapping(due, done, taken).tolist() == [False, True, True, True, True, False]


def test_a_turn_in_which_others_had_the_core_says_so() -> None:
    quiet, disturbed = Asked(9.72e6, 55, 60, 0.0012, 0.001), Asked(1e6, 250, 250, 0.5, 0.44)
    assert shown([quiet, disturbed, Turn(2e6, 1, 2)]) == (
        "9.72 M/s (55/60 ns), 0.1% lost, 1.00 M/s (250/250 ns), 50.0% lost, disturbed: waited 44% for its core, "
        "2.00 M/s (1/2 ns)"
    )


def test_time_on_a_core_is_counted() -> None:
    before, until = cpu_s(), time.monotonic() + 10
    while cpu_s() == before and time.monotonic() < until:  # when the scheduler looks
        pass
    assert cpu_s() > before
