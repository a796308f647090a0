"""Interfaces against the socket module and the ioctls; a described machine with PCI and virtio cards."""

import socket
import struct
from fcntl import ioctl

from wirespeed.eal import nics

PCI = "sys/devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1"
VIRTIO = "sys/devices/pci0000:00/0000:00:03.0/virtio2"


def test_names_are_those_of_the_socket_module():
    assert {nic.name for nic in nics.interfaces()} == {name for _, name in socket.if_nameindex()}


def test_address_and_mtu_are_those_of_the_ioctls():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for nic in nics.interfaces():
            request = struct.pack("=40s", nic.name.encode())
            mtu = struct.unpack_from("=i", ioctl(control, 0x8921, request), 16)[0]  # SIOCGIFMTU
            address = ioctl(control, 0x8927, request)[18:24]  # SIOCGIFHWADDR
            assert (nic.mtu, nic.mac) == (mtu, address.hex(":"))


def test_loopback_is_virtual():
    loopback = next(nic for nic in nics.interfaces() if nic.name == "lo")
    assert loopback.virtual
    assert (loopback.driver, loopback.pci, loopback.node) == ("", "", -1)


def interface(root, place, name, driver, files):
    """An interface where sysfs would have it: a link from class/net to the device's directory."""
    folder = root / place / "net" / name
    for file, text in files.items():
        path = folder / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    if driver:
        (folder / "device").symlink_to(root / place)
        (root / "sys/bus/drivers" / driver).mkdir(parents=True)
        (root / place / "driver").symlink_to(root / "sys/bus/drivers" / driver)
    base = root / "sys/class/net"
    base.mkdir(parents=True, exist_ok=True)
    (base / name).symlink_to(folder)


def test_a_described_machine(machine):
    root = machine({f"{PCI}/numa_node": "1\n", f"{VIRTIO}/../numa_node": "0\n", "sys/class/net/bonding_masters": ""})
    card = {"operstate": "up", "address": "3c:fd:fe:00:00:01", "mtu": "9000", "speed": "25000"}
    card |= {f"queues/rx-{n}/rps_cpus": "0" for n in range(12)} | {"queues/tx-0/xps_cpus": "0"}
    interface(root, PCI, "ws-card0", "i40e", card)
    interface(root, VIRTIO, "ws-virt0", "virtio_net", {"operstate": "down", "speed": "-1", "queues/rx-0/x": ""})
    interface(root, "sys/devices/virtual", "ws-br0", "", {"mtu": "1500"})
    found = nics.interfaces(root)
    assert found == (
        nics.Nic("ws-card0", "i40e", "up", "3c:fd:fe:00:00:01", 9000, 25000, 12, 1, 0, "0000:3b:00.1", 1, False),
        nics.Nic("ws-virt0", "virtio_net", "down", "", 0, -1, 1, 0, 0, "0000:00:03.0", 0, False),
        nics.Nic("ws-br0", "", "", "", 1500, -1, 0, 0, 0, "", -1, True),
    )
