"""One port on two captures: what is received from the one, what is sent into the other."""

import pytest
from scapy.utils import rdpcap, wrpcap

from wirespeed.errors import CaptureError, PortError
from wirespeed.ports.port import port

FRAMES = [bytes([number]) * 60 for number in range(5)]


@pytest.fixture
def captured(tmp_path):
    wrpcap(str(tmp_path / "in.pcap"), FRAMES, linktype=1)
    return tmp_path / "in.pcap"


def test_received_from_one_file_sent_into_another(tmp_path, captured, worker):
    made = port(f"pcap:{captured},to={tmp_path / 'out.pcapng'}")
    made.open(worker.pool, 1, 1)
    made.begin()
    facts = made.facts()
    assert (facts["format"], facts["format written"]) == ("pcap", "pcapng")
    got = worker.burst(made)
    assert [worker.packet(desc) for desc in got] == FRAMES
    assert worker.send(made, got[:3]) == 3
    worker.free(got[3:])
    made.close()
    assert (made.stats().rx_packets, made.stats().tx_packets, made.fault()) == (5, 3, "")
    assert [bytes(packet) for packet in rdpcap(str(tmp_path / "out.pcapng"))] == FRAMES[:3]


def test_two_ways_take_two_files(tmp_path, captured, pool):
    with pytest.raises(PortError, match="write to another file, to=FILE"):
        port(f"pcap:{captured}").open(pool, 1, 1)
    with pytest.raises(PortError, match="would overwrite what is read"):
        port(f"pcap:{captured},to={captured}").open(pool, 1, 1)
    for rx, tx in ((1, 0), (0, 1)):
        with pytest.raises(PortError, match="for a port that is read and written"):
            port(f"pcap:{captured},to={tmp_path / 'out'}").open(pool, rx, tx)


def test_what_is_open_is_closed_when_the_other_cannot_be(captured, pool, open_files):
    before = open_files()
    with pytest.raises((CaptureError, PortError)):
        port(f"pcap:{captured},to=/no/such/folder/out.pcap").open(pool, 1, 1)
    assert open_files() == before
