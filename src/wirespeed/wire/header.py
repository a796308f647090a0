"""What a protocol header is: a view that knows what carries it.

::

    class Telemetry(Header):
        kind = u8(0)
        hop = u8(1)
        stamp = be64(8)
        SIZE = 16

    Telemetry.bind(Udp, dport=4242)

    pkt[Telemetry].hop += 1

``bind`` declares the way to a header; ``pkt[Telemetry]`` goes it. Each header's way is one small generated
function (read it with ``print(Telemetry.finder_source())``), the same compiled and interpreted. The header is
absent when its carrier is, when a condition does not hold, or when fewer than ``SIZE`` bytes are left.

The headers of this package are found by the parser and need no binding. To look for one of them inside a
tunnel, derive from it: ``class InnerIpv4(Ipv4)``, then ``InnerIpv4.bind(Vxlan...)``.
"""

import difflib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

from wirespeed.errors import WirespeedError
from wirespeed.jit import Local, View, inline, slot


class BindError(WirespeedError):
    """A binding that cannot be: an unknown field, a carrier that is no header, the same twice."""


@dataclass(frozen=True)
class Found:
    """How the parser's own headers are reached from ``pkt``."""

    slot: str
    """The attribute of the packet."""
    inside: str = ""
    """The word that says where the content starts; empty: ``header_bytes`` after the header."""
    bound: str = "limit"
    """The word that says where the content ends."""
    level: int = 3
    """The parse level that finds the header (``wirespeed.wire.parse``)."""
    conditions: dict[str, str] = field(default_factory=dict)
    """Fields whose meaning for the content is another word of the packet (an ethertype behind tags)."""

    @property
    def content_level(self) -> int:
        """The parse level that knows where the content starts and ends."""
        return 3 if self.bound == "limit" else self.level


@dataclass(frozen=True)
class Binding:
    """One way to a header: behind ``carrier``, when each field equals its value."""

    carrier: "type[Header]"
    conditions: tuple[tuple[str, int], ...]


class Header(View):
    """Base of protocol headers: fields, ``SIZE`` (of the fixed part), ``header_bytes``, ``bind``."""

    FOUND: ClassVar[Found | None] = None
    bindings: ClassVar[tuple[Binding, ...]] = ()
    _find: ClassVar[tuple[str, Callable[..., Any]] | None] = None
    _front: ClassVar[Callable[..., Any] | None] = None
    _fixed: ClassVar[bool] = True

    def __init_subclass__(cls, **options: Any) -> None:
        own = vars(cls)
        if "header_bytes" in own:
            cls._fixed = False
        elif cls._fixed:
            size = cls.SIZE or max((getattr(value, "end", 0) for value in own.values()), default=0)
            cls.header_bytes = property(_constantly(size))  # type: ignore[attr-defined]
        cls.FOUND = own.get("FOUND")
        cls.bindings = ()
        cls._find = cls._front = None
        super().__init_subclass__(**options)

    @classmethod
    def bind(cls, carrier: "type[Header]", **conditions: int) -> None:
        """Declare that ``carrier`` carries this header when its fields have these values.

        Binding again adds an alternative; the first that holds wins. Bind before the graph is built.
        """
        if cls.FOUND:
            raise BindError(
                f"{cls.__name__} is found by the parser and cannot be bound: "
                f"derive from it (class Inner{cls.__name__}({cls.__name__})) and bind that"
            )
        where = f"{cls.__name__}.bind({getattr(carrier, '__name__', repr(carrier))})"
        if not (isinstance(carrier, type) and issubclass(carrier, Header)) or carrier is Header:
            raise BindError(f"{where}: a carrier is a class derived from Header")
        if carrier is cls or cls in _ancestry(carrier):
            raise BindError(f"{where}: {carrier.__name__} is itself inside {cls.__name__}")
        if not carrier.FOUND and not carrier.bindings:
            raise BindError(f"{where}: nothing carries {carrier.__name__} yet; bind it first")
        for name, value in conditions.items():
            _check_condition(where, carrier, name, value)
        binding = Binding(carrier, tuple(sorted(conditions.items())))
        if binding in cls.bindings:
            raise BindError(f"{cls.__name__} is already bound to {_describe(binding)}")
        cls.bindings = (*cls.bindings, binding)
        cls._find = None

    @classmethod
    def level(cls) -> int:
        """The parse level that finding this header needs (``wirespeed.wire.parse.LEVEL``)."""
        if cls.FOUND:
            return cls.FOUND.level
        return max((_way(binding.carrier).content_level for binding in cls.bindings), default=0)

    @classmethod
    def finder(cls) -> Callable[..., Any]:
        """The inline function ``find(pkt)`` that gives this header's view, absent when it is not there."""
        source = cls.finder_source()
        if cls._find is None or cls._find[0] != source:
            cls._find = (source, _compile(cls, source))
        return cls._find[1]

    @classmethod
    def at_front(cls) -> Callable[..., Any]:
        """The inline function ``find(record)`` that gives the front of ``record.payload`` as this header, absent when
        the payload is shorter; ``record.opened`` is 1 from then on: who has the header may write it."""
        if cls._front is None:
            maybe, size = _maybe(cls), cls.SIZE

            def find(record: Any) -> Any:
                payload = record.payload
                record.opened = 1
                return maybe(payload.start if payload.length >= size else 0)

            cls._front = inline(find)
        return cls._front

    @classmethod
    def finder_source(cls) -> str:
        """The source text of :meth:`finder`: part of the identity of every kernel that uses it."""
        name = f"find_{cls.__name__.lower()}"
        if cls.FOUND:
            return f"def {name}(pkt):\n    return pkt.{cls.FOUND.slot}\n"
        if not cls.bindings:
            raise BindError(f"{cls.__name__}: nothing carries it; call {cls.__name__}.bind(Carrier) first")
        ways = " or ".join(map(_describe, cls.bindings))
        lines = [f"def {name}(pkt):", f'    """{cls.__name__}: {ways}."""', "    address = 0"]
        for index, binding in enumerate(cls.bindings):
            lines += _search(cls, binding, index)
        lines += ["    return maybe(address)", ""]
        return "\n".join(lines)


def _constantly(size: int) -> Callable[[Any], int]:
    def header_bytes(self: Any) -> int:
        return size

    header_bytes.__doc__ = "Bytes from the start of this header to what it carries."
    return header_bytes


def _ancestry(cls: type[Header]) -> set[type[Header]]:
    """Everything that may carry ``cls``, directly or not."""
    found: set[type[Header]] = set()
    for binding in cls.bindings:
        found |= {binding.carrier} | _ancestry(binding.carrier)
    return found


def _way(cls: type[Header]) -> Found:
    """What is known about the content of ``cls``: where it ends, and the level needed to know."""
    if cls.FOUND:
        return cls.FOUND
    ways = [_way(binding.carrier) for binding in cls.bindings]
    return max(ways, key=lambda way: way.content_level)


def _check_condition(where: str, carrier: type[Header], name: str, value: Any) -> None:
    known = [*carrier.fields, *(carrier.FOUND.conditions if carrier.FOUND else {})]
    if name not in known:
        near = difflib.get_close_matches(name, known, 1, 0.4)
        hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(known)}"
        raise BindError(f"{where}: {carrier.__name__} has no field {name!r}; {hint}")
    if not isinstance(value, int):
        raise BindError(f"{where}: {name}={value!r} must be an integer")


def _describe(binding: Binding) -> str:
    tests = " and ".join(f"{name} == {value:#x}" for name, value in binding.conditions)
    return f"after {binding.carrier.__name__}" + (f" where {tests}" if tests else "")


def _search(cls: type[Header], binding: Binding, index: int) -> list[str]:
    carrier, way = binding.carrier, _way(binding.carrier)
    found, view = carrier.FOUND, f"{carrier.__name__.lower()}_{index}"
    reach = f"pkt.{found.slot}" if found else f"find_{carrier.__name__.lower()}_{carrier._serial}(pkt)"
    aliases = found.conditions if found else {}
    terms = ((aliases.get(name, f"{view}.{name}"), value) for name, value in binding.conditions)
    tests = [view, *(f"{term} == {value}" for term, value in terms)]
    inside = f"pkt.{found.inside}" if found and found.inside else f"{view}.address + {view}.header_bytes"
    # A content word of 0 says there is none; a user's header_bytes may be anything.
    return [
        f"    {view} = {reach}",
        f"    if address == 0 and {' and '.join(tests)}:",
        f"        inside = {inside}",
        f"        if {view}.address <= inside and inside <= pkt.{way.bound} - {cls.SIZE}:",
        "            address = inside",
    ]


def _compile(cls: type[Header], source: str) -> Callable[..., Any]:
    # The module's name lets Numba find the function's globals when machine code comes back from disk.
    scope: dict[str, Any] = {"__name__": __name__, "maybe": _maybe(cls)}
    for binding in cls.bindings:
        if not binding.carrier.FOUND:
            carrier = binding.carrier
            scope[f"find_{carrier.__name__.lower()}_{carrier._serial}"] = carrier.finder()
    exec(compile(source, f"<finder of {cls.__name__}>", "exec"), scope)
    find: Callable[..., Any] = inline(scope[f"find_{cls.__name__.lower()}"])
    return find


def _maybe(cls: type[Header]) -> Callable[[int], Any]:
    """``cls(address)``, typed as a view that may be absent: a slot of a local is just that."""
    place = type(f"Found{cls.__name__}{cls._serial}", (Local,), {"header": slot(cls)})

    @inline
    def maybe(address: int) -> Any:
        found = place()
        found.header = cls(address)
        return found.header

    return maybe
