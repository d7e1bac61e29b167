"""Rows of ``bandit/proxy``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from world_cases import World


def number(env, level, state):
    return jnp.int32(1)  # after its one step an episode stands in the table's terminal state


bandit = partial(World, "bandit/proxy", number=number)
WORLDS = [
    bandit({"arms": 8, "prompts": 5, "test_prompts": 2}, other={"correlation": 0.5}),
    bandit(
        {"arms": 9, "members": 3, "hacks": 2, "fooled": 1, "prompts": 4}
        | {"observation": "features"},
        other={"shared": 0.5, "tail": 0.1},
    ),
    bandit({"arms": 6, "hacks": 0, "prompts": 3}, other={"tail": 0.2}),
]
