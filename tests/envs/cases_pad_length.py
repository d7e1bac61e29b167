"""Rows of ``reasoning/pad_length``."""

from __future__ import annotations

from functools import partial
from math import log

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import pad_length
from world_cases import World

u8 = jnp.uint8


def states(env, level):
    pairs = [(j, t) for t in range(env.limit + 1) for j in range(t + 1)]
    return pad_length.State(*(jnp.asarray(x, u8) for x in np.array(pairs).T))


def odds(env):
    """With w = 1 / ln 3, q is 1/2, 3/4, 9/10 or 27/28: 140 draws meet these exactly."""
    return (jnp.arange(140, dtype=jnp.float32) + 0.5) / 140


pad = partial(World, "reasoning/pad_length", states=states, state=(u8, u8), most=2)
soft = {"shortest": 1.0, "longest": 2.0, "width": 1 / log(3), "penalty": 0.125}
WORLDS = [
    pad({"limit": 6, "prompts": 5, "test_prompts": 3}, other={"longest": 6.0, "penalty": 0.25}),
    pad(
        {"limit": 4, "fillers": 1, "noisy": True, "only_right": True, "prompts": 2},
        other=soft,
        noise=odds,
    ),
    pad(
        {"limit": 4, "noisy": True, "observation": "features", "prompts": 2},
        other=soft | {"free_tokens": 2.0},
        noise=odds,
    ),
    pad(
        {"limit": 5, "fillers": 0, "only_right": True, "observation": "length", "prompts": 4},
        other={"shortest": 0.0, "longest": 0.0},
    ),
]
