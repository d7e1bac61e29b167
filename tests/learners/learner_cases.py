"""Worlds, policies and probing mechanisms for the tests of the learner."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jaxrl_envs import make

from jaxrl_lab import policies
from jaxrl_lab.learners.policy_gradient import PolicyGradient
from jaxrl_lab.mechanisms import mechanism
from jaxrl_lab.recipes import recipe

ZERO, ONE = jnp.int32(0), jnp.int32(1)


@mechanism
class Ratios:
    """A surrogate whose objective is the largest |ratio - 1| on real tokens.

    It marks as clipped the tokens of which the sampler said something else than the unroll.
    """

    def __call__(self, out, batch, ctx):
        away = jnp.where(batch.mask, jnp.abs(jnp.exp(out.logp - batch.logp_old) - 1.0), 0.0)
        differs = jnp.abs(batch.logp_old - batch.logp_behavior) > 1e-5
        return jnp.broadcast_to(jnp.max(away), away.shape), {"clipped": differs}


WORLDS = {
    "bandit": lambda readable: make(
        "bandit/modes",
        prompts=4,
        arms=5,
        modes=2,
        observation="prompt" if readable else "features",
    ),
    "gridworld": lambda readable: make(
        "gridworld/two_goals",
        size=3,
        levels=4,
        horizon=7,
        observation="cell" if readable else "coordinates",
    ),
    "chain": lambda readable: make(
        "reasoning/modular_chain",
        modulus=4,
        vocabulary=4,
        length=3,
        prompts=4,
        observation="state" if readable else "tokens",
    ),
}

SMALL = {
    "tabular": {"scale": 1.0},
    "mlp": {"hidden": (8,)},
    "gru": {"width": 8},
    "transformer": {"layers": 1, "width": 8, "heads": 2, "context": 8},
}


def learner_of(world_id, policy_id="tabular", **options):
    env = WORLDS[world_id](policy_id in ("tabular", "q_table"))
    options = SMALL.get(policy_id, {}) | options
    return PolicyGradient(env, policies.make(policy_id, env, **options))


def start(learner, built, seed=0, base=None):
    """A checked recipe's world and first state."""
    built.check(learner.env, learner.policy)
    world = learner.world(learner.env.default_params)
    return world, jax.jit(learner.init)(built, world, jax.random.key(seed), base)


def updates(learner, built, world, state, key, total):
    """``total`` updates in a scan; the last state and all scalars."""

    def one(state, t):
        return learner.update(built, world, state, jax.random.fold_in(key, t), t, jnp.int32(total))

    return jax.lax.scan(one, state, jnp.arange(total, dtype=jnp.int32))


@partial(jax.jit, static_argnums=(0, 5))
def train(learner, built, world, state, key, total):
    return updates(learner, built, world, state, key, total)


def ppo_like(**changes):
    return recipe("ppo", prompts=8, steps=10, **changes)


def loud(params, key, scale=0.5):
    """Parameters away from their start, so that no policy is uniform."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    noisy = [x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(structure, noisy)


def louder(state, seed=3):
    params = loud(state.params, jax.random.key(seed))
    return replace(state, params=params, trees=dict.fromkeys(state.trees, params))
