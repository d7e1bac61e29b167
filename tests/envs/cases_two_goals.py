"""Rows of ``gridworld/two_goals``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxrl_envs.gridworlds import two_goals
from world_cases import World, midpoints

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    cells = jnp.arange(env.size**2, dtype=u8)
    clock = env.reset(env.default_params, level, ()).clock
    return two_goals.State(cells, jnp.zeros(env.size**2, clock.dtype))


grid = partial(World, "gridworld/two_goals", states=states)
WORLDS = [
    grid({"levels": 5, "test_levels": 3}, (u8, u8), other={"second_reward": 0.5}),
    grid({"size": 3, "levels": 8, "horizon": 2}, (u8, u8), other={"step_cost": 0.25}),
    grid(
        {"size": 3, "slippery": True, "levels": 3, "observation": "coordinates"},
        (u8, u8),
        other={"slip": 0.5, "step_cost": 0.125},
        noise=midpoints,
    ),
    grid({"size": 15, "horizon": 300, "levels": 9}, (u8, u16), other={"second_reward": 2.0}),
]
