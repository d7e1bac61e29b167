"""Rows of ``gridworld/four_rooms``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.gridworlds import four_rooms
from world_cases import World

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    cells = jnp.arange(104, dtype=u8)
    # Clocks above zero: an episode that only begins on its goal is not over.
    clock = u8 if env.horizon <= 255 else u16
    return four_rooms.State(cells, jnp.ones(104, clock))


def slips(env):
    """Sixteen equally likely draws: two of them meet each of three slips of 1/8."""
    return (jnp.arange(16) * 4096 + 2048).astype(u16)


def starts(env):
    """One word for each of the 103 cells that are not the goal."""
    return jnp.asarray((np.arange(103) + 0.5) / 103 * 2**32, jnp.uint32)


def joint(env, level, state):
    return state.goal.astype(jnp.int32) * 104 + state.cell.astype(jnp.int32)


def pairs(env):
    """Some words, of which nobody asks for exact probabilities."""
    return jnp.arange(4, dtype=jnp.uint32)


rooms = partial(World, "gridworld/four_rooms", states=states)
WORLDS = [
    rooms({}, (u8, u16), other={"slip": 0.375, "step_cost": 0.25}, noise=slips),
    rooms(
        {"start": "random", "levels": 3, "test_levels": 2, "observation": "coordinates"},
        (u8, u16),
        other={"slip": 0.375},
        noise=slips,
        starts=starts,
    ),
    rooms(
        {"slippery": False, "horizon": 40, "levels": 100, "test_levels": 3, "observation": "view"},
        (u8, u8),
        other={"step_cost": 0.125},
    ),
    rooms(
        {"start": "random", "goal": "random"},
        (u8, u16, u8),
        other={"step_cost": 0.125},
        noise=slips,
        starts=pairs,
        number=joint,
    ),
    rooms(
        {"goal": "random", "slippery": False, "horizon": 60},
        (u8, u8, u8),
        other={"step_cost": 0.125},
        starts=pairs,
        number=joint,
    ),
]
