"""What a mechanism is: a small frozen dataclass whose floats are leaves and whose call is the idea.

A mechanism needs nothing but its call, with the signature of its slot. Optional members:

``needs``      frozenset of facts about the run it depends on: ``"value"`` (a value head).
``passes``     names of further parameter trees it wants outputs under, e.g. ``("reference",)``;
               ``"old"`` is the policy that collected the batch, which costs no extra forward pass.
``formula``    the mechanism as an equation, with ``{field}`` for its numbers.
``check(spec)``    refuse concrete settings that make no sense, by raising ``BadInput``.
``init(spec)``     its memory across updates.
``advance(memory, batch, fit, ctx)``   the memory after an update, called once per update.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from string import Formatter
from typing import Any, TypeVar, dataclass_transform, get_type_hints

import jax
import jax.numpy as jnp
from jaxrl_envs import BadInput, Environment

from jaxrl_lab.mechanisms.schedules import Schedule
from jaxrl_lab.policies.core import Policy

SLOTS = (
    "task",
    "reward",
    "advantage",
    "credit",
    "surrogate",
    "weight",
    "regularizer",
    "aggregate",
    "optimizer",
    "update",
)
"""The slots of a recipe, in the order in which a batch meets them."""

OLD = "old"
"""The name under which ``passes`` holds the collecting policy: no parameter tree of its own."""

T = TypeVar("T")


@dataclass_transform(frozen_default=True, kw_only_default=True)
def mechanism(cls: type[T]) -> type[T]:
    """Make a frozen keyword-only dataclass whose ``float`` fields are pytree leaves.

    Numbers annotated ``float`` (or ``float | None``) can be swept without a new compile; every
    other field (int, str, bool, …) is static structure. Works in a notebook cell: nothing is
    registered but the pytree type.
    """
    cls = dataclass(frozen=True, kw_only=True)(cls)
    hints = get_type_hints(cls)
    names = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    leaves = [n for n in names if hints[n] in (float, float | None)]
    static = [n for n in names if n not in leaves]
    jax.tree_util.register_dataclass(cls, data_fields=leaves, meta_fields=static)
    return cls


@dataclass(frozen=True)
class Spec:
    """The run a mechanism is about to be part of, for ``check`` and ``init``."""

    env: Environment
    policy: Policy
    recipe: Any
    prompts: int
    group: int
    horizon: int


def needs_episodes(spec: Spec, name: str) -> None:
    """Refuse a stream to what asks for the return or the length of whole episodes."""
    if spec.recipe.rollout == "stream":
        expected = f"episodes, because {name} looks at whole episodes"
        raise BadInput("recipe.rollout", "stream", expected)


def name_of(thing: Any) -> str:
    """``GroupNormalized`` → ``group_normalized``; the name used in configuration files."""
    cls = thing if isinstance(thing, type) else type(thing)
    text = cls.__name__
    pieces = []
    for i, c in enumerate(text):
        starts_word = c.isupper() and i > 0
        after_lower = starts_word and not text[i - 1].isupper()
        ends_acronym = starts_word and i + 1 < len(text) and text[i + 1].islower()
        pieces.append(("_" if after_lower or ends_acronym else "") + c.lower())
    return "".join(pieces)


def canonical(tree: T) -> T:
    """Every number as a float32 array, so that plain and swept mechanisms share a program."""
    return jax.tree.map(lambda x: jnp.asarray(x, jnp.float32), tree)


def resolve(tree: T, progress: jax.Array) -> T:
    """Every schedule replaced by its value at ``progress``."""

    def is_schedule(x: Any) -> bool:
        return isinstance(x, Schedule)

    return jax.tree.map(lambda x: x(progress) if is_schedule(x) else x, tree, is_leaf=is_schedule)


def numbers_of(thing: Any) -> dict[str, Any]:
    """Field values as text-ready numbers, for equations and configuration files."""

    def show(value: Any) -> Any:
        if isinstance(value, jax.Array):
            # float32 prints as the shortest decimal that reads back the same.
            return float(str(value)) if value.ndim == 0 else [float(str(v)) for v in value]
        return value

    return {f.name: show(getattr(thing, f.name)) for f in dataclasses.fields(thing)}


def equation_of(thing: Any) -> str:
    """The mechanism's formula, or its name, with all of its numbers."""
    numbers = {
        k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in numbers_of(thing).items()
    }
    formula = getattr(thing, "formula", None)
    if formula is None:
        formula, shown = name_of(thing), set[str]()
    else:
        shown = {name for _, name, _, _ in Formatter().parse(formula) if name}
    rest = ", ".join(f"{k}={v}" for k, v in numbers.items() if k not in shown and v != "None")
    return formula.format(**numbers) + (f" ({rest})" if rest else "")


def each(recipe: Any) -> Iterator[tuple[str, int, Any]]:
    """All mechanisms of a recipe with their slot and place in it."""
    for slot in SLOTS:
        for i, mech in enumerate(getattr(recipe, slot)):
            yield slot, i, mech
