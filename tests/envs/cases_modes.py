"""Rows of ``bandit/modes``."""

from __future__ import annotations

import jax.numpy as jnp
from world_cases import World

OVER = 1  # the terminal state of the table


def number(env, level, state):
    return jnp.int32(OVER)


WORLDS = [
    World(
        "bandit/modes",
        {"prompts": 6, "test_prompts": 2},
        number=number,
        other={"decoy_reward": 0.5},
        inert=True,  # there are no decoys
    ),
    World(
        "bandit/modes",
        {"prompts": 5, "arms": 9, "modes": 2, "decoys": 3, "observation": "features"},
        number=number,
        other={"decoy_reward": 0.5},
    ),
]
