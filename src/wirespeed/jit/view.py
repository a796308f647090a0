"""Views: typed memory. One class body, compiled and interpreted.

::

    class Udp(View):
        sport = be16(0)
        dport = be16(2)
        SIZE = 8

A view is an address with a type: eight bytes in a register, no object behind it. ``Udp(address)`` makes one.
Attributes are loads and stores; methods and properties of the class work in both machines and are inlined.

**Absent views.** Address 0 means "not there": such a view is false, its fields read as zeros and swallow
writes (the load goes to a line of zeros, the store to a line nobody reads). Where the compiler has seen the
test, the choice costs nothing.

How it is done: one Numba extension type for all views with the class in it (`generic_resolve` types an
attribute, `lower_getattr_generic` and `lower_setattr_generic` emit the access). These hooks are private to
Numba, so the minor version is pinned and only this package uses them.
"""

import inspect
import itertools
import operator
from typing import Any, ClassVar

from llvmlite import ir
from numba.core import types
from numba.core.datamodel import PrimitiveModel
from numba.core.imputils import lower_cast
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_getattr,
    infer_global,
    signature,
)
from numba.extending import (
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    overload_attribute,
    overload_method,
    register_model,
    type_callable,
    typeof_impl,
)

from wirespeed.jit.fields import BitField, Field, MacField, PairField
from wirespeed.jit.part import PART_OPTIONS
from wirespeed.jit.primitive import i8, i64, pointer

_serial = itertools.count()
_names: set[str] = set()


class ViewType(types.Type):
    """The Numba type of a view: which class, and whether it may be absent."""

    def __init__(self, cls: "type[View]", maybe: bool) -> None:
        self.cls = cls
        self.maybe = maybe
        super().__init__(name=f"{'Maybe' if maybe else ''}View({cls._known_as})")

    def __reduce__(self) -> Any:
        return view_type, (self.cls, self.maybe)

    def can_convert_to(self, context: Any, other: Any) -> Any:
        from numba.core.typeconv import Conversion

        if isinstance(other, ViewType) and other.cls is self.cls and other.maybe:
            return Conversion.safe
        return None

    def unify(self, context: Any, other: Any) -> Any:
        if isinstance(other, ViewType) and other.cls is self.cls:
            return self.cls._type(self.cls, True)
        return None


@register_model(ViewType)
class ViewModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, i64)


class View:
    """Base of headers and records: declare fields as class attributes, ``SIZE`` in bytes."""

    SIZE: ClassVar[int] = 0
    fields: ClassVar[dict[str, Field]] = {}
    _serial: ClassVar[int] = -1
    _known_as: ClassVar[str] = ""
    _type: ClassVar[type[ViewType]] = ViewType
    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls._serial = next(_serial)
        name = f"{cls.__module__}.{cls.__qualname__}"
        cls._known_as = f"{name}#{cls._serial}" if name in _names else name  # the same in each process, if it can be
        _names.add(name)
        cls.fields = {**cls.fields}
        for name, value in vars(cls).items():
            if isinstance(value, Field):
                cls.fields[name] = value
        if not cls.SIZE and cls.fields:
            cls.SIZE = max(field.end for field in cls.fields.values())
        beyond = [name for name, field in cls.fields.items() if field.end > cls.SIZE]
        if beyond:
            raise TypeError(f"{cls.__name__}.{beyond[0]} ends after SIZE = {cls.SIZE} bytes")
        base = next(parent for parent in cls.__mro__[1:] if issubclass(parent, View))
        cls._type = type(f"{cls.__name__}Type", (base._type,), {})
        register_model(cls._type)(ViewModel)
        know_members(cls._type, cls)
        _make_constructor(cls)

    def __bool__(self) -> bool:
        return self.address != 0

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.address == self.address  # type: ignore[attr-defined]

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def finder(cls) -> Any:
        """The function that finds this view in a packet; headers define it (``wirespeed.wire.bind``)."""
        raise TypeError(f"{cls.__name__} is not bound to what carries it: call {cls.__name__}.bind(...) first")

    def __repr__(self) -> str:
        if not self:
            return f"<absent {type(self).__name__}>"
        shown = (f"{name}={getattr(self, name)!r}" for name in self.fields)
        return f"{type(self).__name__}({', '.join(shown)})"


def view_type(cls: type[View], maybe: bool) -> ViewType:
    """The Numba type of ``cls``'s views; ``maybe`` when they may be absent."""
    return cls._type(cls, maybe)


@typeof_impl.register(View)
def _typeof_view(value: View, context: Any) -> ViewType:
    return view_type(type(value), True)


def _make_constructor(cls: type[View]) -> None:
    """``cls(address)`` inside a kernel: no instruction at all."""

    @type_callable(cls)
    def typer(context: Any) -> Any:
        def resolve(address: Any) -> Any:
            return view_type(cls, False) if isinstance(address, types.Integer) else None

        return resolve

    @lower_builtin(cls, types.Integer)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.cast(builder, args[0], sig.args[0], types.int64)


# Attributes ----------------------------------------------------------------------------------------------


def _scratch(builder: ir.IRBuilder, name: str, constant: bool) -> ir.Value:
    """The line that absent views use: zeros to read, or a line to write that nobody reads."""
    known = builder.module.globals.get(name)
    if known is None:
        kind = ir.ArrayType(i8, 64)
        known = ir.GlobalVariable(builder.module, kind, name)
        known.linkage = "internal"
        known.initializer = ir.Constant(kind, None)
        known.global_constant = constant
    return builder.bitcast(known, i8.as_pointer())


def _place(builder: ir.IRBuilder, view: ViewType, address: ir.Value, offset: int, store: bool) -> ir.Value:
    there = pointer(builder, address, offset)
    if not view.maybe:
        return there
    line = _scratch(builder, "wirespeed.sink" if store else "wirespeed.zeros", not store)
    absent = builder.icmp_unsigned("==", address, ir.Constant(i64, 0))
    return builder.select(absent, line, there)


def _load(builder: ir.IRBuilder, at: ir.Value, size: int, swap: bool, offset: int = 0) -> ir.Value:
    kind = ir.IntType(size * 8)
    place = builder.gep(at, [ir.Constant(i64, offset)]) if offset else at
    value = builder.load(builder.bitcast(place, kind.as_pointer()))
    value.align = 1
    if swap and size > 1:
        value = builder.bswap(value)
    return builder.zext(value, i64) if size < 8 else value


def _store(builder: ir.IRBuilder, at: ir.Value, size: int, swap: bool, value: ir.Value, offset: int = 0) -> None:
    kind = ir.IntType(size * 8)
    narrow = builder.trunc(value, kind) if size < 8 else value
    if swap and size > 1:
        narrow = builder.bswap(narrow)
    place = builder.gep(at, [ir.Constant(i64, offset)]) if offset else at
    builder.store(narrow, builder.bitcast(place, kind.as_pointer())).align = 1


def _mask(width: int, shift: int = 0) -> int:
    return ((1 << width) - 1) << shift


@infer_getattr
class ViewAttributes(AttributeTemplate):  # type: ignore[misc]
    key = ViewType

    def generic_resolve(self, view: ViewType, attribute: str) -> Any:
        if attribute == "address":
            return types.int64
        field = view.cls.fields.get(attribute)
        if field is None:
            return None
        return types.UniTuple(types.int64, 2) if isinstance(field, PairField) else types.int64


@lower_getattr_generic(ViewType)
def _getattr(context: Any, builder: Any, view: Any, address: Any, attribute: str) -> Any:
    if attribute == "address":
        return address
    field = view.cls.fields[attribute]
    at = _place(builder, view, address, field.offset, store=False)
    if isinstance(field, MacField):
        high, low = _load(builder, at, 2, True), _load(builder, at, 4, True, 2)
        return builder.or_(builder.shl(high, ir.Constant(i64, 32)), low)
    if isinstance(field, PairField):
        halves = [_load(builder, at, 8, True), _load(builder, at, 8, True, 8)]
        return context.make_tuple(builder, types.UniTuple(types.int64, 2), halves)
    value = _load(builder, at, field.size, field.swap)
    if isinstance(field, BitField):
        value = builder.lshr(value, ir.Constant(i64, field.shift))
        value = builder.and_(value, ir.Constant(i64, _mask(field.width)))
    return value


@lower_setattr_generic(ViewType)
def _setattr(context: Any, builder: Any, sig: Any, args: Any, attribute: str) -> None:
    view, kind = sig.args
    address, value = args
    field = view.cls.fields[attribute]
    at = _place(builder, view, address, field.offset, store=True)
    if isinstance(field, PairField):
        value = context.cast(builder, value, kind, types.UniTuple(types.int64, 2))
        for index in (0, 1):
            _store(builder, at, 8, True, builder.extract_value(value, index), index * 8)
        return
    value = context.cast(builder, value, kind, types.int64)
    if isinstance(field, MacField):
        _store(builder, at, 2, True, builder.lshr(value, ir.Constant(i64, 32)))
        _store(builder, at, 4, True, value, 2)
        return
    if isinstance(field, BitField):
        mask = _mask(field.width, field.shift)
        word = _load(builder, at, field.size, field.swap)
        kept = builder.and_(word, ir.Constant(i64, ~mask))
        moved = builder.shl(value, ir.Constant(i64, field.shift))
        value = builder.or_(kept, builder.and_(moved, ir.Constant(i64, mask)))
    _store(builder, at, field.size, field.swap, value)


# Truth and identity --------------------------------------------------------------------------------------


class _Truth(AbstractTemplate):  # type: ignore[misc]
    def generic(self, args: Any, kws: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], ViewType):
            return signature(types.boolean, args[0])
        return None


@infer_global(bool)
class _Bool(_Truth):
    pass


@infer_global(operator.truth)
class _OperatorTruth(_Truth):
    pass


@infer_global(operator.not_)
class _Not(_Truth):
    pass


def _present(builder: Any, address: Any) -> Any:
    return builder.icmp_unsigned("!=", address, ir.Constant(i64, 0))


@lower_builtin(bool, ViewType)
@lower_builtin(operator.truth, ViewType)
def _lower_truth(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return _present(builder, args[0])


@lower_builtin(operator.not_, ViewType)
def _lower_not(context: Any, builder: Any, sig: Any, args: Any) -> Any:
    return builder.not_(_present(builder, args[0]))


@lower_cast(ViewType, types.Boolean)
def _cast_truth(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return _present(builder, value)


@lower_cast(ViewType, ViewType)
def _cast_view(context: Any, builder: Any, source: Any, target: Any, value: Any) -> Any:
    return value


# Methods and properties ----------------------------------------------------------------------------------


def _chooser(function: Any) -> Any:
    """What Numba asks for an overload: a function with the same parameters that returns ``function``."""
    parameters = inspect.signature(function).parameters.values()
    defaults = {p.name: p.default for p in parameters if p.default is not p.empty}
    shown = ", ".join(f"{p.name}=_defaults[{p.name!r}]" if p.name in defaults else p.name for p in parameters)
    scope = {"_defaults": defaults, "_function": function}
    exec(f"def choose({shown}):\n    return _function", scope)
    return scope["choose"]


def know_members(kind: type[types.Type], cls: type) -> None:
    """Let compiled code call the methods and read the properties that ``cls`` defines, inlined."""
    options = {"strict": False, "jit_options": PART_OPTIONS}
    for name, value in vars(cls).items():
        if name.startswith("__"):
            continue
        if inspect.isfunction(value):
            overload_method(kind, name, **options)(_chooser(value))
        elif isinstance(value, property):
            overload_attribute(kind, name, **options)(_chooser(value.fget))


__all__ = ["View", "ViewType", "know_members"]
