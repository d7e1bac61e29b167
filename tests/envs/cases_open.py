"""Rows of ``gridworld/open``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxrl_envs.gridworlds import open as open_grid
from world_cases import World, midpoints

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    cells = jnp.arange(env.size**2, dtype=u8)
    clock = jnp.zeros(env.size**2, u8 if env.horizon <= 255 else u16)
    return open_grid.State(cells, clock)


def free_cells(env):
    n = env.size**2 - env.goals
    return (jnp.arange(n, dtype=jnp.float32) + 0.5) / n


grid = partial(World, "gridworld/open", state=(u8, u8), most=3, states=states)
WORLDS = [
    grid({"levels": 3, "test_levels": 1}, other={"step_cost": 0.25}),
    grid({"size": 4, "goals": 3, "layout": "scattered", "levels": 9}, other={"gap": 0.25}),
    grid(
        {"size": 4, "goals": 2, "layout": "scattered", "noisy": True, "test_levels": 4},
        other={"slip": 0.5, "p_spont": 0.25, "step_cost": 0.125, "gap": 0.5},
        noise=midpoints,
    ),
    grid(
        {"size": 3, "goals": 2, "start": "random", "levels": 4, "observation": "coordinates"},
        other={"gap": 1.0, "step_cost": 0.5},
        starts=free_cells,
    ),
    grid({"size": 15, "goals": 0, "horizon": 300}, state=(u8, u16), other={"step_cost": 1.0}),
    grid(
        {"size": 2, "goals": 0, "start": "random", "layout": "scattered", "noisy": True},
        other={"slip": 0.25, "step_cost": 0.5},
        starts=free_cells,
        noise=midpoints,
    ),
]
