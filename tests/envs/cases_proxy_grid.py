"""Rows of ``gridworld/proxy``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jaxrl_envs.gridworlds import proxy
from world_cases import World

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    done, cell = jnp.divmod(jnp.arange(2**env.goals * env.size**2), env.size**2)
    clock = jnp.zeros(cell.shape, u8 if env.horizon <= 255 else u16)
    return proxy.State(cell.astype(u8), done.astype(u8), clock)


grid = partial(World, "gridworld/proxy", state=(u8, u8, u8), states=states)
WORLDS = [
    grid({"levels": 3, "test_levels": 2}, other={"hack": 0.25, "step_cost": 0.125}),
    grid(
        {"kind": "tamper", "size": 4, "goals": 3, "levels": 2, "hack_distance": 2},
        other={"finish": 0.5, "step_cost": 0.25},
    ),
    grid({"kind": "coin", "levels": 4, "test_levels": 4}, other={"step_cost": 0.0}),
    grid(
        {"kind": "coin", "size": 3, "observation": "coordinates", "test_levels": 3},
        other={"finish": 0.5, "step_cost": 0.5},
    ),
    grid(
        {"goals": 2, "observation": "coordinates", "horizon": 300, "levels": 5},
        state=(u8, u8, u16),
        other={"step_cost": 0.25},
    ),
]
