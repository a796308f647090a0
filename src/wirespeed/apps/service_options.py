"""What a service is told: addresses and ports as text, handlers, the command line."""

import argparse
import dataclasses
import ipaddress
from collections.abc import Callable, Sequence
from typing import Any

from wirespeed.errors import WirespeedError
from wirespeed.stack.interface_settings import Address, Route


class ServiceError(WirespeedError):
    """A service that cannot be: a port taken twice, an address that is none."""


@dataclasses.dataclass(frozen=True)
class Handler:
    """A function, and how it is to answer; see :meth:`wirespeed.apps.service.Service.udp`."""

    function: Callable[..., Any]
    port: int
    drops: tuple[str, ...]
    compiled: bool
    prefetch: Callable[..., Any] | None
    long: bool
    worker: Callable[..., Any] | None
    amplification: int


def asked(arguments: Sequence[str]) -> argparse.Namespace:
    """What a program's user asked of ``run()``; all else on the command line is the program's business."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--seconds", type=float)
    return parser.parse_known_args(arguments)[0]


def listed(given: str | Sequence[str]) -> list[str]:
    """One or several."""
    return [given] if isinstance(given, str) else list(given)


def parsed(what: str, read: Callable[[str], Any], text: str) -> Any:
    """What ``read`` makes of a text. Raises ServiceError: it is none."""
    try:
        return read(text)
    except ValueError as error:
        raise ServiceError(f"{text!r} is no {what}: {error}") from None


def group(text: str) -> Address:
    """A multicast group's address. Raises ValueError: it is none."""
    found = ipaddress.ip_address(text)
    if not found.is_multicast:
        raise ValueError("multicast groups are 224.0.0.0/4 and ff00::/8")
    return found


def default_route(gateway: Any, addresses: tuple[Any, ...]) -> Route:
    """The way to all that is nearer by no other. Raises ServiceError: the gateway is in no network of ours."""
    if not any(gateway in each.network for each in addresses):
        raise ServiceError(f"gateway {gateway} is in none of {', '.join(str(each.network) for each in addresses)}")
    return Route(ipaddress.ip_network("0.0.0.0/0" if gateway.version == 4 else "::/0"), gateway)


__all__ = ["Handler", "ServiceError", "asked", "default_route", "group", "listed", "parsed"]
