"""Rows of ``bandit/slots``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxrl_envs.bandits.slots import State
from world_cases import World

u8 = jnp.uint8


def states(env, level):
    """All (clock, right, near), in lexicographic order."""
    T, graded = env.slots, env.near > 0
    every = [
        (clock, right, near)
        for clock in range(T + 1)
        for right in range(clock + 1)
        for near in range(clock - right + 1 if graded else 1)
    ]
    clock, right, near = jnp.array(every, u8).T
    return State(clock, right, near if graded else None)


slots = partial(World, "bandit/slots", states=states)
WORLDS = [
    slots({"prompts": 5, "test_prompts": 3}, (u8, u8), inert=True),
    slots(
        {"slots": 4, "vocabulary": 5, "choices": 2, "fork_choices": 1, "fillers": 1, "forks": 1,
         "near": 2, "reward": "min", "prompts": 4, "observation": "features", "features": 3},
        (u8, u8, u8),
        other={"near_score": 0.25},
    ),
    slots(
        {"slots": 5, "vocabulary": 3, "choices": 2, "fork_choices": 1, "fillers": 2, "forks": 1,
         "reward": "threshold", "stop": True, "prompts": 6},
        (u8, u8),
        other={"needed": 5.0},
    ),
    slots(
        {"slots": 3, "vocabulary": 4, "choices": 1, "fillers": 1, "forks": 0, "stop": True,
         "near": 1, "reward": "fraction", "prompts": 4},
        (u8, u8, u8),
        other={"near_score": 0.75},
    ),
]  # fmt: skip
