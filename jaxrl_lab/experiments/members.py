"""The compiled programs of a population: first states, measures, and chunks of updates.

Members are arms and seeds: the update of one learner is vmapped over both, inside one scan over
updates, inside one jit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jaxrl_envs import Environment, threefry
from jaxtyping import Array, Int

from jaxrl_lab.experiments import devices
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree

Measure = Callable[[Environment, Policy, World, Tree, LearnerState, LearnerState], dict[str, Any]]
"""``(env, policy, world, first_params, before, after) -> scalars`` of one member, one update."""

SUMMED = ("tokens",)
"""Update scalars that add up over updates; the others are averaged between measurements."""

_traces = 0


def traces() -> int:
    """How often an update program was traced in this process; a sweep over numbers adds one."""
    return _traces


def _axis(keys: Array) -> int | None:
    """Where keys have an axis of arms: first, or nowhere."""
    return 0 if keys.ndim == 2 else None


@partial(jax.jit, static_argnames=("learner", "mesh"))
def start(
    learner: PolicyGradient, mesh: Mesh | None, numbers: tuple[Recipe, Tree, Tree], keys: Array
) -> tuple[World, LearnerState]:
    """The world of every arm, and the state of every member before its first update."""
    recipes, env_params, bases = numbers
    worlds = jax.vmap(learner.world)(env_params)

    def by_seed(recipe: Recipe, world: World, base: Tree, keys: Array) -> LearnerState:
        return jax.vmap(lambda key: learner.init(recipe, world, key, base))(keys)

    by_arm = _over_arms(by_seed, in_axes=(0, 0, 0, _axis(keys)))
    if mesh is not None:
        worlds = jax.lax.with_sharding_constraint(worlds, devices.everywhere(mesh, worlds))
    return worlds, devices.split(mesh, by_arm(recipes, worlds, bases, keys))


@partial(jax.jit, static_argnames=("learner", "measure"))
def measure_start(
    learner: PolicyGradient, measure: Measure, worlds: World, first: Tree, states: LearnerState
) -> dict[str, Array]:
    """The measures of first states ``[1, arms, seeds, …]``: the point before any update."""
    measured = _measure_all(learner, measure)(worlds, first, states, states)
    return jax.tree.map(lambda x: x[None], measured)


@lru_cache(maxsize=64)
def _measure_all(learner: PolicyGradient, measure: Measure) -> Callable[..., dict[str, Array]]:
    """The measure of all members; jitted and kept, so that it is traced once, not thrice."""
    one = partial(measure, learner.env, learner.policy)
    return jax.jit(_over_arms(jax.vmap(one, in_axes=(None, 0, 0, 0))))


@partial(
    jax.jit,
    static_argnames=("learner", "measure", "chunk", "every", "mesh"),
    donate_argnames=("states",),
)
def run_chunk(
    learner: PolicyGradient,
    measure: Measure,
    chunk: int,
    every: int,
    mesh: Mesh | None,
    recipes: Recipe,
    worlds: World,
    states: LearnerState,
    first: Tree,
    keys: Array,
    begin: Int[Array, ""],
    total: Int[Array, ""],
) -> tuple[LearnerState, dict[str, Array]]:
    """``chunk`` updates of every member from update ``begin`` on, of ``total`` in the run.

    Returns:
        States after them, and points ``[chunk / every, arms, seeds, …]``: measures and the scalars
        of the updates since the point before.
    """
    global _traces
    _traces += 1
    measure_all = _measure_all(learner, measure)

    def one(
        recipe: Recipe, world: World, state: LearnerState, key: Array, t: Array
    ) -> tuple[LearnerState, dict[str, Array]]:
        return learner.update(recipe, world, state, threefry.fold_in(key, t), t, total)

    by_seed = jax.vmap(one, in_axes=(None, None, 0, 0, None), spmd_axis_name=devices.POPULATION)
    by_arm = _over_arms(by_seed, in_axes=(0, 0, 0, _axis(keys), None))

    def update(before: LearnerState, t: Array) -> tuple[LearnerState, Any]:
        after, fit = by_arm(recipes, worlds, before, keys, t)
        empty = jax.tree.map(
            lambda x: jnp.zeros(x.shape, x.dtype),
            jax.eval_shape(measure_all, worlds, first, before, after),
        )
        # t is not batched, so the branch stays a branch: measures cost only when they are due.
        measured = jax.lax.cond(
            (t + 1) % every == 0,
            lambda: measure_all(worlds, first, before, after),
            lambda: empty,
        )
        return after, (fit, measured)

    steps = begin + jnp.arange(chunk, dtype=jnp.int32)
    states, (fits, measured) = jax.lax.scan(update, states, steps)
    reduced = {k: _reduce(k, x, every) for k, x in fits.items()}
    point = reduced | jax.tree.map(lambda x: x[every - 1 :: every], measured)
    return devices.split(mesh, states), point


def _over_arms(
    by_seed: Callable[..., Any], in_axes: tuple[int | None, ...] | int = 0
) -> Callable[..., Any]:
    """vmap over arms. One arm alone is taken out of its axis and put back instead.

    A leading axis of length one makes reductions up to 15 times slower in XLA of jax 0.10 on a CPU.
    """

    def over_arms(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple) else (in_axes,) * len(args)
        stacked = [x for x, axis in zip(args, axes, strict=True) if axis is not None]
        if jax.tree.leaves(stacked)[0].shape[0] > 1:
            return jax.vmap(by_seed, in_axes)(*args)
        alone = [
            x if axis is None else jax.tree.map(lambda leaf: leaf[0], x)
            for x, axis in zip(args, axes, strict=True)
        ]
        return jax.tree.map(lambda leaf: leaf[None], by_seed(*alone))

    return over_arms


def _reduce(name: str, x: Array, every: int) -> Array:
    windows = x.reshape(x.shape[0] // every, every, *x.shape[1:])
    return windows.sum(1) if name in SUMMED else windows.mean(1)
