"""The robustness box of a study: settings around its own, every combination of them a cell.

box:
  seeds: 4
  settings: {interventions.updates: 200}        # as with --set, in every cell
  axes:
    recipe.group: [4, 8, 16]                    # a path and its values
    optimizer:                                  # or a name, and what each level sets
      sgd: {recipe.optimizer: [sgd: {learning_rate: 6.4}]}
      adam: {recipe.optimizer: [adam: {learning_rate: 0.1}]}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from jaxrl_envs.errors import BadInput, expect, unknown_key
from jaxrl_envs.validate import coerce

Level = dict[str, Any]
"""What one level of an axis sets, by dotted path."""


@dataclass(frozen=True)
class Box:
    """Axes of settings, and how many seeds each cell gets.

    Attributes:
        axes: per axis, its levels by label.
        settings: common to all cells.
        seeds: of every cell. first_seed: the first of them.
    """

    axes: dict[str, dict[str, Level]]
    settings: dict[str, Any] = field(default_factory=dict)
    seeds: int = 4
    first_seed: int = 9000

    @property
    def shape(self) -> tuple[int, ...]:
        """Levels of every axis."""
        return tuple(len(levels) for levels in self.axes.values())

    def cells(self) -> Iterator[dict[str, Any]]:
        """What every cell sets, in the order of a C-contiguous array of :attr:`shape`."""
        for levels in product(*(axis.values() for axis in self.axes.values())):
            changes = dict(self.settings)
            for level in levels:
                changes |= level
            yield changes | {"seeds": self.seeds, "first_seed": self.first_seed}

    def to_mapping(self) -> dict[str, Any]:
        """Plain data that :func:`parse_box` reads back without loss."""
        axes = {n: {k: dict(v) for k, v in levels.items()} for n, levels in self.axes.items()}
        sizes = {"seeds": self.seeds, "first_seed": self.first_seed}
        return sizes | {"settings": dict(self.settings), "axes": axes}


def parse_box(data: Any) -> Box:
    """A box from the mapping of a configuration file.

    Raises:
        BadInput: unknown keys, an axis without levels, or values of the wrong type.
    """
    allowed = ("seeds", "first_seed", "settings", "axes")
    for key, value in _mapping("box", data).items():
        if key not in allowed:
            raise unknown_key(f"box.{key}", value, allowed)
    given = _mapping("box.axes", data.get("axes", {}))
    axes = {name: _levels(f"box.axes.{name}", name, value) for name, value in given.items()}
    expect(len(axes) > 0, "box.axes", None, "at least one axis")
    sizes = {k: coerce(f"box.{k}", data[k], int) for k in ("seeds", "first_seed") if k in data}
    expect(sizes.get("seeds", 1) >= 1, "box.seeds", sizes.get("seeds"), "at least 1")
    return Box(axes, dict(_mapping("box.settings", data.get("settings", {}))), **sizes)


def _levels(key: str, name: str, value: Any) -> dict[str, Level]:
    if isinstance(value, list | tuple):
        levels = {_label(v): {name: v} for v in value}
        expect(len(levels) == len(value), key, value, "values that differ")
    else:
        levels = {str(k): dict(_mapping(f"{key}.{k}", v)) for k, v in _mapping(key, value).items()}
    expect(len(levels) > 0, key, value, "at least one level")
    return levels


def _label(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _mapping(key: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise BadInput(key, value, "a mapping")
    return value
