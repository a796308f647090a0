"""A port's text: ``kind:what,option=value,...``, checked against what the driver declares.

A driver's options are a frozen dataclass: field names are option names, types say how the text is read,
defaults make an option optional, ``metadata["doc"]`` is its help. One field may be ``positional``: what
stands before the first comma (``pcap:in.pcap``, ``af_packet:eth0``).
"""

import dataclasses
import difflib
import re
from typing import Any, TypeVar, get_type_hints

from wirespeed.errors import PortError

T = TypeVar("T")

_MULTIPLES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30}


def option(default: Any = dataclasses.MISSING, doc: str = "", positional: bool = False) -> Any:
    """Declare an option of a driver."""
    return dataclasses.field(default=default, metadata={"doc": doc, "positional": positional})


def nearest(name: str, known: list[str]) -> str:
    """``; did you mean 'x'?`` if some known name is near, else the list of them."""
    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known) or 'none'}"


def _number(text: str) -> int:
    match = re.fullmatch(r"(0x[0-9a-f]+|-?[0-9][0-9_]*(?:\.[0-9]+)?)([kmg]i?)?", text.strip().lower())
    if not match:
        raise ValueError("a whole number, perhaps with k, M, G, Ki, Mi, Gi")
    digits, unit = match[1], _MULTIPLES[match[2] or ""]
    value = int(digits, 16) if digits.startswith("0x") else float(digits) if "." in digits else int(digits)
    return int(value * unit)


def _boolean(text: str) -> bool:
    if text.lower() in ("1", "yes", "true", "on", ""):
        return True
    if text.lower() in ("0", "no", "false", "off"):
        return False
    raise ValueError("yes or no")


def _convert(kind: Any, text: str) -> Any:
    if kind is bool:
        return _boolean(text)
    if kind is int:
        return _number(text)
    if kind is float:
        return float(text)
    return text


def parse_options(spec: str, text: str, declared: type[T], known: list[str] | None = None) -> T:
    """Read ``what,option=value,...`` into the dataclass ``declared``.

    Args:
        spec: the whole specification, for messages.
        text: what follows ``kind:``.
        declared: the driver's options.
        known: names to suggest for one that nobody declared; those of ``declared`` if not given.

    Raises:
        PortError: an option nobody declared, a value of the wrong kind, or a missing one.
    """
    fields = {field.name: field for field in dataclasses.fields(declared)}  # type: ignore[arg-type]
    hints = get_type_hints(declared)
    leading = [name for name, field in fields.items() if field.metadata.get("positional")]
    given: dict[str, Any] = {}
    for index, part in enumerate(text.split(",") if text else []):
        name, equals, value = part.partition("=")
        meant = name in fields or difflib.get_close_matches(name, known or fields, n=1)
        if index == 0 and leading and not (equals and meant):
            name, value = leading[0], part
        elif name not in fields:
            raise PortError(f"port {spec!r} has no option {name!r}: {nearest(name, known or list(fields))}")
        try:
            given[name] = _convert(hints[name], value)
        except ValueError as error:
            raise PortError(f"port {spec!r}: option {name}={value!r} must be {error}") from None
    for name, field in fields.items():
        if field.default is dataclasses.MISSING and name not in given:
            raise PortError(f"port {spec!r} lacks {name}: {field.metadata.get('doc') or 'it has no default'}")
    return declared(**given)
