"""Refusing what a caller cannot have meant, before anything is built."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeVar, get_type_hints

from pydantic import ConfigDict, TypeAdapter, ValidationError

from jaxrl_envs.errors import BadInput, unknown_key

T = TypeVar("T")


def coerce(key: str, value: Any, annotation: Any) -> Any:
    """``value`` as the annotated type, or one clear complaint.

    Numbers written as text (YAML reads ``1e-3`` as a string) become numbers; nothing else is
    guessed: a boolean is not a number, and ``off`` read as False is not a string.

    Raises:
        BadInput: naming ``key``, the value and the expected type.
    """
    config = ConfigDict(arbitrary_types_allowed=True)
    if isinstance(value, bool) and annotation in (int, float, int | None, float | None):
        raise BadInput(key, value, "a number")
    try:
        adapter = TypeAdapter(annotation, config=config)
    except Exception:  # an annotation that already carries its own configuration
        adapter = TypeAdapter(annotation)
    try:
        return adapter.validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        path = ".".join([key, *(str(p) for p in first["loc"])])
        raise BadInput(path, first["input"], _in_words(first["msg"])) from None


def _in_words(message: str) -> str:
    for prefix in ("Input should be ", "Value error, "):
        message = message.removeprefix(prefix)
    return message


def build(factory: Callable[..., T], given: Mapping[str, Any]) -> T:
    """Call a dataclass with checked arguments.

    Raises:
        BadInput: an unknown or missing field, or a value of the wrong type.
    """
    fields = {f.name: f for f in dataclasses.fields(factory) if f.init}  # type: ignore[arg-type]
    hints = get_type_hints(factory, include_extras=True)
    for name in given:
        if name not in fields:
            raise unknown_key(str(name), given[name], fields)
    for name, f in fields.items():
        missing = f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
        if missing and name not in given:
            raise BadInput(name, None, "a value (this key is required)")
    return factory(**{k: coerce(k, v, hints[k]) for k, v in given.items()})
