"""Rows of ``gridworld/dark_room``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from world_cases import World

u8, u16, u32 = jnp.uint8, jnp.uint16, jnp.uint32

room = partial(World, "gridworld/dark_room")
WORLDS = [
    room(
        {"size": 3, "steps": 3, "trials": 4, "safe_goal": True, "prompts": 5, "test_prompts": 3},
        (u8, u8, u8, u8),
        other={"safe": 0.5, "block": 2.0},
    ),
    room(
        {"size": 3, "steps": 1, "trials": 300, "observation": "transcript", "prompts": 8},
        (u8, u8, u16, u16, u8),
        7,
        other={"goal_reward": 0.5, "block": 3.0},
    ),
    room(
        {"size": 7, "trials": 5, "observation": "memory", "prompts": 20},
        (u8, u8, u8, u8, u32),
        12,
        other={"goal_reward": 2.0},
    ),
]
