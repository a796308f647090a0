"""virtio_user and vhost_user: both ends of a vhost-user connection are ours."""

import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from netns import eventually

from wirespeed.jit import COMPILED
from wirespeed.mem.pool import Pool
from wirespeed.ports.port import port as make_port


@pytest.fixture
def ends(pool: Any, worker: Any, tmp_path: Path) -> Iterator[Any]:
    """``ends(driver's options, device's role)``: (worker, port) of the driver's end and of the device's."""
    path = str(tmp_path / "vhost.sock")
    other_pool = Pool(2048)
    other = type(worker)(other_pool)
    opened: list[Any] = []

    def make(options: str, role: str) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
        ours = {"server": "client", "client": "server"}[role]
        device = make_port(f"vhost_user:{path},role={role}")
        driver = make_port(f"virtio_user:{path},role={ours},{options}")
        for port, its in sorted(((device, other_pool), (driver, pool)), key=lambda pair: "role=client" in pair[0].spec):
            port.open(its, 1, 1)
            opened.append(port)
        eventually(lambda: device.link().up and driver.link().up, "connected")
        return (worker, driver), (other, device)

    yield make
    for port in opened:
        port.close()
    other.close()
    assert other_pool.in_use == 0
    other_pool.close()


@pytest.mark.parametrize("role", ["server", "client"])
@pytest.mark.parametrize(
    "options",
    ["packed=no", "packed=yes", "packed=no,mtu=9000,indirect=no,in_order=no", "packed=yes,mtu=9000,event_index=yes"],
)
def test_every_byte_arrives(ends, options, role):
    chance = random.Random(options)
    largest = 8000 if "mtu" in options else 1514
    sides = ends(options, role)
    for worker, port in sides:
        assert worker.burst(port) == []  # the driver fills its ring
    for (source, out), (sink, into) in (sides, sides[::-1]):
        frames = [chance.randbytes(chance.randrange(60, largest)) for _ in range(200 if COMPILED else 20)]
        waiting, arrived = list(frames), []
        for _ in range(10_000):
            batch = [source.make(frame) for frame in waiting[:4]]
            sent = source.send(out, batch)
            source.free(batch[sent:])
            del waiting[:sent]
            descs = sink.burst(into)
            arrived += [sink.packet(desc) for desc in descs]
            sink.free(descs)
            source.burst(out)  # a driver refills its ring when it receives
            if len(arrived) == len(frames):
                break
        assert arrived == frames
        assert into.stats().rx_bytes == out.stats().tx_bytes == sum(map(len, frames))


def test_the_device_leaves_and_returns(ends, pool, tmp_path):
    (worker, driver), (_, device) = ends("size=64", "server")
    worker.burst(driver)
    assert pool.in_use == 64
    device.close()
    eventually(lambda: not driver.link().up and pool.in_use == 0, "the cells come back")
    again = Pool(2048)
    returned = make_port(device.spec)
    returned.open(again, 1, 1)
    try:
        eventually(lambda: driver.link().up, "connected again")
        assert worker.burst(driver) == []
        assert os.path.exists(tmp_path / "vhost.sock")
    finally:
        returned.close()
        assert again.in_use == 0
        again.close()
