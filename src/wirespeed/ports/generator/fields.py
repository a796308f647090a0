"""What the generator's options say about a header field: which values, and how flows pick them.

Text is ``value``, ``first-last`` or, for addresses, a prefix (all of it, network address and broadcast
included). A mode says how: ``constant`` takes the first value, ``counting`` all of them in turn, ``random``
draws. Without a mode, a single value is constant and anything else counts.
"""

import re
from dataclasses import dataclass
from ipaddress import ip_address, ip_network

from wirespeed.errors import PortError

MODES = ("constant", "counting", "random")


@dataclass(frozen=True)
class Values:
    """``span`` values from ``first`` on, of the field ``name``."""

    name: str
    first: int
    span: int
    mode: str
    version: int = 0
    """4 or 6 for an address, else 0."""


def _settle(spec: str, name: str, first: int, last: int, mode: str, version: int = 0) -> Values:
    if mode and mode not in MODES:
        raise PortError(f"port {spec!r}: {name}_mode={mode!r} must be one of {', '.join(MODES)}")
    span = last - first + 1
    mode = mode or ("counting" if span > 1 else "constant")
    return Values(name, first, 1 if mode == "constant" else span, mode, version)


def addresses(spec: str, name: str, text: str, mode: str) -> Values:
    """Read an address, a prefix or a range ``a-b``.

    Raises:
        PortError: it is none of them.
    """
    try:
        if "/" in text:
            network = ip_network(text, strict=False)
            first, last = int(network[0]), int(network[-1])
            version = network.version
        else:
            low, dash, high = text.partition("-")
            start = ip_address(low)
            stop = ip_address(high) if dash else start
            first, last, version = int(start), int(stop), start.version
            if stop.version != version or last < first:
                raise ValueError
    except ValueError:
        raise PortError(
            f"port {spec!r}: {name}={text!r} must be an address, a prefix or a range a-b with a <= b"
        ) from None
    return _settle(spec, name, first, last, mode, version)


def ports(spec: str, name: str, text: str, mode: str) -> Values:
    """Read a port or a range ``a-b``.

    Raises:
        PortError: it is neither.
    """
    match = re.fullmatch(r"([0-9]{1,5})(?:-([0-9]{1,5}))?", text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not 0 <= first <= last <= 65535:
        raise PortError(f"port {spec!r}: {name}={text!r} must be 0 to 65535 or a range a-b with a <= b")
    return _settle(spec, name, first, last, mode)


def mac_address(spec: str, name: str, text: str) -> bytes:
    """Read ``02:00:00:00:00:01``.

    Raises:
        PortError: it is something else.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text):
        raise PortError(f"port {spec!r}: {name}={text!r} must be six bytes like 02:00:00:00:00:01")
    return bytes.fromhex(text.replace(":", ""))
