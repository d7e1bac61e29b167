"""Rows of ``bandit/modes``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from world_cases import World, midpoints

OVER = 1  # the terminal state of the table


def number(env, level, state):
    return jnp.int32(OVER)


def uniforms(*names):
    return lambda env: {name: midpoints(env) for name in names}


def normals(env):
    """Two numbers with the mean and the variance of a standard normal."""
    return {"pay": jnp.array([-1.0, 1.0], jnp.float32)}


modes = partial(World, "bandit/modes", number=number)
SMALL = {"prompts": 5, "arms": 9, "modes": 2, "decoys": 3}
WORLDS = [
    modes(
        {"prompts": 6, "test_prompts": 2},
        other={"decoy_reward": 0.5},
        inert=True,  # there are no decoys
    ),
    modes(SMALL | {"observation": "features"}, other={"decoy_reward": 0.5}),
    modes(
        SMALL | {"noise": "bernoulli", "verifier": True},
        other={"decoy_reward": 0.5, "false_positive": 0.25, "false_negative": 0.125},
        noise=uniforms("pay", "verdict"),
    ),
    modes(SMALL | {"noise": "gaussian"}, other={"sigma": 0.5}, noise=normals),
    modes(SMALL | {"noise": "two_point"}, other={"chance": 0.125}, noise=uniforms("pay")),
    modes(
        SMALL | {"observation": "features", "hinted": True, "verifier": True},
        other={"hints": 5.0, "false_positive": 1.0},
        noise=uniforms("verdict"),
    ),
]
