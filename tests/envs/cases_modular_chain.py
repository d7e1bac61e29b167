"""Rows of ``reasoning/modular_chain``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import modular_chain
from world_cases import World

u8 = jnp.uint8


def states(env, level):
    clock, residue = np.divmod(np.arange((env.length + 1) * env.modulus), env.modulus)
    last = jnp.zeros(clock.size, u8) if env.observation == "tokens" else None
    return modular_chain.State(jnp.asarray(residue, u8), jnp.asarray(clock, u8), last)


chain = partial(World, "reasoning/modular_chain", states=states, other={"hardest": 0.1})
WORLDS = [
    chain({}, (u8, u8)),
    chain(
        {"modulus": 7, "vocabulary": 4, "length": 3, "operators": "affine", "prompts": 30}
        | {"test_prompts": 10, "observation": "residue"},
        (u8, u8),
    ),
    chain(
        {"modulus": 5, "vocabulary": 6, "operators": "affine", "prompts": 8}
        | {"observation": "tokens"},
        (u8, u8, u8),
    ),
]
