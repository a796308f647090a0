"""What the command refuses before it opens anything, and the way out that it names."""

import pytest

from wirespeed.cli.load import command
from wirespeed.errors import ConfigError, WirespeedError

HERE, THERE = "10.7.0.1/24", "10.7.0.2"


@pytest.mark.parametrize(
    ("spec", "to"),
    [
        ("", THERE), ("udp:10.7.0.2", THERE), ("10.7.0.2:53", THERE), ("127.0.0.1", THERE), ("tap:ws0", "127.0.0.1"),
        ("tap:ws0", "127.0.0.53:53"), ("tap:ws0", "[::1]:53"), ("tap:ws0", "::1"), ("tap:ws0", "localhost:53"),
    ],
)  # fmt: skip
def test_no_sockets(spec, to):
    """A port is needed, and there is a recipe for a server of this machine."""
    with pytest.raises(ConfigError, match=r"(?s)not by the kernel's sockets.*type veth.*load dns af_packet:ws0"):
        command("dns", spec, to, HERE)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"to": "", "address": HERE}, "Give --to"), ({"to": THERE, "address": ""}, "--address"),
        ({"to": "10.7.0.2:0", "address": HERE}, "a port is 1 to 65535"), ({"to": "x", "address": HERE}, "--to x"),
        ({"to": THERE, "address": HERE, "keys": "2000M"}, r"up to 10\^9"),
        ({"to": THERE, "address": HERE, "ratio": "9"}, "9:1"),
        ({"to": THERE, "address": HERE, "fill_rate": "many"}, "fill='many'"),
        ({"to": THERE, "address": HERE, "connections": 2, "workers": 3}, "one for each"),
    ],
)  # fmt: skip
def test_what_it_refuses(arguments, why):
    with pytest.raises(WirespeedError, match=why):
        command("memcached", "tap:ws0", **arguments)
