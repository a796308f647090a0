"""Ratios point the right way, medians are pair by pair, and the JSON form has exactly its keys."""

import io
import json

import pytest
from rich.console import Console

from wirespeed.bench.pairing import Pair, summarise
from wirespeed.bench.result import Row, lower_is_better, ratio, to_json, to_markdown, to_table


@pytest.mark.parametrize(
    ("unit", "lower"),
    [
        ("Mpps", False),
        ("packets/s", False),
        ("bytes/s", False),
        ("s", True),
        ("ns/packet", True),
        ("cycles", True),
    ],
)
def test_direction_of_a_unit(unit: str, lower: bool) -> None:
    assert lower_is_better(unit) is lower


def test_ratio_above_one_means_wirespeed_is_ahead() -> None:
    assert ratio(60.0, 30.0, lower_is_better=False) == 2.0
    assert ratio(0.5, 1.0, lower_is_better=True) == 2.0
    assert ratio(30.0, 60.0, lower_is_better=False) == 0.5


def test_the_ratio_is_the_median_of_the_pairs_not_of_the_medians() -> None:
    paired = summarise([Pair(40.0, 20.0), Pair(10.0, 10.0), Pair(16.0, 10.0)])
    assert (paired.value, paired.peer_value, paired.ratio) == (16.0, 10.0, 1.6)
    paired = summarise([Pair(40.0, 20.0), Pair(30.0, 10.0), Pair(10.0, 40.0)])
    assert (paired.value, paired.peer_value, paired.ratio) == (30.0, 20.0, 2.0)


def test_times_are_compared_the_other_way_round() -> None:
    paired = summarise([Pair(1.0, 4.0), Pair(2.0, 4.0), Pair(4.0, 4.0)], lower_is_better=True)
    assert (paired.value, paired.ratio) == (2.0, 2.0)


def test_without_a_peer_there_is_no_ratio() -> None:
    paired = summarise([Pair(1.0, None), Pair(3.0, None)])
    assert (paired.value, paired.peer_value, paired.ratio) == (2.0, None, None)
    assert Row.of("pcap", "read", "s", paired, "nobody") == Row("pcap", "read", "s", 2.0)


def test_json_has_exactly_the_keys() -> None:
    rows = [
        Row.of("forward", "macswap 60 B", "Mpps", summarise([Pair(3.0, 2.0)]), "DPDK 22.11"),
        Row("forward", "start", "s", 0.4),
    ]
    assert json.loads(to_json(rows)) == [
        {
            "bench": "forward",
            "metric": "macswap 60 B",
            "unit": "Mpps",
            "value": 3.0,
            "peer": "DPDK 22.11",
            "peer_value": 2.0,
            "ratio": 1.5,
        },
        {
            "bench": "forward",
            "metric": "start",
            "unit": "s",
            "value": 0.4,
            "peer": None,
            "peer_value": None,
            "ratio": None,
        },
    ]


def test_the_table_shows_the_peer_and_the_ratio() -> None:
    console = Console(record=True, width=120, file=io.StringIO())
    console.print(to_table([Row("pcap", "DNS per client", "s", 0.25, "libpcap 1.10.3", 0.5, 2.0)], "reading"))
    text = console.export_text()
    assert "libpcap 1.10.3" in text and "2.00" in text and "0.25" in text


def test_a_table_for_a_document():
    text = to_markdown(
        [Row("port", "64 B", "Mpps", 3.14159, "testpmd | pcap", 2.0, 1.5708), Row("idle", "CPU", "%", 0.25)]
    )
    assert text.splitlines()[2:] == [
        "| port | 64 B | Mpps | 3.142 | 2 | 1.57 | testpmd \\| pcap |",
        "| idle | CPU | % | 0.25 | - |  | - |",
    ]
