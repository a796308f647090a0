"""Station: an address that nodes read by reference."""

import pytest

from wirespeed.jit import kernel
from wirespeed.tables.station import Station, StationView


@kernel
def compiled_mac(address):
    return StationView(address).mac


@pytest.mark.parametrize("mac", [0, 1, 0x020000000001, 0xFFFF_FFFF_FFFF])
def test_the_address_is_read_and_changes_live(mac):
    station = Station(mac)
    assert station.mac == mac == compiled_mac(station.address)
    station.mac = 0x0200_5E10_0001
    assert station.mac == 0x0200_5E10_0001 == compiled_mac(station.address)
    station.close()


def test_stations_are_independent_and_close_twice():
    one, two = Station(1), Station(2)
    one.mac = 3
    assert (one.mac, two.mac) == (3, 2)
    for station in (one, two, one):
        station.close()
