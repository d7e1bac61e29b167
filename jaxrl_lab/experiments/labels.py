"""Short names for settings and their values, of which the names of swept arms are made."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any


def short_paths(paths: Iterable[str]) -> dict[str, str]:
    """Of each dotted path the shortest end that no other has: ``high`` of ``surrogate.high``."""
    parts = {path: path.split(".") for path in paths}

    def is_unique(end: list[str]) -> bool:
        return sum(other[-len(end) :] == end for other in parts.values()) == 1

    short = {}
    for path, own in parts.items():
        ends = (own[-size:] for size in range(1, len(own)))
        short[path] = ".".join(next((end for end in ends if is_unique(end)), own))
    return short


def value_label(value: Any) -> str:
    """A value as part of a name: ``0.2``, ``grpo``, ``adam(learning_rate=0.1)``, ``32+32``."""
    if isinstance(value, list | tuple):
        return "+".join(value_label(v) for v in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{k}{_argument(v)}" for k, v in value.items())
    return str(value)


def _argument(value: Any) -> str:
    return f"({value_label(value)})" if isinstance(value, Mapping) else f"={value_label(value)}"
