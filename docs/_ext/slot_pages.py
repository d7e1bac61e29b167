"""A page per slot: every mechanism with its equation, numbers and paper, from its docstring."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from string import Formatter
from types import ModuleType
from typing import Any, get_type_hints

from docstrings import inline, markdown, summary

from jaxrl_lab import recipes
from jaxrl_lab.mechanisms import ROOMS, SLOTS, catalog, name_of
from jaxrl_lab.mechanisms.core import each

HEADER = "<!-- Made from the docstrings by docs/_ext/slot_pages.py. -->"


def pages() -> dict[str, str]:
    """The pages by path below docs/."""
    slots = [*SLOTS, *(slot for slot in catalog() if slot not in SLOTS)]
    return {f"slots/{slot}.md": slot_page(slot) for slot in slots} | {
        "slots/index.md": index(slots)
    }


def targets() -> dict[str, str]:
    """Labels of the mechanisms' sections by class name, for references in docstrings."""
    return {cls.__name__: label(slot, name) for slot, name, cls in everything()}


def everything() -> Iterator[tuple[str, str, type[Any]]]:
    """Slot, name and class of every mechanism."""
    for slot, known in catalog().items():
        for name, cls in known.items():
            yield slot, name, cls


def label(slot: str, name: str) -> str:
    return f"mechanism-{slot}-{name}"


def index(slots: list[str]) -> str:
    lines = [
        HEADER,
        "",
        "# Slots and mechanisms",
        "",
        "A recipe holds mechanisms by slot. A slot is a call signature; what sits in it is chained "
        "from left to right. The pages below are made from the docstrings.",
        "",
        "| slot | what it decides | mechanisms |",
        "| --- | --- | --- |",
    ]
    for slot in slots:
        rooms = ROOMS[slot]
        links = ", ".join(f"[`{n}`](#{label(slot, n)})" for n in catalog()[slot])
        lines.append(f"| [`{slot}`]({slot}.md) | {inline(_subject(rooms[0]))} | {links} |")
    toctree = "\n".join(slots)
    return "\n".join([*lines, "", "```{toctree}", ":hidden:", "", toctree, "```", ""])


def slot_page(slot: str) -> str:
    """One slot, room by room, mechanisms in the order of the source."""
    known = set(catalog()[slot].values())
    lines = [HEADER, "", f"# Slot `{slot}`", ""]
    for room in ROOMS[slot]:
        name = room.__name__.rpartition(".")[2]
        lines += [f"## {inline(_subject(room))}", ""]
        lines += [_room_text(room), f"In `jaxrl_lab/mechanisms/{name}.py`.", ""]
        here = [cls for cls in known if cls.__module__ == room.__name__]
        for cls in sorted(here, key=lambda c: inspect.getsourcelines(c)[1]):
            lines += _mechanism(slot, cls)
    return "\n".join(lines)


def _subject(room: ModuleType) -> str:
    """The first sentence of a room's docstring, without the name of the slot."""
    text = summary(room.__doc__).partition(": ")[2] or summary(room.__doc__)
    sentence = text.split(". ")[0].rstrip(".")
    return sentence[:1].upper() + sentence[1:]


def _room_text(room: ModuleType) -> str:
    """A room's docstring; its first line is the heading already but for the signature."""
    doc = inspect.cleandoc(room.__doc__ or "")
    first, _, rest = doc.partition("\n\n")
    signature = first.partition(": ")[2].partition(". ")[2]
    return "\n\n".join(markdown(text, targets()) for text in (signature, rest) if text.strip())


def _mechanism(slot: str, cls: type[Any]) -> list[str]:
    name = name_of(cls)
    lines = [f"({label(slot, name)})=", f"### `{name}`", ""]
    formula = getattr(cls, "formula", None)
    if formula:
        lines += ["```text", _with_names(formula), "```", ""]
    lines += [markdown(cls.__doc__, targets()), *_numbers(cls)]
    users = [f"`{r}`" for r, built in _recipes().items() if any(type(m) is cls for m in built)]
    if users:
        lines += [f"*Recipes:* {', '.join(users)}", ""]
    return lines


def _with_names(formula: str) -> str:
    """A formula with the names of its numbers in place of the numbers."""
    names = {field for _, field, _, _ in Formatter().parse(formula) if field}
    return formula.format(**{name: name for name in names})


def _numbers(cls: type[Any]) -> list[str]:
    """A table of the fields: default, and whether a sweep over it compiles once."""
    fields = dataclasses.fields(cls)
    if not fields:
        return []
    hints = get_type_hints(cls)
    lines = ["| field | default | a sweep over it |", "| --- | --- | --- |"]
    for field in fields:
        missing = field.default is dataclasses.MISSING
        default = "required" if missing else f"`{field.default!r}`"
        leaf = hints[field.name] in (float, float | None)
        choices = getattr(hints[field.name], "__args__", ()) if not leaf else ()
        options = " of " + ", ".join(f"`{c!r}`" for c in choices) if len(choices) > 1 else ""
        swept = "is one program" if leaf else "compiles per value"
        lines.append(f"| `{field.name}` | {default}{options} | {swept} |")
    return [*lines, ""]


def _recipes() -> dict[str, list[Any]]:
    return {name: [m for _, _, m in each(recipes.named(name))] for name in recipes.names()}
