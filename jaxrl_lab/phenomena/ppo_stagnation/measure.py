"""What a table of logits is worth, exactly: return, cost of the regularizer, and KL of a step."""

from __future__ import annotations

from math import log
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment, TabularMDP, require
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.exact import discounted_occupancy
from jaxrl_lab.exact.solve import row_kl, rows_to_states
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.rollouts import World, levels_at
from jaxrl_lab.types import LearnerState, Tree

DESCRIBE = {
    "value": ("reward", "exact return without time limit and discount, mean over levels"),
    "cost": ("nats", "KL from the policy to the uniform one along an episode, mean over levels"),
    "kl_step": ("nats", "KL from the policy before the last update to the one after it, per step"),
}
"""Unit and description of what :func:`measure` returns."""


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Exact numbers of the policy, or of its average where an ``average`` is kept.

    With temperature τ the objective is value − τ · cost. It is left to the analysis, because a
    measure does not know the recipe.
    """
    expect(isinstance(policy, Tabular), "policy.id", type(policy).__name__, "tabular")
    mdp = _tabulated(env, world)
    shown = after.trees.get("average", after.params)
    policies = [_log_policy(tree) for tree in (before.params, after.params, shown)]
    old, new, judged = _by_state(mdp, policies)
    # One batch of linear systems: several large ones at once can wait forever on a CPU.
    systems = jnp.stack([policies[0], policies[2]])
    visits = jax.vmap(_visits, in_axes=(None, 0))(mdp, systems)
    return {
        "value": _mean(visits[1] * jnp.sum(jnp.exp(judged) * mdp.reward, axis=-1)),
        "cost": _mean(visits[1] * row_kl(judged, jnp.full_like(judged, -log(judged.shape[-1])))),
        "kl_step": jnp.sum(visits[0] * row_kl(old, new)) / jnp.sum(visits[0]),
    }


def _tabulated(env: Environment, world: World) -> TabularMDP:
    """All train levels, taken from the world where it has them."""
    tabular, ids = require(env, "tabular"), jnp.asarray(env.level_ids("train"), jnp.int32)
    mdp: TabularMDP = jax.vmap(tabular, in_axes=(None, 0))(world.params, levels_at(env, world, ids))
    return mdp


def _by_state(mdp: TabularMDP, tables: list[Array]) -> list[Float[Array, "L S K"]]:
    """Each policy in every state of every level."""
    return [jax.vmap(rows_to_states, in_axes=(0, None))(mdp, table) for table in tables]


def _visits(mdp: TabularMDP, logp: Float[Array, "R K"]) -> Float[Array, "L S"]:
    """Expected visits of an episode to every state, by level; none to terminal ones."""
    return jax.vmap(discounted_occupancy, in_axes=(0, None, None))(mdp, logp, 1.0)


def _mean(by_state: Float[Array, "L S"]) -> Float[Array, ""]:
    """Summed over states, mean over levels."""
    return jnp.mean(jnp.sum(by_state, axis=-1))


def _log_policy(params: Tree) -> Float[Array, "R K"]:
    return jax.nn.log_softmax(params["logits"], axis=-1)
