"""Rows of ``reasoning/rewrite``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import rewrite
from world_cases import World, midpoints

u8, u16 = jnp.uint8, jnp.uint16


def states(env, level):
    sizes = range(env.max_length + 1)
    letters = np.concatenate([np.arange(4**n) for n in sizes])
    length = np.repeat(sizes, [4**n for n in sizes])
    clock = np.zeros(len(length))
    return rewrite.State(jnp.asarray(letters, u16), jnp.asarray(length, u8), jnp.asarray(clock, u8))


strings = partial(World, "reasoning/rewrite", states=states, state=(u16, u8, u8))
WORLDS = [
    strings(
        {"max_length": 3, "horizon": 6, "prompts": 6, "test_prompts": 3}, other={"hardest": 0.1}
    ),
    strings(
        {"system": "non_confluent", "max_length": 4, "prompts": 8, "observation": "letters"},
        other={"easiest": 0.5},
    ),
    strings(
        {"system": "reversible", "max_length": 3, "horizon": 5, "noisy": True, "prompts": 5},
        other={"false_positive": 0.25, "false_negative": 0.125, "hardest": 0.1},
        noise=midpoints,
    ),
]
