"""The devices command: tables and JSON of a described machine, one device by name, and names that are not there."""

import json

import pytest
import typer
from typer.testing import CliRunner

from wirespeed.cli import devices
from wirespeed.eal import nics, pci
from wirespeed.errors import WirespeedError

CARD = nics.Nic("ens1", "i40e", "up", "3c:fd:fe:00:00:01", 1500, 25000, 4, 4, 64, "0000:3b:00.0", 1, False)
BRIDGE = nics.Nic("br[0]", "", "down", "3c:fd:fe:00:00:02", 1500, -1, 1, 1, 0, "", -1, True)
X710 = pci.PciDevice(
    "0000:3b:00.0", 0x8086, 0x1572, 0x020000, "Ethernet", "Intel Corporation", "X710", "i40e", 1, (2, 3), ("ens1",),
    5, 17, 2, 64, "8.0 GT/s x8",
)  # fmt: skip
DISK = pci.PciDevice("0000:01:00.0", 0x144D, 1, 0x010802, "NVMe", "", "", "nvme", 0, (), (), 1, -1, 0, 0, "")


@pytest.fixture
def run(monkeypatch):
    application = typer.Typer()
    application.command()(devices.command)
    monkeypatch.setattr(nics, "interfaces", lambda: (CARD, BRIDGE))
    monkeypatch.setattr(pci, "devices", lambda: (DISK, X710))
    monkeypatch.setenv("COLUMNS", "150")

    def command(*arguments):
        return CliRunner().invoke(application, list(arguments))

    return command


def test_the_tables(run):
    text = run().output
    assert "ens1" in text
    assert "af_packet:ens1" in text
    assert "25 Gb/s" in text
    assert "4/4 of 64" in text
    assert "br[0]: down: ip link set br[0] up" in text
    assert "Intel Corporation X710" in text
    assert "2/64" in text
    assert "NVMe" not in text
    assert "NVMe" in run("--all").output


def test_json(run):
    found = json.loads(run("--json").output)
    assert [each["name"] for each in found["interfaces"]] == ["ens1", "br[0]"]
    ways = found["interfaces"][0]["ports"]
    assert found["interfaces"][0]["port"] == ways[0]["port"]
    assert [way["how"] for way in ways if way["port"] == "af_packet:ens1"] == ["a copy, beside the kernel"]
    assert found["interfaces"][1]["why_not"].startswith("down: ")
    assert [each["address"] for each in found["pci"]] == ["0000:3b:00.0"]
    assert len(json.loads(run("--json", "--all").output)["pci"]) == 2


@pytest.mark.parametrize("name", ["ens1", "0000:3b:00.0", "3b:00.0", "0000:3B:00.0"])
def test_one_by_any_of_its_names(run, name):
    found = json.loads(run(name, "--json").output)
    assert [each["name"] for each in found["interfaces"]] == ["ens1"]
    assert [each["address"] for each in found["pci"]] == ["0000:3b:00.0"]


def test_one_without_an_interface_and_one_without_a_device(run):
    found = json.loads(run("01:00.0", "--json").output)
    assert (found["interfaces"], len(found["pci"])) == ([], 1)
    assert "no interfaces" in run("01:00.0").output
    found = json.loads(run("br[0]", "--json").output)
    assert (len(found["interfaces"]), found["pci"]) == (1, [])


@pytest.mark.parametrize("name", ["ens2", "", "0000:3b:00.9", "[x]", "../../etc"])
def test_names_that_are_not_there(run, name):
    result = run(name)
    assert isinstance(result.exception, WirespeedError)
    assert f"there is no interface or PCI device {name!r}; " in str(result.exception)


def test_a_machine_with_nothing(run, monkeypatch):
    monkeypatch.setattr(nics, "interfaces", tuple)
    monkeypatch.setattr(pci, "devices", tuple)
    assert run().output.strip() == "no interfaces"
    assert json.loads(run("--json").output) == {"interfaces": [], "pci": []}
    assert "this machine has none" in str(run("eth0").exception)


def test_what_carries_no_frames_is_opened_by_no_port(tmp_path):
    folder = tmp_path / "sys/class/net/ens1"
    folder.mkdir(parents=True)
    (folder / "type").write_text("65534\n")  # a TUN device
    found = devices.openable(CARD, tmp_path)
    assert (found.port, found.why_not) == ("", "carries no Ethernet frames (link type 65534)")
