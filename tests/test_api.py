"""The names a program needs, and programs exactly as the manual writes them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wirespeed as ws
from wirespeed import errors

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(ws.__file__).parent.parent)}

PROGRAM = '''
import wirespeed as ws

queries = ws.counter()

class Telemetry(ws.Header):
    version = ws.bits(0, 4)
    device = ws.be16(2)
    station = ws.mac(4)
    place = ws.ipv6(10)
    SIZE = 26

Telemetry.bind(ws.Udp, dport=4242)

@ws.node(outputs=["dns"], drops=["not-dns"])
def classify(pkt):
    """Send DNS one way, drop the rest."""
    if pkt[Telemetry].device == 7:
        queries.add(1)
    if pkt.udp and (pkt.udp.dport == 53 or pkt.udp.sport == 53):
        return "dns"
    return "not-dns"

if __name__ == "__main__":
    graph = ws.Graph()
    graph.add(ws.port("null:count=1000,size=60") >> classify)
    graph.add(classify["dns"] >> ws.port("sink:"))
    report = ws.run(graph)
    print(report)
    print(report.in_use)
'''


def test_every_name_is_there():
    for name in ws.__all__:
        assert getattr(ws, name) is not None, name
    assert ws.__version__
    assert {"Graph", "Header", "Lpm4", "Tally", "counter", "node", "per_worker", "port", "run"} <= set(ws.__all__)


def test_one_tree_of_errors():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]
    assert all(issubclass(kind, ws.WirespeedError) for kind in kinds)
    assert all(kind.__doc__ for kind in kinds)


def run(path, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "error:Cannot cache", str(path), *arguments],
        capture_output=True, text=True, env=ENVIRONMENT, timeout=580, cwd=path.parent,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done


def test_a_program_in_a_file(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = run(path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("1,000 packets, 60,000 bytes in ")
    assert "  node classify: dns 0, drop not-dns 1,000" in lines
    assert lines[-1] == "0"
    assert done.stderr == ""


@pytest.mark.skipif(not ws.jit.COMPILED, reason="nothing is compiled")
def test_the_second_start_is_warm(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    again = tmp_path / "again.py"
    again.write_text(
        "import program, wirespeed as ws\n"
        "graph = ws.Graph()\n"
        "graph.add(ws.port('null:count=1000,size=60') >> program.classify)\n"
        "graph.add(program.classify['dns'] >> ws.port('sink:'))\n"
        "engine = ws.Engine(graph)\n"
        "print(engine.built.cached, engine.built.source.name)\n"
        "engine.close()\n"
    )
    run(again)
    first = run(again).stdout.split()
    assert first[0] == "True"
    path.write_text(PROGRAM.replace("SIZE = 26", "SIZE = 28"))  # the header means something else now
    second = run(again).stdout.split()
    assert second[1] != first[1]


def test_an_error_says_file_and_line(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM.replace('return "not-dns"', 'return "not-dsn"'))
    done = subprocess.run([sys.executable, path], capture_output=True, text=True, env=ENVIRONMENT, timeout=580)
    assert done.returncode == 1
    line = PROGRAM.splitlines().index('    return "not-dns"') + 1
    assert (
        f"{path}:{line}: classify returns 'not-dsn', which it does not declare; did you mean 'not-dns'?" in done.stderr
    )
