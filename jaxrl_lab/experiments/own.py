"""Mechanisms and worlds written outside the package, in configurations and run directories.

A mechanism of a user is stored as ``{"module:Class": {field: value}}``, and beside the settings,
under ``own``, stand digests of the sources of all such classes. Reading a configuration executes
nothing: who reads it hands the classes over, and they have to be what they were.
"""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jaxrl_envs
from jaxrl_envs import BadInput

from jaxrl_lab import recipes
from jaxrl_lab.mechanisms import catalog

PACKAGES = ("jaxrl_lab", "jaxrl_envs")


def is_own(thing: Any) -> bool:
    """Whether a class or function was written outside the package."""
    return thing.__module__.partition(".")[0] not in PACKAGES


def qualified_name(cls: type[Any]) -> str:
    """``module:Class``, the name in configurations."""
    return f"{cls.__module__}:{cls.__qualname__}"


def source_digest(thing: Any) -> str:
    """SHA-256 of the fields and functions of a class as written, or of a function's text.

    Bases outside the package count, functions that are called from elsewhere do not. Text is taken
    function by function, because a class of a notebook cell has no file to be found in.

    Raises:
        BadInput: no text to be found, as for what was typed at a bare prompt.
    """
    parts = [thing.__qualname__]
    if isinstance(thing, type):
        fields = dataclasses.fields(thing) if dataclasses.is_dataclass(thing) else ()
        parts += [f"{f.name}: {f.type}{_default(f)}" for f in fields]
        bases = [base for base in thing.__mro__ if base is not object and is_own(base)]
        members = [_function(member) for base in bases for member in vars(base).values()]
        found = [inspect.unwrap(member) for member in members if member]
    else:
        found = [thing]
    written = [f for f in found if f.__code__.co_filename != "<string>"]  # not those of dataclass
    try:
        parts += [inspect.getsource(f) for f in written]
    except (OSError, TypeError):
        expected = "a class from a file or a notebook cell, whose source can be read again"
        raise BadInput("own", qualified_name(thing), expected) from None
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()


def _default(field: dataclasses.Field[Any]) -> str:
    """The default as text, where its text is the same in every process."""
    plain = isinstance(field.default, bool | int | float | str | None)
    return f" = {field.default!r}" if plain else ""


def _function(member: Any) -> Callable[..., Any] | None:
    """The function behind a method, a property or a static method; None for other members."""
    inner = getattr(member, "fget", None) or getattr(member, "__func__", member)
    return inner if inspect.isfunction(inner) else None


def as_data(value: Any) -> Any:
    """Settings as plain data: mechanisms as ``{name: {field: value}}``, containers item by item."""
    if isinstance(value, Mapping):
        return {k: as_data(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [as_data(v) for v in value]
    if _is_mechanism(value):
        name = qualified_name(type(value)) if is_own(type(value)) else recipes.name_of(value)
        return {name: recipes.fields_of(value)}
    return value


def from_data(value: Any, classes: Iterable[type[Any]]) -> Any:
    """:func:`as_data` read back: names of the given classes become mechanisms again."""
    known = {qualified_name(cls): cls for cls in classes}

    def read(x: Any) -> Any:
        if isinstance(x, list):
            return [read(item) for item in x]
        if not isinstance(x, Mapping):
            return x
        if len(x) == 1:
            ((name, fields),) = x.items()
            if name in known and isinstance(fields, Mapping | None):
                return recipes.build_mechanism(known[name], fields or {}, f"own.{name}")
        return {k: read(v) for k, v in x.items()}

    return read(value)


def sources(value: Any) -> dict[str, str]:
    """Digests of everything in some settings that was written outside the package, by name.

    Mechanisms go by their qualified name, worlds by the id they were registered under.
    """
    if isinstance(value, Mapping):
        world = value.get("environment.id")
        here = {str(world): source_digest(_factory(world))} if _is_own_world(world) else {}
        return here | {k: d for inner in value.values() for k, d in sources(inner).items()}
    if isinstance(value, list | tuple):
        return {k: d for inner in value for k, d in sources(inner).items()}
    if _is_mechanism(value) and is_own(type(value)):
        return {qualified_name(type(value)): source_digest(type(value))}
    return {}


def check_sources(stored: Any, classes: Iterable[type[Any]]) -> None:
    """Refuse to go on with other classes and worlds than those a configuration was written with.

    Raises:
        BadInput: one that was not handed over or not registered, or whose source is another.
    """
    if not isinstance(stored, Mapping):
        raise BadInput("own", stored, "a mapping of names to digests")
    known = {qualified_name(cls): cls for cls in classes}
    for name, digest in stored.items():
        found = _factory(name) if _is_own_world(name) else known.get(name)
        if found is None and ":" in str(name):
            cls = name.rpartition(":")[2]
            expected = f"its class, which only Python can give: lab.resume(DIR, own=[{cls}])"
            raise BadInput("own", name, expected)
        if found is None:
            expected = "a world that Python registers before lab.resume(DIR) or lab.load(DIR)"
            raise BadInput("own", name, expected)
        if source_digest(found) != digest:
            expected = "the source it had when the run began"
            raise BadInput("own", name, expected)


def _is_mechanism(value: Any) -> bool:
    if isinstance(value, type) or not dataclasses.is_dataclass(value):
        return False
    return is_own(type(value)) or any(type(value) in slot.values() for slot in catalog().values())


def _is_own_world(name: Any) -> bool:
    return isinstance(name, str) and name in jaxrl_envs.registered() and is_own(_factory(name))


def _factory(name: Any) -> Any:
    return jaxrl_envs.core.factory_of(name)
