"""How fast is a port, beside DPDK's driver for the same thing? ``wirespeed bench port --driver X``.

Each driver has a module of its own: :data:`DRIVERS`. Its rows are measured on the same interface, socket or file, with
the same frames, in turns within one run. Without ``--driver``, all of them.
"""

from collections.abc import Callable, Sequence
from importlib import import_module

from wirespeed.bench.result import Row
from wirespeed.bench.settings import Settings
from wirespeed.errors import WirespeedError
from wirespeed.ports.options import nearest

DRIVERS: dict[str, str] = {
    "af_packet": "wirespeed.bench.port_af_packet",
    "af_xdp": "wirespeed.bench.port_af_xdp",
    "generator": "wirespeed.bench.port_generator",
    "memif": "wirespeed.bench.port_memif",
    "tap": "wirespeed.bench.port_tap",
    "vhost_user": "wirespeed.bench.port_vhost_user",
    "virtio_user": "wirespeed.bench.port_virtio_user",
    "pcap": "wirespeed.bench.port_pcap",
}
"""Each driver with a bench, and the module whose ``rows(settings, tell)`` measures it."""


def rows(settings: Settings, tell: Callable[[str], None]) -> Sequence[Row]:
    """Measure one driver, or every one."""
    if settings.driver is not None and settings.driver not in DRIVERS:
        raise WirespeedError(f"no bench has a driver {settings.driver!r}; {nearest(settings.driver, list(DRIVERS))}")
    found: list[Row] = []
    for driver in [settings.driver] if settings.driver else DRIVERS:
        measure = import_module(DRIVERS[driver]).rows
        found += measure(settings, lambda text, driver=driver: tell(f"{driver}: {text}"))
    return found
