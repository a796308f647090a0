"""The reference, made from what the code declares: docstrings, options, header fields, commands.

mkdocs calls :func:`on_files` when it builds the documentation, so that nothing made is kept in the repository and
nothing can be out of date. To read the pages without mkdocs:

    python docs/gen_reference.py FOLDER
"""

import dataclasses
import inspect
import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import wirespeed
from wirespeed.errors import WirespeedError
from wirespeed.jit import fields
from wirespeed.ports.port import KINDS
from wirespeed.wire.header import Header
from wirespeed.wire.packet import Packet
from wirespeed.wire.parse import LEVEL


def pages() -> dict[str, str]:
    """Name of each page and its text."""
    made = {"api.md": api, "packet.md": packet, "headers.md": headers, "ports.md": ports, "nodes.md": nodes,
            "cli.md": cli, "errors.md": errors}  # fmt: skip
    return {name: "\n".join(make()).rstrip() + "\n" for name, make in made.items()}


# Text ------------------------------------------------------------------------------------------------------


def prose(text: str | None) -> str:
    """A docstring as Markdown: roles become code, ``::`` becomes a block, sections become lists."""
    text = inspect.cleandoc(text or "")
    text = re.sub(r":\w+:`~?([^`]+)`", lambda role: f"`{role[1].removeprefix('wirespeed.')}`", text)
    text = re.sub(r"``([^`]+)``", r"`\1`", text)
    text = re.sub(r"^(Args|Attributes|Returns|Raises):$", r"**\1**\n", text, flags=re.M)
    lines = []
    listing = block = False
    for line in text.splitlines():
        if line.startswith("**"):
            listing = True
        elif line and not line.startswith(" "):
            listing = False
        if re.fullmatch(r".*::", line) and not listing:
            line, block = line[:-2].rstrip(), True
            line = f"{line}:" if line else line
        elif block and line and not line.startswith(" "):
            block = False
        entry = re.match(r"    (\w[\w., ]*(?:\([^)]*\))?): (.*)", line) if listing else None
        if entry:
            line = f"- `{entry[1]}`: {entry[2]}"
        elif listing and line.startswith("    "):
            line = "    " + line.strip() if line.startswith("        ") else f"- {line.strip()}"
        lines.append(line)
    return "\n".join(lines)


def first_line(thing: Any) -> str:
    """The summary of a docstring, or what a plain number is."""
    if isinstance(thing, int):
        return f"the number {thing}"
    return prose(inspect.getdoc(thing)).partition("\n")[0]


def cell(text: object) -> str:
    """Fit for a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(*columns: str) -> Iterator[str]:
    """The head of a table."""
    yield f"| {' | '.join(columns)} |"
    yield f"|{'---|' * len(columns)}"


def row(*cells: object) -> str:
    """A line of a table."""
    return f"| {' | '.join(cell(text) for text in cells)} |"


def signature(thing: Any) -> str:
    """Its arguments, as one writes them."""
    try:
        return re.sub(r"wirespeed\.[\w.]*\.|typing\.|collections\.abc\.", "", str(inspect.signature(thing)))
    except ValueError:
        return "(...)"


# Pages -----------------------------------------------------------------------------------------------------


def api() -> Iterator[str]:
    """The names of ``wirespeed``."""
    yield "# The names of `wirespeed`\n"
    yield from table("name", "")
    public = {name: getattr(wirespeed, name) for name in wirespeed.__all__}
    for name, thing in public.items():
        yield row(f"[`{name}`](#{anchor(name)})", first_line(thing))
    for name, thing in public.items():
        yield f"\n## {name} {{ #{anchor(name)} }}\n"
        if isinstance(thing, int):
            yield f"```python\n{name} = {thing}\n```"
            continue
        if isinstance(thing, type) and issubclass(thing, Header) and thing.FOUND:
            yield f"{first_line(thing)} See [headers](headers.md#{name.lower()})."
            continue
        yield f"```python\n{name}{signature(thing)}\n```\n"
        if public.get(thing.__name__, thing) is thing and thing.__name__ != name and thing.__name__ in public:
            yield f"Another name of [`{thing.__name__}`](#{anchor(thing.__name__)})."
            continue
        yield prose(inspect.getdoc(thing))
        if isinstance(thing, type):
            yield from members(thing)


def anchor(name: str) -> str:
    """Where a name is explained: `Node` and `node` are two places."""
    return name.lower() if name[0].isupper() else f"the-{name}"


def members(kind: type) -> Iterator[str]:
    """Public methods and properties of a class of ours, inherited ones included."""
    found: dict[str, Any] = {}
    for parent in reversed(kind.__mro__):
        if parent.__module__.startswith("wirespeed") and not parent.__module__.startswith("wirespeed.jit"):
            found.update({name: value for name, value in vars(parent).items() if not name.startswith("_")})
    for name, value in found.items():
        function = value.__func__ if isinstance(value, (classmethod, staticmethod)) else value
        if isinstance(function, property) and function.__doc__:
            yield f"\n**`{name}`**\n\n{prose(function.__doc__)}"
        elif inspect.isfunction(function) and function.__doc__:
            yield f"\n**`{name}{signature(function)}`**\n\n{prose(function.__doc__)}"


def packet() -> Iterator[str]:
    """What a node sees."""
    yield "# The packet\n"
    yield prose(import_module(Packet.__module__).__doc__) + "\n"
    yield "What a node may ask of `pkt`, in the order it is found. A graph parses no further than its nodes ask.\n"
    yield from table("attribute", "is", "parse level")
    for name, slot in Packet.slots.items():
        kind = f"[`{slot.view.__name__}`](headers.md#{slot.view.__name__.lower()})" if slot.view else "integer"
        if slot.view and not issubclass(slot.view, Header):
            kind = f"`{slot.view.__name__}`"
        yield row(f"`pkt.{name}`", kind, ("frame", "link", "network", "transport")[LEVEL.get(name, 0)])
    yield from members(Packet)
    payload = Packet.slots["payload"].view
    assert payload
    yield "\n## payload\n"
    yield prose(import_module(payload.__module__).__doc__)
    yield from members(payload)


def where(field: fields.Field) -> str:
    """Which bytes or bits a field is."""
    if isinstance(field, fields.BitField):
        first = field.offset * 8 + field.size * 8 - field.shift - field.width
        return f"bits {first} to {first + field.width - 1}" if field.width > 1 else f"bit {first}"
    return f"bytes {field.offset} to {field.end - 1}" if field.size > 1 else f"byte {field.offset}"


def headers() -> Iterator[str]:
    """The protocols the kit knows."""
    yield "# Headers\n"
    yield "Offsets count from the header's start, bits as in the diagrams of RFCs: bit 0 is the highest of byte 0.\n"
    known = {slot.view: None for slot in Packet.slots.values() if slot.view and issubclass(slot.view, Header)}
    for header in known:
        module = import_module(header.__module__)
        yield f"\n## {header.__name__}\n"
        yield prose(header.__doc__) + "\n"
        diagram = re.search(r"::\n\n((?: {4}.*\n|\n)+)", (inspect.cleandoc(module.__doc__ or "")) + "\n")
        if diagram:
            yield f"```text\n{inspect.cleandoc(diagram[1])}\n```\n"
        yield f"{header.SIZE} bytes" + (".\n" if header._fixed else " and what `header_bytes` says.\n")
        yield from table("field", "where", "")
        for name, field in header.fields.items():
            yield row(f"`{name}`", where(field), field.doc)
        own = [name for name, value in vars(header).items() if isinstance(value, property) and value.__doc__]
        for name in own:
            yield row(f"`{name}`", "computed", first_line(vars(header)[name]))


def ports() -> Iterator[str]:
    """Kinds of ports and their options."""
    yield "# Ports\n"
    yield '`ws.port("kind:what,option=value,...")`. Whole numbers may end in k, M, G, Ki, Mi, Gi.\n'
    for kind, target in KINDS.items():
        module, _, name = target.partition(":")
        driver = getattr(import_module(module), name)
        directions = [word for word, has in (("in", driver.receive), ("out", driver.transmit)) if has]
        yield f"\n## {kind}\n"
        yield f"{first_line(driver)} Directions: {' and '.join(directions)}.\n"
        yield prose(import_module(module).__doc__) + "\n"
        declared = dataclasses.fields(driver.Options)
        if not declared:
            continue
        hints = get_type_hints(driver.Options)
        yield from table("option", "type", "default", "")
        for field in declared:
            label = f"`{field.name}`" + (" (first, without a name)" if field.metadata.get("positional") else "")
            default = "required" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
            yield row(label, hints[field.name].__name__, default, field.metadata.get("doc", ""))


def nodes() -> Iterator[str]:
    """The nodes of the kit."""
    yield "# Nodes\n"
    package = import_module("wirespeed.nodes")
    yield prose(package.__doc__)
    for name in package.__all__:
        thing = getattr(package, name)
        yield f"\n## {name}\n"
        if isinstance(thing, wirespeed.Node):
            yield prose(thing.__doc__)
            yield f"\nOutputs: {', '.join(thing.outputs) or 'the default'}. Drops: {', '.join(thing.drops) or 'none'}."
        else:
            yield f"```python\n{name}{signature(thing)}\n```\n"
            yield prose(import_module(thing.__module__).__doc__) + "\n"
            yield prose(thing.__doc__)


def cli() -> Iterator[str]:
    """Commands and their options."""
    import typer

    from wirespeed import cli as package

    yield "# Commands\n"
    yield "An error is one message and exit code 2.\n"
    if not package.app.registered_commands:
        package._register()
    command = typer.main.get_command(package.app)
    for name, each in getattr(command, "commands", {}).items():
        yield f"\n## wirespeed {name}\n"
        yield prose(each.help) + "\n"
        shown = [(p, p.opts, getattr(p, "help", "") or "") for p in each.params]
        if shown:
            yield from table("argument or option", "default", "")
        for parameter, options, text in shown:
            label = f"`{' '.join(options)}`" if parameter.param_type_name == "option" else f"`{parameter.name.upper()}`"
            default = "" if parameter.default in (None, False) else f"`{parameter.default}`"
            yield row(label, default, text)


def errors() -> Iterator[str]:
    """The tree of errors."""
    yield "# Errors\n"
    yield prose(import_module(WirespeedError.__module__).__doc__) + "\n"

    def branch(kind: type, depth: int) -> Iterator[str]:
        yield f"{'    ' * depth}- `{kind.__name__}`: {first_line(kind)}"
        for below in kind.__subclasses__():
            yield from branch(below, depth + 1)

    yield from branch(WirespeedError, 0)


# Where they go ---------------------------------------------------------------------------------------------


def on_files(files: Any, config: Any) -> Any:
    """mkdocs' hook: add the pages to those it found."""
    from mkdocs.structure.files import File

    for name, text in pages().items():
        files.append(File.generated(config, f"reference/{name}", content=text))
    return files


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (folder / name).write_text(text)
