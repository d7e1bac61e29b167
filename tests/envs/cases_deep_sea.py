"""Rows of ``gridworld/deep_sea``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax.scipy.special import ndtri
from jaxrl_envs.gridworlds import deep_sea
from world_cases import World, midpoints

u8 = jnp.uint8


def normals(env):
    """Sixteen equally likely draws of a normal: their ranks meet multiples of 1/16 exactly."""
    return ndtri(midpoints(env))


def states(env, level):
    cells = [(row, column) for row in range(env.size) for column in range(row + 1)]
    rows, columns = zip(*cells, strict=True)
    return deep_sea.State(jnp.array(rows, u8), jnp.array(columns, u8))


sea = partial(World, "gridworld/deep_sea", state=(u8, u8), most=2, states=states)
WORLDS = [
    sea({"size": 4, "levels": 5, "test_levels": 3}, other={"move_cost": 0.25}),
    sea({"size": 9, "levels": 40, "observation": "grid"}, other={"move_cost": 0.5}),
    sea({"size": 2, "swap": False}, other={"move_cost": 0.125}),
    sea(
        {"size": 4, "windy": True, "levels": 2, "observation": "grid"},
        other={"wind": 0.5, "move_cost": 0.25, "reward_noise": 0.5},
        noise=normals,
    ),
    sea({"size": 3, "windy": True, "levels": 8}, other={"wind": 0.125}, noise=normals),
]
