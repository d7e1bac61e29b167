"""How a PPO recipe follows the number of its environments, and in which ways it may fail to.

The rule of the million-environment paper: multiply the environments by c and the minibatches by c,
and leave everything else alone. The inner loop stays what it was, minibatch for minibatch; there
is more of it between two collections, from more data. At a fixed number of transitions neither
the number of gradient steps changes nor what one of them costs.

    fixed          transitions per minibatch, learning rate, epochs, rollout length, every number
                   of every mechanism
    grows by c     environments, minibatches, transitions and gradient steps per outer update
    shrinks by c   outer updates at a fixed number of transitions

Source: *Preventing Learning Stagnation in PPO by Scaling to 1 Million Parallel Environments*,
arXiv 2603.06009: minibatches grow, learning rate and minibatch size do not. That all the other
numbers stay fixed is our reading of it.
"""

from __future__ import annotations

from dataclasses import replace
from math import isclose, log
from typing import Any

import jax
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms import SLOTS, name_of
from jaxrl_lab.mechanisms.core import numbers_of
from jaxrl_lab.recipes import Recipe

RULES = {0.0: "kept", 0.5: "scaled by its square root", 1.0: "scaled in proportion"}
"""How a learning rate may follow a minibatch that has grown, by exponent."""


def co_scale(recipe: Recipe, num_envs: int) -> Recipe:
    """The same recipe for another number of environments: only the minibatches follow.

    ``co_scale(lab.recipe("ppo"), 4096)`` has 64 times the environments of ``ppo`` and 64 times its
    minibatches. Divide the number of updates by the same factor to spend as many transitions.

    Raises:
        BadInput: not a stream, an unknown number of environments, or one that its minibatches do
            not divide.
    """
    each = _environments_per_minibatch(recipe, "recipe")
    fits = isinstance(num_envs, int) and num_envs >= each and num_envs % each == 0
    expect(fits, "num_envs", num_envs, f"a multiple of {each}, the environments of one minibatch")
    return replace(recipe, prompts=num_envs, minibatches=num_envs // each)


def scaling_faults(recipe: Recipe, reference: Recipe) -> tuple[str, ...]:
    """In which ways a recipe is not its reference for another number of environments.

    One sentence per departure from :func:`co_scale`; none for what it returns. They are warnings:
    each may be wanted for a reason of its own.

    Raises:
        BadInput: recipes that are not streams of a known number of environments.
    """
    _environments_per_minibatch(recipe, "recipe")
    _environments_per_minibatch(reference, "reference")
    grown = recipe.prompts / reference.prompts
    return (*_sizes(recipe, reference, grown), *_numbers(recipe, reference))


def transitions(recipe: Recipe) -> int:
    """Transitions of a batch, N · T."""
    expect(recipe.steps > 0, "recipe.steps", recipe.steps, "a number of steps, not the horizon")
    return recipe.prompts * recipe.steps


def gradient_steps(recipe: Recipe) -> int:
    """Gradient steps of an outer update: epochs · minibatches."""
    return recipe.epochs * recipe.minibatches


def _environments_per_minibatch(recipe: Recipe, key: str) -> int:
    stream = recipe.rollout == "stream"
    expect(stream, f"{key}.rollout", recipe.rollout, "stream: episodes have no environments")
    expect(recipe.prompts > 0, f"{key}.prompts", recipe.prompts, "a number of environments")
    whole = recipe.prompts % recipe.minibatches == 0
    divisor = f"a divisor of the {recipe.prompts} environments"
    expect(whole, f"{key}.minibatches", recipe.minibatches, divisor)
    return recipe.prompts // recipe.minibatches


def _sizes(recipe: Recipe, reference: Recipe, grown: float) -> list[str]:
    """Departures in the sizes, the learning rate's answer to them among them."""
    found = []
    size, usual = (transitions(r) // r.minibatches for r in (recipe, reference))
    if size != usual:
        found.append(
            f"minibatches of {size} transitions instead of {usual}: the paper adds minibatches, "
            f"here {recipe.minibatches} where {reference.minibatches * grown:g} would keep their "
            f"size; the learning rate is {_rate_rule(recipe, reference, size / usual)}"
        )
    if recipe.epochs != reference.epochs:
        found.append(
            f"{recipe.epochs} epochs instead of {reference.epochs}: each transition is used for "
            "another number of gradient steps"
        )
    if recipe.steps != reference.steps:
        found.append(
            f"rollouts of {recipe.steps} steps instead of {reference.steps}: more steps of the "
            "same environments are not more independent ones"
        )
    return found


def _numbers(recipe: Recipe, reference: Recipe) -> list[str]:
    """Mechanisms and numbers that are not the reference's."""
    found = []
    for slot in SLOTS:
        ours, theirs = getattr(recipe, slot), getattr(reference, slot)
        if [name_of(m) for m in ours] != [name_of(m) for m in theirs]:
            found.append(f"slot {slot} has other mechanisms")
            continue
        for mine, other in zip(ours, theirs, strict=True):
            was, now, name = numbers_of(other), numbers_of(mine), f"{slot}.{name_of(mine)}"
            found += [
                f"{name}.{field} is {_shown(now[field])} instead of {_shown(was[field])}"
                for field in now
                if not _same(getattr(mine, field), getattr(other, field))
            ]
    return found


def _rate_rule(recipe: Recipe, reference: Recipe, grown: float) -> str:
    """By which rule the learning rate has followed a minibatch that has grown."""
    ours, theirs = _rate(recipe), _rate(reference)
    if ours is None or theirs is None:
        return "not a constant"
    exponent = log(ours / theirs) / log(grown)
    for known, words in RULES.items():
        if isclose(exponent, known, abs_tol=0.02):
            return words
    return f"scaled by its power {exponent:.2g}"


def _rate(recipe: Recipe) -> float | None:
    """The learning rate, where it is one positive constant."""
    rates = [m.learning_rate for m in recipe.optimizer if hasattr(m, "learning_rate")]
    constant = len(rates) == 1 and isinstance(rates[0], jax.Array | float)
    return float(rates[0]) if constant and float(rates[0]) > 0 else None


def _same(a: Any, b: Any) -> bool:
    """Whether two fields of a mechanism are one value; schedules are compared number by number."""
    (ours, shape), (theirs, other) = jax.tree.flatten(a), jax.tree.flatten(b)
    return str(shape) == str(other) and all(bool(x == y) for x, y in zip(ours, theirs, strict=True))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
