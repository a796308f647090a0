"""A router's file: what it may say, and that every mistake is one message that names the place and the remedy."""

from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

import pytest

from wirespeed.control.config import EngineConfig, parse, read
from wirespeed.errors import ConfigError

GOOD = """
app = "router"
[engine]
workers = 2
[[port]]
name = "left"
spec = "ring:left"
addresses = ["10.1.0.1/24", "10.9.0.1/30"]
mac = "02:00:00:00:00:01"
[[port]]
name = "right"
spec = "ring:right"
addresses = ["10.2.0.1/24"]
mtu = 1400
[[route]]
prefix = "192.0.2.0/24"
via = "10.2.0.7"
[[neighbour]]
address = "10.1.0.9"
mac = "02:00:00:00:00:09"
[limits]
neighbours = 16
"""


def test_everything_is_read_as_what_it_is():
    config = parse(GOOD)
    assert config.engine == EngineConfig(workers=2)
    assert [port.name for port in config.ports] == ["left", "right"]
    assert config.ports[0].addresses == (IPv4Interface("10.1.0.1/24"), IPv4Interface("10.9.0.1/30"))
    assert config.ports[0].mac == 0x0200_0000_0001
    assert str(config.ports[0].mac) == "02:00:00:00:00:01"
    assert config.ports[1].mtu == 1400
    assert config.routes[0].prefix == IPv4Network("192.0.2.0/24")
    assert config.routes[0].via == IPv4Address("10.2.0.7")
    assert config.limits.neighbours == 16
    assert config.limits.held == 16


def test_the_same_text_is_the_same_value():
    assert parse(GOOD) == parse(GOOD)
    assert parse(GOOD) != parse(GOOD.replace("workers = 2", "workers = 3"))


@pytest.mark.parametrize("name", ["router.toml", "router-tap.toml"])
def test_the_examples_are_right(name):
    assert read(Path(__file__).parents[2] / "examples" / name).ports


@pytest.mark.parametrize(
    ("good", "bad", "message"),
    [
        ('app = "router"', 'app = "rooter"', "app: 'rooter' is no application; did you mean 'router'?"),
        ('app = "router"', "", "app: is missing; write app = \"router\" first"),
        ("workers = 2", "wrokers = 2", "engine.wrokers: there is no such option; did you mean 'workers'?"),
        ("workers = 2", "workers = 0", "engine.workers: must be a whole number >= 1"),
        ("workers = 2", 'workers = "2"', "engine.workers: must be a whole number, got text"),
        ("[engine]", "[motor]", "motor: there is no such option; known: app, engine, port, route"),
        ('spec = "ring:left"', "", "port[0]: lacks the required field spec"),
        ('spec = "ring:left"', 'spce = "ring:left"', "port[0].spce: there is no such option; did you mean 'spec'?"),
        ('"ring:left"', '"rng:left"', "port[0].spec: no port is called 'rng' (in 'rng:left'); did you mean 'ring'?"),
        ('"ring:left"', '"ring:left,sise=4"', "port[0].spec: port 'ring:left,sise=4' has no option 'sise'"),
        ('"ring:left"', '"ring:left,size=x"', "port[0].spec: port 'ring:left,size=x': option size='x' must be"),
        ('"ring:left"', '"sink"', "port[0].spec: 'sink' gives no packets; a router's port does both"),
        ('"ring:left"', '"ring:right"', "port[1].spec: 'ring:right' is taken by port[0].spec"),
        ('"right"\nspec', '"left"\nspec', "port[1].name: 'left' is taken by port[0].name"),
        ('"10.1.0.1/24"', '"10.1.0.1"', "port[0].addresses[0]: '10.1.0.1' has no prefix length; write it like 10.1"),
        ('"10.1.0.1/24"', '"10.1.0.1/33"', "port[0].addresses[0]: '10.1.0.1/33' has no prefix length from 0 to 32"),
        ('"10.1.0.1/24"', '"10.1.0.256/24"', "port[0].addresses[0]: '10.1.0.256/24' is not an IPv4 address"),
        ('"10.1.0.1/24"', "7", "port[0].addresses[0]: 7 must be text, as \"10.1.0.1/24\""),
        ('"10.1.0.1/24"', '"10.1.0.0/24"', "port[0].addresses[0]: 10.1.0.0 is the network address of 10.1.0.0/24"),
        ('"10.1.0.1/24"', '"10.1.0.255/24"', "port[0].addresses[0]: 10.1.0.255 is the broadcast address"),
        ('"10.1.0.1/24"', '"127.0.0.1/8"', "port[0].addresses[0]: 127.0.0.1 is in 127.0.0.0/8, which no host has"),
        ('"10.1.0.1/24"', '"10.2.0.5/16"', "port[1].addresses[0]: 10.2.0.1/24 overlaps 10.2.0.5/16 of port[0].addr"),
        ('"02:00:00:00:00:01"', '"02:00:00:00:01"', "port[0].mac: '02:00:00:00:01' is no Ethernet address"),
        ('"02:00:00:00:00:01"', '"03:00:00:00:00:01"', "port[0].mac: '03:00:00:00:00:01' is no station's address"),
        ("mtu = 1400", "mtu = 60", "port[1].mtu: must be a whole number >= 68"),
        ('"192.0.2.0/24"', '"192.0.2.1/24"', "route[0].prefix: '192.0.2.1/24' has host bits set; did you mean 192"),
        ('"192.0.2.0/24"', '"192.0.2.0"', "route[0].prefix: '192.0.2.0' has no prefix length"),
        ('"192.0.2.0/24"', '"10.1.0.0/24"', "route[0].prefix: 10.1.0.0/24 is the network of port[0]"),
        ('"192.0.2.0/24"', '"10.1.0.7/32"', "route[0].prefix: 10.1.0.7/32 is a neighbour's address"),
        ('"10.2.0.7"', '"10.3.0.7"', "route[0].via: 10.3.0.7 is on no port's network; it must be in 10.1.0.0/24, 10.9"),
        ('"10.2.0.7"', '"10.2.0.1"', "route[0].via: 10.2.0.1 is the router's own address"),
        ('"10.2.0.7"', '"10.2.0.255"', "route[0].via: 10.2.0.255 is the broadcast address of 10.2.0.0/24"),
        ('address = "10.1.0.9"', 'address = "10.7.0.9"', "neighbour[0].address: 10.7.0.9 is on no port's network"),
        ("neighbours = 16", "neighbours = 1", "limits.neighbours: 1 is less than the 2 that are configured"),
        ("[limits]", "[limits", "is not valid TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_message(good, bad, message):
    assert good in GOOD
    with pytest.raises(ConfigError) as caught:
        parse(GOOD.replace(good, bad, 1), "router.toml")
    text = str(caught.value)
    assert text.startswith("router.toml: ")
    assert message in text
    assert "\n" not in text


def test_two_routes_for_one_prefix():
    twice = GOOD + '[[route]]\nprefix = "192.0.2.0/24"\nvia = "10.1.0.7"\n'
    with pytest.raises(ConfigError, match=r"route\[1\]\.prefix: 192\.0\.2\.0/24 has a route already, route\[0\]"):
        parse(twice)


def test_a_router_has_ports():
    with pytest.raises(ConfigError, match=r"port: a router has at least one port"):
        parse('app = "router"')


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        read(tmp_path / "missing.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not text in UTF-8"):
        read(tmp_path / "binary.toml")


def test_both_addresses_of_a_point_to_point_link_are_hosts():
    """RFC 3021."""
    assert parse(GOOD.replace('"10.9.0.1/30"', '"10.9.0.0/31"'))
