"""The configuration of a router: what a TOML file may say, as values.

Read once, checked whole before anything is opened, never changed afterwards: to change what runs, read another and
compare. The classes below are the reference: names are the file's keys, types say what a value must be, defaults
make a key optional.
"""

import ipaddress
import tomllib
import types
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import msgspec
from msgspec import Meta, Struct

from wirespeed.errors import ConfigError
from wirespeed.mem.pool import MAX_BURST
from wirespeed.mem.state import MAX_WORKERS
from wirespeed.ports.options import nearest
from wirespeed.wire.ethernet import MAC_GROUP_BIT, mac_address, mac_text

APPS = ("router",)
"""What ``app`` may be."""


class Mac(int):
    """An Ethernet address, written ``"02:00:00:00:00:01"``."""

    def __str__(self) -> str:
        return mac_text(self)


class EngineConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[engine]``: how the graph is run."""

    workers: Annotated[int, Meta(ge=1, le=MAX_WORKERS)] = 1
    """Cores that forward."""
    symmetric: bool = False
    """Both directions of a flow go to the same worker."""
    burst: Annotated[int, Meta(ge=1, le=MAX_BURST // 2)] = 32
    """Packets taken from a port at once."""
    cells: Annotated[int, Meta(ge=1024, le=1 << 24)] = 16384
    """Size of the packet pool."""
    idle: Literal["latency", "balanced", "power"] = "balanced"
    """What a worker does that has nothing to do: never sleep, spin a little first, or sleep at once."""


class PortConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[port]]``: one interface of the router."""

    name: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_.-]{1,32}$")]
    """What reports call it: letters, digits, ``_``, ``.`` and ``-``."""
    spec: str
    """The port's text, as ``af_packet:eth1``."""
    addresses: tuple[IPv4Interface, ...] = ()
    """The router's own addresses there, each with its prefix length: ``"10.1.0.1/24"``."""
    mac: Mac | None = None
    """Its Ethernet address; the interface's own if not given."""
    mtu: Annotated[int, Meta(ge=68, le=65535)] | None = None
    """The largest IP packet it takes; the interface's own if not given. RFC 791: at least 68."""


class RouteConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[route]]``: packets for ``prefix`` go to the neighbour ``via``."""

    prefix: IPv4Network
    via: IPv4Address


class NeighbourConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[[neighbour]]``: a neighbour that need not be asked for."""

    address: IPv4Address
    mac: Mac


class LimitsConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """``[limits]``: how much strangers can make the router do or remember."""

    neighbours: Annotated[int, Meta(ge=1, le=65536)] = 1024
    """Neighbours known at once."""
    held: Annotated[int, Meta(ge=1, le=1024)] = 16
    """Packets that wait for one neighbour's address; the oldest gives way."""
    icmp_per_second: Annotated[int, Meta(ge=0, le=1_000_000)] = 1000
    """ICMP errors sent, RFC 1812 section 4.3.2.8; 0 for none."""


class RouterConfig(Struct, frozen=True, forbid_unknown_fields=True):
    """A router's file. Made by :func:`read`."""

    app: Literal["router"]
    engine: EngineConfig = EngineConfig()
    ports: tuple[PortConfig, ...] = msgspec.field(default=(), name="port")
    routes: tuple[RouteConfig, ...] = msgspec.field(default=(), name="route")
    neighbours: tuple[NeighbourConfig, ...] = msgspec.field(default=(), name="neighbour")
    limits: LimitsConfig = LimitsConfig()


def read(path: Path) -> RouterConfig:
    """Read and check a router's file; nothing is opened.

    Raises:
        ConfigError: anything is wrong with it. The message says where, why, and what would be right.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not text in UTF-8: a configuration is a TOML file") from None
    return parse(text, str(path))


def parse(text: str, file: str = "configuration") -> RouterConfig:
    """As :func:`read`, from text; ``file`` is its name in messages."""
    from wirespeed.control.check import check

    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{file}: is not valid TOML: {error}") from None
    if data.get("app") not in APPS:
        said = f"{data['app']!r} is no application" if "app" in data else 'is missing; write app = "router" first'
        raise ConfigError(f"{file}: app: {said}; {nearest(str(data.get('app', '')), list(APPS))}")
    for where, why in _unknown(data, RouterConfig, ""):
        raise ConfigError(f"{file}: {where}: {why}")
    try:
        config = msgspec.convert(data, RouterConfig, dec_hook=_decode)
    except msgspec.ValidationError as error:
        why, _, where = str(error).partition(" - at ")
        where = where.strip("`").removeprefix("$").removeprefix(".")
        raise ConfigError(f"{file}: {where + ': ' if where else ''}{_plain(why)}") from None
    for where, why in check(config):
        raise ConfigError(f"{file}: {where}: {why}")
    return config


def _unknown(data: Any, kind: Any, path: str) -> Iterator[tuple[str, str]]:
    """Keys that nobody declared, with the nearest one that is."""
    if get_origin(kind) in (tuple, types.UnionType):
        if isinstance(data, list):
            for index, each in enumerate(data):
                yield from _unknown(each, get_args(kind)[0], f"{path}[{index}]")
        return
    if not (isinstance(kind, type) and issubclass(kind, Struct) and isinstance(data, dict)):
        return
    hints = get_type_hints(kind)
    known = {field.encode_name: hints[field.name] for field in msgspec.structs.fields(kind)}
    for key, value in data.items():
        where = f"{path}.{key}" if path else key
        if key not in known:
            yield where, f"there is no such option; {nearest(key, list(known))}"
        else:
            yield from _unknown(value, known[key], where)


def _plain(why: str) -> str:
    """msgspec's reason in the file's words."""
    for theirs, ours in (("Object missing", "lacks the"), ("`array`", "a list"), ("`object`", "a table"),
                         ("`str`", "text"), ("`int`", "a whole number"), ("`bool`", "true or false"),
                         ("`float`", "a number"), ("Expected", "must be"), ("`", "")):  # fmt: skip
        why = why.replace(theirs, ours)
    return why


def _decode(kind: type[Any], value: Any) -> Any:
    """A value of a type that TOML does not have. ValueError says what would be right."""
    example = {IPv4Interface: "10.1.0.1/24", IPv4Network: "10.1.0.0/24", IPv4Address: "10.1.0.1"}.get(kind)
    if not isinstance(value, str):
        raise ValueError(f'{value!r} must be text, as "{example or "02:00:00:00:00:01"}"')
    if kind is Mac:
        return _mac(value)
    if kind is not IPv4Address and "/" not in value:
        raise ValueError(f"{value!r} has no prefix length; write it like {example}")
    try:
        return kind(value)
    except ipaddress.NetmaskValueError:
        raise ValueError(f"{value!r} has no prefix length from 0 to 32; write it like {example}") from None
    except ValueError:
        right = _without_host_bits(value) if kind is IPv4Network else ""
        if right:
            raise ValueError(f"{value!r} has host bits set; did you mean {right}?") from None
        raise ValueError(f"{value!r} is not an IPv4 {_WHAT[kind]}; write it like {example}") from None


_WHAT = {IPv4Interface: "address with its prefix length", IPv4Network: "prefix", IPv4Address: "address"}


def _without_host_bits(text: str) -> str:
    try:
        return str(IPv4Network(text, strict=False))
    except ValueError:
        return ""


def _mac(text: str) -> Mac:
    try:
        mac = Mac(mac_address(text))
    except ValueError as error:
        raise ValueError(str(error)) from None
    if not 0 < mac < 1 << 48 or mac & MAC_GROUP_BIT:
        raise ValueError(f"{text!r} is no station's address: the first byte must be even, as in 02:00:00:00:00:01")
    return mac


__all__ = [
    "EngineConfig", "LimitsConfig", "Mac", "NeighbourConfig", "PortConfig", "RouteConfig", "RouterConfig", "parse",
    "read",
]  # fmt: skip
