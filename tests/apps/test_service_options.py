"""What a service is given and cannot be."""

import pytest

import wirespeed as ws


@pytest.mark.parametrize(("options", "why"), [
    ({"address": "dhcpd"}, "address"), ({"groups": "10.0.0.1"}, "no group"), ({"groups": "ff0x::"}, "no group"),
    ({"address": ["dhcp", "auto"], "gateway": "10.0.0.1"}, "gateway"),
])  # fmt: skip
def test_refused(options, why):
    with pytest.raises(ws.WirespeedError, match=why):
        ws.Service("null:", **options)


def test_names_of_ways_to_get_an_address_stand_among_addresses():
    service = ws.Service("null:", address=["10.7.0.1/24", "dhcp", "auto"], groups=["239.1.1.1", "ff02::fb"])
    assert (service.wanted.dhcp, service.wanted.auto) == (True, True)
    assert [str(each) for each in service.addresses] == ["10.7.0.1/24"]
