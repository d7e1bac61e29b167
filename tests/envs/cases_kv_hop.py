"""Rows of ``reasoning/kv_hop``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import kv_hop
from world_cases import World, midpoints

u8, u32 = jnp.uint8, jnp.uint32


def states(env, level):
    """All memories: key k has the k-th lowest digit, full or not, or any value."""
    values, slots = (env.keys, env.keys) if env.mode == "pointer" else (env.base, env.hops)
    any_value = env.noisy or env.outdated
    marks = values + 1 if any_value else 2
    held = np.arange(marks**slots)[:, None] // marks ** np.arange(slots) % marks
    if not any_value:
        held = held * (np.asarray(level.table)[:slots].astype(int) + 1)
    words = jnp.asarray((held << (4 * np.arange(slots))).sum(axis=1), u32)
    zeros = jnp.zeros(len(words), u8)
    last = zeros if env.observation == "tokens" else None
    return kv_hop.State(words, zeros, last, last)


hop = partial(World, "reasoning/kv_hop", states=states, state=(u32, u8), most=7)
WORLDS = [
    hop({"prompts": 20, "test_prompts": 8}, other={"cost": 0.25, "memory": 0.5}),
    hop(
        {"keys": 4, "hops": 2, "budget": 3, "questions": 2, "noisy": True, "prompts": 3}
        | {"observation": "known"},
        other={"error": 0.5, "skew": 1.0},
        noise=midpoints,
    ),
    hop(
        {"mode": "index", "keys": 12, "hops": 3, "base": 3, "outdated": True, "prompts": 20}
        | {"observation": "tokens"},
        state=(u32, u8, u8, u8),
        other={"stale": 0.5, "cost": 0.5},
    ),
    hop(
        {"mode": "index", "keys": 5, "hops": 2, "base": 4, "noisy": True, "outdated": True}
        | {"prompts": 6, "test_prompts": 3},
        other={"stale": 0.5, "error": 0.25},
        noise=midpoints,
    ),
    hop(
        {"mode": "index", "keys": 9, "hops": 3, "base": 2, "budget": 5, "prompts": 9},
        other={"cost": 0.5},
    ),
]
