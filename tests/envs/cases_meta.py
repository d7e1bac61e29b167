"""Rows of ``bandit/meta``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax.numpy as jnp
from jaxrl_envs.bandits import counts
from world_cases import World, midpoints

u8, u16, u32, f32 = jnp.uint8, jnp.uint16, jnp.uint32, jnp.float32


def states(env, level):
    """All histories that fit the horizon, packed by hand: 8 bits for pulls, then successes."""
    every = counts.every_count(2 * env.arms, env.horizon).reshape(-1, env.arms, 2)
    pulls, successes = every.sum(axis=2), every[:, :, 1]
    halves = pulls + (successes << 8)
    if env.arms % 2:
        halves = jnp.pad(halves, ((0, 0), (0, 1)))
    words = jnp.asarray(halves[:, ::2] + (halves[:, 1::2] << 16), u32)
    state = env.reset(env.default_params, level, ())
    last = None if state.last is None else jnp.zeros(len(every), u8)
    return replace(state, counts=words, last=last)


def normals(env):
    """Only that something is drawn matters: these worlds have no table."""
    return jnp.zeros(1, f32)


tabular = partial(World, "bandit/meta", states=states, noise=midpoints)
endless = partial(World, "bandit/meta", noise=normals)
sixteenths = {"location": 0.25, "scale": 0.5}  # means that 16 equally likely draws meet exactly
WORLDS = [
    tabular(
        {"horizon": 4, "prior": "gap", "observation": "counts", "prompts": 2},
        (u32,),
        other=sixteenths,
    ),
    tabular(
        {"arms": 3, "horizon": 3, "prior": "gap", "prompts": 2, "test_prompts": 1},
        (u32,),
        8,
        other=sixteenths,
    ),
    endless(
        {
            "arms": 3,
            "horizon": 2,
            "prior": "gap",
            "safe_arm": True,
            "observation": "last",
            "prompts": 2,
        },
        (u32, u8),
        9,
        other={**sixteenths, "safe": 0.5},
    ),
    endless(
        {
            "arms": 4,
            "horizon": 9,
            "prior": "gap",
            "safe_arm": True,
            "blocks": "geometric",
            "observation": "outcomes",
            "prompts": 3,
        },
        (u32, u8),
        9,
        other={"location": 0.0, "scale": 1.0, "safe": 0.5, "block": 3.0},
    ),
    endless(
        {"arms": 3, "horizon": 5, "observation": "none", "prompts": 2},
        (u32,),
        8,
        other={"scale": 0.5},
    ),
    endless({"horizon": 300, "prompts": 7, "test_prompts": 2}, (u32,), 8, other={"scale": 0.5}),
    endless(
        {
            "arms": 3,
            "pay": "gaussian",
            "prior": "normal",
            "blocks": "geometric",
            "horizon": 50,
            "observation": "last",
            "prompts": 5,
        },
        (u32, f32, u8, u8, f32),
        22,
        other={"noise": 0.5, "block": 4.0},
    ),
    endless(
        {"arms": 5, "blocks": "fixed", "visible_borders": False, "horizon": 20, "prompts": 5},
        (u32, u8),
        13,
        other={"block": 5.0, "scale": 0.5},
    ),
]
