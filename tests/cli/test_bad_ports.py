"""Whatever is wrong with a port is one clear error before the start, and exit code 2: every kind, every option."""

import dataclasses
import importlib
import os
import subprocess
from pathlib import Path
from typing import get_type_hints

import pytest

import wirespeed as ws
from wirespeed.cli import main
from wirespeed.engine.engine import Engine
from wirespeed.errors import PortError, WirespeedError
from wirespeed.ports.common import CommonOptions
from wirespeed.ports.port import KINDS

ROUTER = """\
app = "router"
[[port]]
name = "a"
spec = "ring:a"
addresses = ["10.1.0.1/24"]
[[port]]
name = "b"
spec = '{spec}'
addresses = ["10.2.0.1/24"]
"""

root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make an interface")


def options(kind):
    """Name and type of each option of a kind, its own and the common ones."""
    module, _, name = KINDS[kind].partition(":")
    declared = getattr(importlib.import_module(module), name).Options
    return {**get_type_hints(CommonOptions), **get_type_hints(declared)}, declared


def spec(kind, more):
    """A specification of a kind with what it must have, and one thing more."""
    _, declared = options(kind)
    needed = []
    for field in dataclasses.fields(declared):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            value = "nosuch0"
            needed.append(value if field.metadata.get("positional") else f"{field.name}={value}")
    return f"{kind}:{','.join([*needed, more])}"


def refused(capsys, tmp_path, text):
    """What the command line says of a router with such a port."""
    path = tmp_path / "router.toml"
    path.write_text(ROUTER.format(spec=text))
    with pytest.raises(SystemExit) as ended:
        main(["run", str(path)])
    out, err = capsys.readouterr()
    assert (out, ended.value.code) == ("", 2), err
    assert err.startswith("wirespeed: ")
    assert "Traceback" not in err
    return err


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_kind_with_a_letter_wrong(capsys, tmp_path, kind):
    wrong = kind[0] + kind[2:] + "x"
    said = refused(capsys, tmp_path, f"{wrong}:x")
    assert f"no port is called '{wrong}'" in said
    assert "did you mean" in said or "known: " in said


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_an_option_nobody_declared(capsys, tmp_path, kind):
    known, _ = options(kind)
    for wrong, near in (("mtach", "match"), ("coalesec", "coalesce"), ("chekcsum", "checksum")):
        assert near in known
        said = refused(capsys, tmp_path, spec(kind, f"{wrong}=1"))
        assert f"has no option '{wrong}': did you mean '{near}'?" in said


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_values_of_the_wrong_kind(kind):
    known, _ = options(kind)
    for name, hint in known.items():
        wrong = {int: "many", bool: "perhaps", float: "fast"}.get(hint)
        if wrong is None:
            continue
        with pytest.raises(PortError, match=f"option {name}='{wrong}' must be"):
            ws.port(spec(kind, f"{name}={wrong}"))


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_missing(kind):
    _, declared = options(kind)
    for field in dataclasses.fields(declared):
        if field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            with pytest.raises(PortError, match=f"lacks {field.name}"):
                ws.port(f"{kind}:")


COMMON = [
    ("match=upd/53", "there is no 'upd'; did you mean 'udp'?"),
    ("match=udp/70000", "must be ports, 0 to 65535"),
    ("rules=drip:udp", "no action is called 'drip'; did you mean 'drop'?"),
    ("rules=queue:5000:udp", "cannot lead to queue 5000"),
    ("rss=ipv5", "RSS has no field 'ipv5'"),
    ("rss_key=12", "an RSS key of 1 bytes is not possible"),
    ("checksum=maybe", "checksum='maybe'; known: verify, drop"),
]


@pytest.mark.parametrize(("more", "said"), COMMON)
def test_common_options(capsys, tmp_path, more, said):
    assert said in refused(capsys, tmp_path, f"ring:b,{more}")


OPENED = [
    ("null:rules=kernel:udp/53", "cannot be carried out: this port's packets have left the kernel already"),
    ("null:rules=else:kernel", "else:kernel cannot be carried out here"),
    ("null:rules=queue:1:udp", "leads to queue 1, and there are 1: run more workers"),
    ("null:rss_table=0+7", "rss_table leads to queue 7, and there are 1: run more workers"),
    ("af_packet:nosuch0", "no interface is called 'nosuch0'"),
    ("af_packet:lo,queues=65", "queues=65 must be 1 to 64"),
    ("af_xdp:nosuch0", "nosuch0"),
    ("af_xdp:lo,rx_ring=100", "rx_ring=100 must be a power of two"),
    ("tap:a/b", "is no interface name"),
    ("tap:ws0,queues=0", "queues=0 must be 1 to 64"),
    ("tap:ws0,mtu=70000", "mtu=70000 must be 68 to 65521"),
    ("ring:b,size=3", "size=3 must be a power of two"),
    ("loop:size=0", "size=0 must be a power of two"),
    ("host:b,size=1", "size=1 must be a power of two"),
    ("null:size=3", "size=3 must be 14 to"),
]


def start(text):
    """A graph with such a port."""
    graph = ws.Graph()
    graph.add(ws.port(text) >> ws.port("sink:"))
    Engine(graph)


@pytest.mark.parametrize(("text", "said"), OPENED, ids=[text for text, _ in OPENED])
def test_before_any_packet_moves(text, said):
    kind = text.partition(":")[0]
    if kind not in KINDS:
        pytest.skip(f"no port {kind} here")
    with pytest.raises(WirespeedError) as raised:
        start(text)
    message = str(raised.value)
    assert said in message
    assert "\n" not in message
    assert " ws0:" not in Path("/proc/self/net/dev").read_text()  # nothing was left behind


@root
@pytest.mark.parametrize("kind", ["af_packet", "af_xdp"])
def test_an_interface_that_is_down(kind):
    if kind not in KINDS:
        pytest.skip(f"no port {kind} here")
    name = f"ws{os.getpid()}d"
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}p"], check=True)
    try:
        graph = ws.Graph()
        graph.add(ws.port(f"{kind}:{name}") >> ws.port("sink:"))
        with pytest.raises(PortError, match=f"{name} is down") as raised:
            Engine(graph)
        assert f"ip link set {name} up" in str(raised.value)
    finally:
        subprocess.run(["ip", "link", "del", name], check=True)
