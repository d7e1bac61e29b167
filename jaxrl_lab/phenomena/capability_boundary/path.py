"""Where expected updates lead, without sampling noise: the exact curves of the figure."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrl_lab import exact, measures
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.experiments.result import Result
from jaxrl_lab.mechanisms.optimizer import SGD
from jaxrl_lab.mechanisms.schedules import Schedule
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.phenomena.capability_boundary.measure import capability, interference
from jaxrl_lab.rollouts.world import levels_at, make_world
from jaxrl_lab.types import Tree

Curves = dict[str, np.ndarray]
Path = tuple[Callable[[Tree], Tree], Callable[[Tree], dict[str, Array]]]
"""One expected update, and what is seen of the parameters: made where they are traced."""

EDGE = 1e-6
"""Pass rates are kept this far from 0 and 1, where weights are quotients of nothing."""


def has_exact_path(arm: Arm) -> bool:
    """Whether an update is one inner step of plain SGD along group advantages, from a base."""
    recipe, whole = arm.recipe, len(arm.env.level_ids("train"))
    others = (recipe.reward, recipe.credit, recipe.weight, recipe.regularizer, recipe.task)
    plain = len(recipe.optimizer) == 1 and type(recipe.optimizer[0]) is SGD
    if not plain or arm.base is None or any(others) or recipe.prompts not in (0, whole):
        return False
    (sgd,) = recipe.optimizer
    steady = sgd.momentum is None and not isinstance(sgd.learning_rate, Schedule)
    return steady and recipe.epochs == 1 and recipe.minibatches == 1


def expected_curves(run: Result, arm: str) -> Curves:
    """Capability and interference along θ ← θ + η mean_b w(p_b) ∇p_b, at the points of a run.

    w is :func:`~jaxrl_lab.exact.group_weight` of the arm's advantages. Empty for an arm that
    :func:`has_exact_path` turns down.
    """
    chosen = run.arms[arm]
    if not has_exact_path(chosen):
        return {}
    env, policy, base = chosen.env, chosen.policy, chosen.base
    splits = tuple(s for s in ("train", "test") if len(env.level_ids(s)))
    step = chosen.recipe.optimizer[0].learning_rate

    def path() -> Path:
        world = make_world(env, chosen.env_params)
        correct = one_step.right_arms(env, world)
        right, wrong = exact.advantage_tables(chosen.recipe.advantage, chosen.recipe.group)

        def objective(params: Tree) -> Float[Array, ""]:
            p = measures.accuracy(one_step.log_policy(env, policy, world, params), correct)
            inside = jnp.clip(jax.lax.stop_gradient(p), EDGE, 1.0 - EDGE)
            return jnp.mean(exact.group_weight(right, wrong, inside) * p)

        def update(params: Tree) -> Tree:
            return jax.tree.map(lambda x, g: x + step * g, params, jax.grad(objective)(params))

        def seen(params: Tree) -> dict[str, Array]:
            found = capability(env, policy, world, base, params, splits)
            return found | interference(env, policy, world, params)

        return update, seen

    return _followed(path, base, run)


def expected_stages(run: Result, arm: str) -> Curves:
    """Probability of the best and of the known arm along expected updates on graded rewards.

    E[Δz] = η E[Σ_i A_i (e_{a_i} − π)] / G over all compositions of a group.
    """
    chosen = run.arms[arm]
    if not has_exact_path(chosen):
        return {}
    assert chosen.base is not None
    group, step = chosen.recipe.group, one_step.step_per_prompt(chosen)

    def path() -> Path:
        world = make_world(chosen.env, chosen.env_params)
        level = levels_at(chosen.env, world, jnp.zeros(1, jnp.int32))
        reward, best = level.reward[0], level.mode[0] >= 0
        groups, orders = exact.compositions(len(reward), group)
        advantages = jax.vmap(partial(exact.group_advantages, chosen.recipe.advantage))
        each = jax.nn.one_hot(groups, len(reward)) * advantages(reward[groups])[..., None]
        given = jnp.sum(each, axis=1) / group

        def update(z: Array) -> Array:
            logp = jax.nn.log_softmax(z)
            weight = jnp.exp(orders + jnp.sum(logp[groups], axis=-1))
            mean = weight @ given
            return z + step * (mean - jnp.exp(logp) * jnp.sum(mean))

        def seen(z: Array) -> dict[str, Array]:
            pi = jax.nn.softmax(z)
            known = ~best & (reward > 0)
            return {"best": jnp.sum(pi, where=best), "known": jnp.sum(pi, where=known)}

        return update, seen

    return _followed(path, np.asarray(chosen.base["logits"])[0], run)


def _followed(path: Callable[[], Path], start: Tree, run: Result) -> Curves:
    """What is seen at every point of a run's curves, from point 0 on."""
    every = int(run.update[1] - run.update[0])

    @jax.jit
    def follow(start: Tree) -> dict[str, Array]:
        update, seen = path()

        def point(at: Tree, _: None) -> tuple[Tree, dict[str, Array]]:
            return jax.lax.fori_loop(0, every, lambda _, x: update(x), at), seen(at)

        return jax.lax.scan(point, start, None, length=len(run.update))[1]

    return {name: np.asarray(x) for name, x in follow(start).items()}
