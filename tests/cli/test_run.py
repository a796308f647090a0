"""``wirespeed run``: a mistake is one message and exit code 2; a router runs without root, on rings."""

import json
import os
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).parents[2] / "src"


def run(*arguments, timeout=600):
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    command = [sys.executable, "-m", "wirespeed", "run", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=environment)


def test_a_mistake_in_the_file(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text('app = "router"\n[engine]\nwrokers = 2\n')
    done = run(file)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == (f"wirespeed: {file}: engine.wrokers: there is no such option; did you mean 'workers'?\n")


def test_no_such_file(tmp_path):
    done = run(tmp_path / "none.toml")
    assert done.returncode == 2
    assert "cannot be read: No such file or directory" in done.stderr


def test_a_router_on_rings(tmp_path):
    file = tmp_path / "router.toml"
    file.write_text(
        'app = "router"\n'
        '[[port]]\nname = "a"\nspec = "ring:a"\naddresses = ["10.1.0.1/24"]\n'
        '[[port]]\nname = "b"\nspec = "ring:b"\naddresses = ["10.2.0.1/24"]\n'
    )
    done = run(file, "--seconds", "0.1", "--json")
    assert done.returncode == 0, done.stderr
    assert "forwarding: a 10.1.0.1/24, b 10.2.0.1/24 (1 worker, loop " in done.stderr
    report = json.loads(done.stdout)
    assert report["in_use"] == 0
    assert report["host"]["arp_requests"] == 0
    assert "ipv4_lookup" in report["nodes"]
