"""What is wrong is said once, before any packet moves: the thing, the reason, the remedy. Exit code 2.

The one exception is a capture that breaks off midway: the packets before the break are delivered, then it is said.
"""

import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

import wirespeed as ws
from wirespeed.cli import main
from wirespeed.errors import CaptureError, GraphError, NodeError, PortError, WirespeedError
from wirespeed.jit import COMPILED

SOURCE = Path(ws.__file__).parents[1]
FRAME = bytes.fromhex("020000000001 020000000002 0800") + bytes(46)


def capture(count, link=1):
    header = bytes.fromhex("d4c3b2a1 0200 0400 00000000 00000000 ffff0000") + link.to_bytes(4, "little")
    return header + (bytes(8) + len(FRAME).to_bytes(4, "little") * 2 + FRAME) * count


@ws.node
def through(pkt):
    """On it goes."""


@ws.node(outputs=["a", "b"], drops=["c"])
def three(pkt):
    """Three doors."""
    if pkt.length > 60:
        return "a"
    return "b" if pkt.length > 20 else "c"


@ws.node(outputs=["dns"], drops=["not-dns"])
def undeclared(pkt):
    if pkt.udp.dport == 53:
        return "dsn"
    return "not-dns"


@ws.node(drops=["d53", "d54"])
def computed(pkt):
    return "d" + "53"


DOORS = ["first", "second"]


@ws.node(drops=["first", "second"])
def looked_up(pkt):
    return DOORS[pkt.length & 1]


@ws.node(drops=["odd"])
def does_not_compile(pkt):
    words = "a b".split(pkt)
    if len(words) > pkt.length:
        return "odd"


HERE = __file__
NODES = (through, three, undeclared, computed, looked_up, does_not_compile)
LINE = {node.name: node.function.__code__.co_firstlineno for node in NODES}


def chain(*places):
    joined = places[0]
    for place in places[1:]:
        joined = joined >> place
    graph = ws.Graph()
    graph.add(joined)
    return graph


def missing_interface(tmp_path):
    return chain(ws.port("af_packet:nosuch0"), ws.port("sink"))


def missing_file(tmp_path):
    return chain(ws.port(f"pcap:{tmp_path}/none.pcap"), ws.port("sink"))


def no_capture(tmp_path):
    (tmp_path / "notes.pcap").write_text("these are notes and not a capture at all\n")
    return chain(ws.port(f"pcap:{tmp_path}/notes.pcap"), ws.port("sink"))


def empty_file(tmp_path):
    (tmp_path / "empty.pcap").write_bytes(b"")
    return chain(ws.port(f"pcap:{tmp_path}/empty.pcap"), ws.port("sink"))


def ppp(tmp_path):
    (tmp_path / "ppp.pcap").write_bytes(capture(3, link=9))
    return chain(ws.port(f"pcap:{tmp_path}/ppp.pcap"), ws.port("sink"))


def output_in_no_folder(tmp_path):
    return chain(ws.port("null"), ws.port(f"pcap:{tmp_path}/nowhere/out.pcap"))


def unknown_kind(tmp_path):
    return chain(ws.port("pcpa:in.pcap"), ws.port("sink"))


def unknown_option(tmp_path):
    return chain(ws.port("generator:flwos=3"), ws.port("sink"))


def bad_value(tmp_path):
    return chain(ws.port("null:size=many"), ws.port("sink"))


def value_out_of_range(tmp_path):
    return chain(ws.port("null:size=3"), ws.port("sink"))


def sink_with_options(tmp_path):
    return chain(ws.port("null"), ws.port("sink:size=3"))


def undeclared_door(tmp_path):
    graph = chain(ws.port("null"), undeclared)
    graph.add(undeclared["dns"] >> ws.port("sink"))
    return graph


def computed_door(tmp_path):
    return chain(ws.port("null"), computed)


def looked_up_door(tmp_path):
    return chain(ws.port("null"), looked_up)


def dangling_output(tmp_path):
    graph = chain(ws.port("null"), three)
    graph.add(three["a"] >> ws.port("sink"))
    return graph


def dangling_default(tmp_path):
    return chain(ws.port("null"), through)


def circle(tmp_path):
    again = through.named("again")
    graph = chain(ws.port("null"), through, again)
    graph.add(again >> through)
    return graph


def uncompiled(tmp_path):
    return chain(ws.port("null"), does_not_compile, ws.port("sink"))


def at(name, offset):
    return f"{HERE}:{LINE[name] + offset}"


BAD = [
    (missing_interface, PortError, ["af_packet:nosuch0", "no interface is called 'nosuch0'", "known: lo"]),
    (missing_file, CaptureError, ["none.pcap: cannot be read: No such file or directory", "check the name"]),
    (no_capture, CaptureError, ["notes.pcap: not a capture, it starts with 74 68 65", "give a pcap or pcapng file"]),
    (empty_file, CaptureError, ["empty.pcap: the file is empty: "]),
    (ppp, CaptureError, ["ppp.pcap: link type 9 (PPP) is not Ethernet (1)", "record on an Ethernet interface"]),
    (output_in_no_folder, CaptureError, ["nowhere/out.pcap: cannot be written: No such file", "name a file"]),
    (unknown_kind, PortError, ["no port is called 'pcpa' (in 'pcpa:in.pcap')", "did you mean 'pcap'?"]),
    (unknown_option, PortError, ["'generator:flwos=3' has no option 'flwos'", "did you mean 'flows'?"]),
    (bad_value, PortError, ["'null:size=many'", "size='many' must be a whole number"]),
    (value_out_of_range, PortError, ["'null:size=3'", "size=3 must be 14 to "]),
    (sink_with_options, PortError, ["'sink:size=3' has no option 'size'", "known: match, "]),
    (undeclared_door, NodeError, [at("undeclared", 3), "returns 'dsn', which it does not declare", "mean 'dns'?"]),
    (computed_door, NodeError, [at("computed", 2), "only known at run time", "as a string literal"]),
    (looked_up_door, NodeError, [at("looked_up", 2), "'DOORS[pkt.length & 1]'", "as a string literal"]),
    (dangling_output, GraphError, ["three['b'] leads nowhere", at("three", 0), "graph.add(three['b'] >> ...)"]),
    (dangling_default, GraphError, ["through's default output leads nowhere", "graph.add(through >> ...)"]),
    (circle, GraphError, ["goes in a circle: through >> again >> through", "put a queue in it"]),
    (uncompiled, NodeError, [at("does_not_compile", 2), "does not compile", 'words = "a b".split(pkt)']),
]


@pytest.mark.parametrize(("build", "kind", "parts"), BAD, ids=[build.__name__ for build, _, _ in BAD])
def test_a_program(tmp_path, open_files, build, kind, parts):
    if build is uncompiled and not COMPILED:
        pytest.skip("nothing is compiled")
    before, threads = open_files(), set(threading.enumerate())
    with pytest.raises(kind) as caught:
        ws.run(build(tmp_path))
    text = str(caught.value)
    assert isinstance(caught.value, WirespeedError)
    for part in parts:
        assert part in text
    assert {thread for thread in threading.enumerate() if thread.name.startswith("wirespeed")} <= threads
    assert open_files() == before


UNPRIVILEGED = """\
import os, sys
import wirespeed as ws

graphs = []
warm = ws.Graph()
warm.add(ws.port("null:count=1") >> ws.port("sink"))
ws.run(warm)  # what is imported and compiled late may lie where only root reads
for source, sink in [("af_packet:lo", "sink"), ("tap:wsnever0", "sink"), (f"pcap:{sys.argv[1]}/secret.pcap", "sink"),
                     ("null", f"pcap:{sys.argv[1]}/out.pcap")]:
    graphs.append(ws.Graph())
    graphs[-1].add(ws.port(source) >> ws.port(sink))
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
for graph in graphs:
    try:
        ws.run(graph)
    except ws.WirespeedError as error:
        print(type(error).__name__, error)
"""


@pytest.fixture
def closed():
    """A folder that everybody may enter and only root may write to."""
    with tempfile.TemporaryDirectory(prefix="wirespeed-test-") as name:
        Path(name).chmod(0o555)
        yield Path(name)


def test_no_permission(tmp_path, closed):
    if os.getuid() != 0:
        pytest.skip("root may give its rights up, others have none to give")
    (closed / "secret.pcap").write_bytes(capture(1))
    (closed / "secret.pcap").chmod(0)
    program = tmp_path / "program.py"
    program.write_text(UNPRIVILEGED)
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run(
        [sys.executable, str(program), str(closed)], capture_output=True, text=True, env=environment, timeout=580
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 4, done.stdout + done.stderr
    assert lines[0].startswith("PortError port 'af_packet:lo'")
    assert "CAP_NET_RAW" in lines[0]
    assert lines[1].startswith("PortError port 'tap:wsnever0'")
    assert "CAP_NET_ADMIN" in lines[1]
    assert lines[2].startswith(f"CaptureError {closed}/secret.pcap: cannot be read: Permission denied")
    assert lines[3].startswith(f"CaptureError {closed}/out.pcap: cannot be written: Permission denied")


def test_a_capture_that_breaks_off(tmp_path):
    """Everything before the break is delivered, in whole; the report has one sentence about the rest."""
    source, target = tmp_path / "cut.pcap", tmp_path / "out.pcap"
    source.write_bytes(capture(100)[:-7])
    report = ws.run(chain(ws.port(f"pcap:{source}"), through, ws.port(f"pcap:{target}")))
    assert (report.packets, report.sent, report.in_use) == (99, 99, 0)
    fault = f"{source}: packet 100, at byte {24 + 99 * 76}: it is longer than what is left of the file"
    assert report.faults == (fault,)
    assert f"fault: {fault}" in str(report)
    assert target.stat().st_size == 24 + 99 * 76


# The command line --------------------------------------------------------------------------------------------

ROUTER = """\
app = "router"
[[port]]
name = "a"
spec = "ring:a"
addresses = ["10.1.0.1/24"]
[[port]]
name = "b"
spec = "{spec}"
addresses = ["10.2.0.1/24"]
{more}
"""


def config(path, spec="ring:b", more=""):
    path.write_text(ROUTER.format(spec=spec, more=more))
    return path


def wirespeed(capsys, *arguments):
    """Exit code and what was said on stderr; stdout must stay empty."""
    with pytest.raises(SystemExit) as ended:
        main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    assert out == ""
    assert "Traceback" not in err
    return ended.value.code, err


COMMANDS = [
    (["nosuch"], ["No such command 'nosuch'"]),
    (["demo", "--nosuch"], ["No such option: --nosuch"]),
    (["demo", "--seconds", "soon"], ["Invalid value for '--seconds'"]),
    (["demo", "--seconds", "0"], ["Invalid value for '--seconds'"]),
    (["demo", "--workers", "0"], ["Invalid value for '--workers'"]),
    (["demo", "--size", "20"], ["Invalid value for '--size'"]),
    (["demo", "--routes", "{tmp}/none"], ["wirespeed: ", "{tmp}/none", "No such file or directory"]),
    (["demo", "--routes", "{tmp}/garbage"], ["{tmp}/garbage, line 2: 'over' is not an IPv4 address: write it like"]),
    (["demo", "--routes", "{tmp}/bits"], ["{tmp}/bits, line 1: ", "10.0.0.1/8"]),
    (["demo", "--routes", "{tmp}/none.gz"], ["{tmp}/none.gz"]),
    (["demo", "--routes", "{tmp}/empty"], ["{tmp}/empty has no route to forward by: name IPv4 prefixes"]),
    (["demo", "--routes", "{tmp}/loopback"], ["{tmp}/loopback has no route to forward by: name IPv4 prefixes"]),
    (["bench", "nosuch"], ["there is no bench 'nosuch'; known: acl, checksum, forward, "]),
    (["devices", "nosuch"], ["there is no interface or PCI device 'nosuch'; known: "]),
    (["bench", "forwrd"], ["there is no bench 'forwrd'; did you mean 'forward'?"]),
    (["bench", "start", "--peer", "vpp"], ["there is no peer 'vpp'; known: dpdk"]),
    (["bench", "start", "--pairs", "0"], ["Invalid value for '--pairs'"]),
    (["run"], ["Missing argument"]),
    (["run", "{tmp}/none.toml"], ["{tmp}/none.toml: cannot be read: No such file or directory"]),
    (["run", "{tmp}/syntax.toml"], ["{tmp}/syntax.toml: is not valid TOML: ", "(at line 2, column 8)"]),
    (["run", "{tmp}/app.toml"], ["{tmp}/app.toml: ", "app"]),
    (["run", "{tmp}/option.toml"], ["{tmp}/option.toml: engine.wrokers: ", "did you mean 'workers'?"]),
    (["run", "{tmp}/port.toml"], ["{tmp}/port.toml: port[1].colour: ", "known: "]),
    (["run", "{tmp}/kind.toml"], ["{tmp}/kind.toml: port[1].spec: no port is called 'rign'", "did you mean 'ring'?"]),
    (["run", "{tmp}/size.toml"], ["{tmp}/size.toml: port[1].spec: ", "has no option 'szie': did you mean 'size'?"]),
    (["run", "{tmp}/interface.toml"], ["no interface is called 'nosuch0'", "known: lo"]),
]


@pytest.mark.parametrize(("arguments", "parts"), COMMANDS, ids=[" ".join(a).replace("{tmp}/", "") for a, _ in COMMANDS])
def test_a_command(tmp_path, capsys, arguments, parts):
    (tmp_path / "garbage").write_text("10.0.0.0/8\nover the hills\n")
    (tmp_path / "bits").write_text("10.0.0.1/8\n")
    (tmp_path / "none.gz").write_bytes(b"\x1f\x8b and then nothing")
    (tmp_path / "empty").write_text("# nothing\n")
    (tmp_path / "loopback").write_text("127.0.0.0/8\n0.1.2.0/24\n")
    (tmp_path / "syntax.toml").write_text('app = "router"\n[engine\n')
    (tmp_path / "app.toml").write_text('app = "ruoter"\n')
    config(tmp_path / "option.toml", more="[engine]\nwrokers = 2")
    config(tmp_path / "port.toml", more="colour = 1")
    config(tmp_path / "kind.toml", spec="rign:b")
    config(tmp_path / "size.toml", spec="ring:b,szie=4")
    config(tmp_path / "interface.toml", spec="af_packet:nosuch0")
    code, said = wirespeed(capsys, *(part.replace("{tmp}", str(tmp_path)) for part in arguments))
    assert code == 2, said
    for part in parts:
        assert part.replace("{tmp}", str(tmp_path)) in said


def test_help_is_not_an_error(capsys):
    for arguments in ([], ["--help"], ["demo", "--help"], ["bench", "--help"], ["run", "--help"]):
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        assert ended.value.code == (0 if arguments else 2)
        out, err = capsys.readouterr()
        assert "Usage: " in out + err


def test_from_a_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "wirespeed", "demo", "--routes", str(tmp_path / "none")],
        capture_output=True, text=True, timeout=580, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("wirespeed: ")
    assert done.stderr.count("\n") == 1
