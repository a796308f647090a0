"""Locals: a record that lives in the registers of the loop it belongs to.

The packet a node sees has a dozen properties (its headers, its length), nearly all of which a given graph
never asks for. A ``Local`` is such a record: compiled, it is one stack slot per worker loop, which LLVM
splits into registers once the nodes are inlined, dropping what nobody reads along with the code that
computed it. Interpreted, it is an ordinary object with the same attributes.

::

    class Packet(Local):
        start = word()
        udp = slot(Udp)

``Packet()`` in a kernel makes the slot (uninitialised: assign every attribute before it is read).
"""

import operator
from typing import Any, ClassVar

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import AttributeTemplate, infer_getattr
from numba.extending import (
    lower_builtin,
    lower_getattr_generic,
    lower_setattr_generic,
    overload,
    register_model,
    type_callable,
)

from wirespeed.jit.part import PART_OPTIONS
from wirespeed.jit.primitive import i32, i64
from wirespeed.jit.view import View, know_members, view_type


class LocalType(types.Type):
    """The Numba type of a local record."""

    def __init__(self, cls: "type[Local]") -> None:
        self.cls = cls
        super().__init__(name=f"Local({cls.__module__}.{cls.__qualname__})")

    def __reduce__(self) -> Any:
        return _local_type, (self.cls,)


def _local_type(cls: "type[Local]") -> LocalType:
    return cls._type


@register_model(LocalType)
class LocalModel(PrimitiveModel):  # type: ignore[misc]
    """A pointer to the record's stack slots."""

    def __init__(self, manager: Any, kind: LocalType) -> None:
        super().__init__(manager, kind, ir.ArrayType(i64, len(kind.cls.slots)).as_pointer())


class Slot:
    """One attribute of a local: a word, or a view that may be absent."""

    def __init__(self, view: type[View] | None) -> None:
        self.view = view


def word() -> Any:
    """An int64 attribute."""
    return Slot(None)


def slot(view: type[View]) -> Any:
    """An attribute that holds a view of this class, absent when its address is 0."""
    return Slot(view)


class Local:
    """Base of local records: declare attributes with :func:`word` and :func:`slot`."""

    slots: ClassVar[dict[str, Slot]] = {}
    _type: ClassVar[LocalType]

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.slots = {name: value for name, value in vars(cls).items() if isinstance(value, Slot)}
        for name in cls.slots:
            delattr(cls, name)
        kind = type(f"{cls.__name__}Type", (LocalType,), {})
        register_model(kind)(LocalModel)
        cls._type = kind(cls)
        know_members(kind, cls)
        _make_constructor(cls)

    @classmethod
    def finder_of(cls, header: Any) -> Any:
        """The inline function that finds a header's view in such a record: ``record[header]``."""
        return header.finder()

    @classmethod
    def numba_type(cls) -> LocalType:
        """The Numba type of this record."""
        return cls._type


def _make_constructor(cls: type[Local]) -> None:
    @type_callable(cls)
    def typer(context: Any) -> Any:
        return lambda: cls._type

    @lower_builtin(cls)
    def lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return cgutils.alloca_once(builder, ir.ArrayType(i64, len(cls.slots)), name=cls.__name__)


@infer_getattr
class LocalAttributes(AttributeTemplate):  # type: ignore[misc]
    key = LocalType

    def generic_resolve(self, local: LocalType, attribute: str) -> Any:
        found = local.cls.slots.get(attribute)
        if found is None:
            return None
        return types.int64 if found.view is None else view_type(found.view, True)


def _slot_pointer(builder: Any, local: LocalType, record: Any, attribute: str) -> Any:
    index = list(local.cls.slots).index(attribute)
    return builder.gep(record, [ir.Constant(i32, 0), ir.Constant(i32, index)], inbounds=True)


@lower_getattr_generic(LocalType)
def _getattr(context: Any, builder: Any, local: Any, record: Any, attribute: str) -> Any:
    return builder.load(_slot_pointer(builder, local, record, attribute))


@lower_setattr_generic(LocalType)
def _setattr(context: Any, builder: Any, sig: Any, args: Any, attribute: str) -> None:
    local, kind = sig.args
    record, value = args
    found = local.cls.slots[attribute]
    wanted = types.int64 if found.view is None else view_type(found.view, True)
    value = context.cast(builder, value, kind, wanted)
    builder.store(value, _slot_pointer(builder, local, record, attribute))


@overload(operator.getitem, strict=False, jit_options=PART_OPTIONS)
def _getitem(local: Any, key: Any) -> Any:
    """``pkt[Telemetry]``: the class says how to find its view in the record."""
    if not isinstance(local, LocalType) or not isinstance(key, types.Function):
        return None
    cls = key.typing_key
    if not (isinstance(cls, type) and issubclass(cls, View)):
        return None
    find = local.cls.finder_of(cls)

    def locate(local: Any, key: Any) -> Any:
        return find(local)

    return locate
