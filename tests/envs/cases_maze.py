"""Rows of ``gridworld/maze``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxrl_envs.gridworlds import maze
from world_cases import World, midpoints

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    cells = jnp.arange(env.size**2, dtype=u8)
    clock = env.reset(env.default_params, level, ()).clock
    return maze.State(cells, jnp.zeros(env.size**2, clock.dtype))


grid = partial(World, "gridworld/maze", states=states)
WORLDS = [
    grid({"levels": 5, "test_levels": 3}, (u8, u8), other={"loops": 0.5, "goal_reward": 2.0}),
    grid(
        {"size": 5, "levels": 16, "spontaneous": True, "observation": "view", "view": 3},
        (u8, u8),
        other={"p_spont": 0.25, "step_cost": 0.0, "goal_reward": 1.0},
        noise=midpoints,
    ),
    grid(
        {"size": 15, "ends": "corners", "horizon": 300, "observation": "map", "levels": 3},
        (u8, u16),
        other={"step_cost": 0.125},
    ),
    grid({"size": 3, "levels": 2, "goal_visible": False}, (u8, u8), other={"step_cost": 0.5}),
]
