"""PCI devices of machines that are described, good and bad, and of this one."""

import pytest

from wirespeed.eal import pci

SLOT = "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1"
IDS = """# a comment
8086  Intel Corporation
\t1572  Ethernet Controller X710 for 10GbE SFP+
\t\t8086 0000  Ethernet Converged Network Adapter X710
\t9999  Something else
1af4  Red Hat, Inc.
\t1041  Virtio 1.0 network device
not a line of pci.ids
C 02  Network controller
\t00  Ethernet controller
8086  not a vendor any more
"""
CARD = {
    "vendor": "0x8086\n", "device": "0x1572\n", "class": "0x020000\n", "numa_node": "1\n", "local_cpulist": "2-3,6-7\n",
    "net/ens1f1/mtu": "1500\n", "msi_irqs/40": "", "msi_irqs/41": "", "sriov_numvfs": "4\n", "sriov_totalvfs": "64\n",
    "current_link_speed": "8.0 GT/s PCIe\n", "current_link_width": "8\n",
}  # fmt: skip


@pytest.fixture
def plugged(machine):
    """``plugged(place, files, driver)``: a device where sysfs would have it."""

    def plug(place, files, driver="", group=""):
        root = machine({f"{place}/{name}": text for name, text in files.items()})
        for link, target in (("driver", f"sys/bus/pci/drivers/{driver}"), ("iommu_group", f"sys/iommu/{group}")):
            if target.rpartition("/")[2]:
                (root / target).mkdir(parents=True, exist_ok=True)
                (root / place / link).symlink_to(root / target)
        base = root / "sys/bus/pci/devices"
        base.mkdir(parents=True, exist_ok=True)
        (base / place.rpartition("/")[2]).symlink_to(root / place)
        return root

    return plug


def test_a_card(plugged, machine):
    root = plugged(SLOT, CARD, "i40e", "17")
    machine({"usr/share/misc/pci.ids": IDS})
    assert pci.devices(root) == (
        pci.PciDevice(
            address="0000:3b:00.1", vendor=0x8086, device=0x1572, class_code=0x020000, kind="Ethernet",
            vendor_name="Intel Corporation", device_name="Ethernet Controller X710 for 10GbE SFP+", driver="i40e",
            node=1, cores=(2, 3, 6, 7), interfaces=("ens1f1",), interrupts=2, iommu_group=17, vfs=4, max_vfs=64,
            link="8.0 GT/s x8",
        ),
    )  # fmt: skip
    assert pci.devices(root)[0].is_network


def test_a_virtio_card_has_its_interface_one_level_down(plugged):
    files = {"vendor": "0x1af4", "device": "0x1041", "class": "0x020000", "virtio2/net/eth0/mtu": "1500"}
    files |= {"numa_node": "-1", "current_link_speed": "Unknown"}
    (found,) = pci.devices(plugged("sys/devices/pci0000:00/0000:00:03.0", files, "virtio-pci"))
    assert found.interfaces == ("eth0",)
    assert (found.vendor_name, found.device_name) == ("Red Hat (virtio)", "")  # no pci.ids here
    assert (found.node, found.cores, found.iommu_group, found.link) == (-1, (), -1, "")


def test_attributes_that_make_no_sense_are_unknown(plugged, machine):
    files = {"vendor": "intel", "device": "", "class": "0xzz", "local_cpulist": "all of them", "numa_node": "many"}
    files |= {"sriov_numvfs": "-3", "current_link_speed": "8.0 GT/s PCIe", "current_link_width": "0"}
    root = plugged("sys/devices/pci0000:00/0000:00:04.0", files, group="none")
    machine({"usr/share/misc/pci.ids": "\tdead\n\x00\xff\n8086"})
    (found,) = pci.devices(root)
    assert (found.vendor, found.device, found.class_code, found.kind) == (-1, -1, -1, "")
    assert (found.cores, found.node, found.vfs, found.iommu_group, found.link) == ((), -1, 0, -1, "")
    assert not found.is_network


def test_what_is_no_address_is_no_device(plugged):
    root = plugged("sys/devices/pci0000:00/0000:00:04.0", {"class": "0x060400"})
    (root / "sys/bus/pci/devices/not-a-device").mkdir()
    assert [device.kind for device in pci.devices(root)] == ["PCI bridge"]


def test_no_pci(tmp_path):
    assert pci.devices(tmp_path) == ()


@pytest.mark.parametrize(
    ("code", "name"), [(0x020000, "Ethernet"), (0x027700, "network"), (0x010802, "NVMe"), (0xFF0000, ""), (-1, "")]
)
def test_class_names(code, name):
    assert pci.class_name(code) == name


def test_this_machine():
    found = pci.devices()
    assert [device.address for device in found] == sorted(device.address for device in found)
    for device in found:
        assert 0 <= device.vendor <= 0xFFFF
        assert 0 <= device.class_code < 1 << 24
