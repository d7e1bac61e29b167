"""What a table of logits is worth, exactly: return, cost of the regularizer, and KL of a step."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment, TabularMDP
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.exact import discounted_occupancy, discounted_return, tabulate
from jaxrl_lab.exact.solve import row_kl, rows_to_states
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.rollouts import World
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
    mdp = tabulate(env, world.params, jnp.asarray(env.level_ids("train"), jnp.int32))
    shown = after.trees.get("average", after.params)
    value, cost = _worth(mdp, _log_policy(shown))
    return {
        "value": value,
        "cost": cost,
        "kl_step": _divergence(mdp, _log_policy(before.params), _log_policy(after.params)),
    }


def _log_policy(params: Tree) -> Float[Array, "R K"]:
    return jax.nn.log_softmax(params["logits"], axis=-1)


def _worth(mdp: TabularMDP, logp: Float[Array, "R K"]) -> tuple[Array, Array]:
    """Return, and KL(π ‖ uniform) = log K − H(π) summed over the expected visits."""

    def one(level: TabularMDP) -> tuple[Array, Array]:
        rows = rows_to_states(level, logp)
        visits = discounted_occupancy(level, logp, 1.0)
        cost = jnp.sum(visits * row_kl(rows, jnp.full_like(rows, -jnp.log(rows.shape[-1]))))
        return discounted_return(level, logp, 1.0), cost

    value, cost = jax.vmap(one)(mdp)
    return jnp.mean(value), jnp.mean(cost)


def _divergence(mdp: TabularMDP, old: Float[Array, "R K"], new: Float[Array, "R K"]) -> Array:
    """KL(old ‖ new) per transition that the old policy makes."""

    def one(level: TabularMDP) -> tuple[Array, Array]:
        visits = discounted_occupancy(level, old, 1.0)
        apart = row_kl(rows_to_states(level, old), rows_to_states(level, new))
        return jnp.sum(visits * apart), jnp.sum(visits)

    apart, visits = jax.vmap(one)(mdp)
    return jnp.sum(apart) / jnp.sum(visits)
