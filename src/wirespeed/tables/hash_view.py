"""What nodes see of a hash table: its methods take the fields of its key, and are written for it.

A table of :class:`~wirespeed.tables.keys.FiveTuple4` gets ``find(src, dst, sport, dport, protocol)``: the fields are
shifted together in registers, nothing is stored; a byte swap meets the one that reading a header made, and both are
gone. The text is made here from the declaration of the key; ``print(type(table).View.source)`` shows it.
"""

import hashlib
from collections.abc import Callable
from functools import cache
from types import FunctionType
from typing import Any

from wirespeed.jit import (
    View,
    add,
    bswap16,
    bswap32,
    bswap64,
    load8,
    load16,
    load32,
    load64,
    prefetch,
    shift_right,
    store64,
)
from wirespeed.jit.fields import Field, MacField, PairField
from wirespeed.tables import flow_memory, hash_memory
from wirespeed.tables.hash_memory import HashHead, KeyWords, entry_of
from wirespeed.tables.keys import KeyForm

_RESERVED = frozenset({"self", "value", "hash", "now", "k", "slot", "at", "and", "or", "not", "is", "in"})

_METHODS: dict[str, tuple[str, str, str]] = {
    "hash": ("", "", "return k.hash(self.address, {words})"),
    "prefetch": ("", "", "prefetch_line(first_bucket(self.address, k.hash(self.address, {words})))"),
    "find": ("", "", "at, slot, value = search(self.address, k.hash(self.address, {words}), k, {words})\n"
                     "return slot"),
    "lookup": ("", "", "at, slot, value = search(self.address, k.hash(self.address, {words}), k, {words})\n"
                       "return value if slot >= 0 else -1"),
    "find_hashed": ("hash", "", "at, slot, value = search(self.address, hash, k, {words})\nreturn slot"),
    "lookup_hashed": ("hash", "", "at, slot, value = search(self.address, hash, k, {words})\n"
                                  "return value if slot >= 0 else -1"),
    "add": ("", "value", "return add_key(self.address, k.hash(self.address, {words}), k, {words}, value, {extra})"),
    "delete": ("", "", "return delete_key(self.address, k.hash(self.address, {words}), k, {words}, 0)"),
}  # fmt: skip
"""Name: parameters before and after the key's, and what is done with the key ``k``."""

_FLOW_METHODS: dict[str, tuple[str, str, str]] = {
    "touch": ("", "now", "return touch_key(self.address, k.hash(self.address, {words}), k, {words}, {extra}, now)"),
    "find": ("", "now", "return find_live(self.address, k.hash(self.address, {words}), k, {words}, now)"),
}


class TableView(HashHead):
    """Methods that need no key."""

    def value(self, slot: int) -> int:
        """The value of a slot that a lookup has given."""
        return load64(entry_of(self.address, slot))

    def set_value(self, slot: int, value: int) -> None:
        """Set it."""
        store64(entry_of(self.address, slot), value)


class FlowTableView(TableView):
    """And those of a flow table."""

    def expire(self, now: int, buckets: int) -> int:
        """Delete the flows that are silent too long, in the next so many buckets; how many there were."""
        return flow_memory.sweep(self.address, now, buckets)  # type: ignore[no-any-return]


@cache
def view_of(form: KeyForm, record: Any, flow: bool) -> type[TableView]:
    """The class of views of such tables."""
    extra = extra_words(record, flow)
    methods = {**_METHODS, **(_FLOW_METHODS if flow else {})}
    if flow:
        for name in ("lookup", "find_hashed", "lookup_hashed", "add"):
            del methods[name]
    parts = []
    if form.fields:
        names = [f"{name}_" if name in _RESERVED else name for name, _ in form.fields]
        assigned = _packed(form, names)
        parts += [_method(name, names, assigned, form, extra, *how) for name, how in methods.items()]
    loaded = _loaded(form)
    parts += [_method(f"{name}_at", ["key"], loaded, form, extra, *how) for name, how in methods.items()]
    if record is not None:
        place = 8 + 8 * form.words + 8 * flow
        parts.append(f"def record(self, slot):\n    return Record(entry_of(self.address, slot) + {place})")
    source = "\n\n".join(parts) + "\n"
    scope: dict[str, Any] = {"__name__": __name__, "Record": record, **_SCOPE}
    exec(compile(source, f"<view of tables of {form.cls.__name__ if form.cls else form.kind}>", "exec"), scope)
    members: dict[str, Any] = {name: value for name, value in scope.items() if _is_ours(value, scope)}
    members |= {"SIZE": HashHead.SIZE, "source": source}
    # The name is what tells one kind's machine code on disk from another's.
    digest = hashlib.sha256(f"{source}{_shape(record)}".encode()).hexdigest()[:12]
    base = FlowTableView if flow else TableView
    return type(f"{base.__name__}_{digest}", (base,), members)


def extra_words(record: type[View] | None, flow: bool) -> int:
    """Words that follow the key in an entry."""
    return flow + (0 if record is None else -(-record.SIZE // 8))


_SCOPE: dict[str, Any] = {
    "KeyWords": KeyWords, "wrap": add, "add_key": hash_memory.add, "bswap16": bswap16, "bswap32": bswap32,
    "bswap64": bswap64, "delete_key": hash_memory.delete, "entry_of": entry_of, "find_live": flow_memory.find_live,
    "first_bucket": hash_memory.first_bucket, "load8": load8, "load16": load16, "load32": load32, "load64": load64,
    "prefetch_line": prefetch, "search": hash_memory.search, "shift_right": shift_right, "touch_key": flow_memory.touch,
}  # fmt: skip


def _is_ours(value: Any, scope: dict[str, Any]) -> bool:
    return isinstance(value, FunctionType) and value.__globals__ is scope


def _method(
    name: str, parameters: list[str], assigned: list[str], form: KeyForm, extra: int, before: str, after: str, body: str
) -> str:
    given = ", ".join(part for part in ("self", before, *parameters, after) if part)
    steps = ["k = KeyWords()", *assigned, *body.format(words=form.words, extra=extra).splitlines()]
    return "\n".join([f"def {name}({given}):", *(f"    {step}" for step in steps)])


def _packed(form: KeyForm, names: list[str]) -> list[str]:
    """Statements that put the fields together in words; ``wrap(x, 0)`` keeps them to 64 bits in plain Python."""
    words: list[list[str]] = [[] for _ in range(form.words)]
    for name, (_, field) in zip(names, form.fields, strict=True):
        for offset, value in _values(field, name):
            word, shift = divmod(8 * offset, 64)
            words[word].append(f"{value} << {shift}" if shift else value)
            if shift and shift + 8 * min(field.size, 8) > 64:
                words[word + 1].append(f"shift_right({value}, {64 - shift})")
    return [f"k.w{i} = wrap({' | '.join(f'({term})' for term in terms) or '0'}, 0)" for i, terms in enumerate(words)]


def _values(field: Field, name: str) -> list[tuple[int, str]]:
    """(offset, expression) of a field's bytes as little-endian numbers of up to 64 bits."""
    if isinstance(field, PairField):
        return [(field.offset, f"bswap64({name}[0])"), (field.offset + 8, f"bswap64({name}[1])")]
    if isinstance(field, MacField):
        return [(field.offset, f"shift_right(bswap64({name}), 16)")]
    if field.swap and field.size > 1:
        return [(field.offset, f"bswap{8 * field.size}({name})")]
    return [(field.offset, name if field.size == 8 else f"({name} & {(1 << 8 * field.size) - 1:#x})")]


def _loaded(form: KeyForm) -> list[str]:
    """Statements that read a key from memory, not a byte beyond it."""
    whole, rest = divmod(form.size, 8)
    lines = [f"k.w{i} = load64(key + {8 * i})" for i in range(whole)]
    if rest and whole:  # the last eight bytes, shifted
        lines.append(f"k.w{whole} = shift_right(load64(key + {form.size - 8}), {64 - 8 * rest})")
    elif rest:
        terms, at = [], 0
        for size in (4, 2, 1):
            if rest & size:
                terms.append(f"load{8 * size}(key + {at}) << {8 * at}")
                at += size
        lines.append(f"k.w0 = {' | '.join(terms)}")
    return lines


def _shape(record: type[View] | None) -> str:
    """What a record means: fields, and the code of its methods."""
    if record is None:
        return ""
    parts = [repr(field) for field in record.fields.values()]
    for value in vars(record).values():
        function: Callable[..., Any] | None = value.fget if isinstance(value, property) else value
        if isinstance(function, FunctionType):
            parts.append(f"{function.__code__.co_code.hex()}{function.__code__.co_consts}")
    return "; ".join(parts)


__all__ = ["FlowTableView", "TableView", "extra_words", "view_of"]
