"""One member at one moment of its training, trained again up to there.

A run keeps curves and final parameters only. The noise of an update is a hash of the seed and the
update's number, so any moment can be had again for the price of the updates before it: bit for bit
with SGD, to rounding where an optimizer divides by small numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxrl_envs import threefry
from jaxtyping import Array, Int

from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms.core import canonical
from jaxrl_lab.recipes import Recipe
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree


@dataclass(frozen=True)
class Moment:
    """What the next update takes.

    Attributes:
        learner, recipe, world, state: as :meth:`PolicyGradient.update` has them.
        key: of the update that comes next.
    """

    learner: PolicyGradient
    recipe: Recipe
    world: World
    state: LearnerState
    key: Array


def moment(arm: Arm, key: Array, update: int, total: int) -> Moment:
    """The member of an arm with this key, after ``update`` of its ``total`` updates."""
    learner = PolicyGradient(arm.env, arm.policy)
    recipe = replace(canonical(arm.recipe), name="")  # one program for arms of one structure
    world, state = _train(
        learner, recipe, arm.env_params, arm.base, key, jnp.int32(update), jnp.int32(total)
    )
    return Moment(learner, recipe, world, state, threefry.fold_in(key, jnp.int32(update)))


@partial(jax.jit, static_argnames="learner")
def _train(
    learner: PolicyGradient,
    recipe: Recipe,
    env_params: Tree,
    base: Tree | None,
    key: Array,
    update: Int[Array, ""],
    total: Int[Array, ""],
) -> tuple[World, LearnerState]:
    world = learner.world(env_params)

    def step(t: Int[Array, ""], state: LearnerState) -> LearnerState:
        return learner.update(recipe, world, state, threefry.fold_in(key, t), t, total)[0]

    start = learner.init(recipe, world, key, base)
    return world, jax.lax.fori_loop(jnp.int32(0), update, step, start)
