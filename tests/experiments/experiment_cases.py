"""A tiny experiment that every test of this folder bends to its purpose."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jaxtyping import Array

import jaxrl_lab as lab
from jaxrl_lab.experiments import spec
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.types import Context, Outputs

PROMPTS, GROUP = 4, 4
_sizes = count(5)


@pytest.fixture(autouse=True, scope="module")
def light() -> Iterator[None]:
    """The caches of who runs the tests stay untouched."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXRL_LAB_CACHE", "off")
        yield


def experiment(
    arms: dict[str, spec.Settings] | None = None, actions: int | None = None, **changes: Any
) -> spec.Experiment:
    """GRPO with SGD on a few prompts; a structure of its own unless ``actions`` is given."""
    settings = {
        "environment.id": "bandit/modes",
        "environment.prompts": PROMPTS,
        "environment.arms": actions or next(_sizes),
        "environment.modes": 2,
        "policy.id": "tabular",
        "policy.scale": 1.0,
        "recipe": "grpo",
        "recipe.group": GROUP,
        "recipe.epochs": 2,
    }
    built = spec.Experiment(settings, {"arm": {}} if arms is None else arms, updates=2, seeds=2)
    for path, value in changes.items():
        built = built.with_setting(path, value)
    return built


def run(what: spec.Experiment, **options: Any) -> lab.Result:
    """Train it."""
    return lab.sweep(what, {"policy.id": ["tabular"]}, **options)


def arm(**changes: Any) -> Arm:
    """The only arm of the tiny experiment."""
    (built,) = experiment(**changes).build().values()
    return built


@lab.mechanism
class BreakAt:
    """A penalty that is not a number from update ``at`` on."""

    at: float

    def __call__(self, out: Outputs, batch: Any, aux: Any, ctx: Context) -> Array:
        return jnp.where(ctx.update.astype(jnp.float32) >= self.at, jnp.nan, 0.0)


def member(tree: Any, *index: int) -> Any:
    """One member of a population of trees."""
    return jax.tree.map(lambda x: x[index], tree)
