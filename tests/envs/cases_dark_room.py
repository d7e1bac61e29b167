"""Rows of ``gridworld/dark_room``."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from world_cases import World

u8, u16, u32 = jnp.uint8, jnp.uint16, jnp.uint32


def states(env, level, block=20.0):
    """(trial, moves, cell) in that order; a run of the world says when each goal was set."""
    params = replace(env.default_params, block=jnp.float32(block))

    def rest(state, _):
        return env.step(params, level, state, 4, ()).state, (state.trial, state.since)

    first = env.reset(params, level, ())
    _, (trial, since) = jax.lax.scan(rest, first, length=env.horizon)
    since = jnp.zeros(env.trials, since.dtype).at[trial].max(since)
    shape = env.trials, env.steps, env.size**2
    trial, moves, cell = (x.ravel() for x in jnp.indices(shape, dtype=first.trial.dtype))

    def packed(trial, moves, cell):
        return replace(first, cell=u8(cell), moves=u8(moves), trial=trial, since=since[trial])

    return jax.vmap(packed)(trial, moves, cell)


room = partial(World, "gridworld/dark_room")
WORLDS = [
    room(
        {"size": 3, "steps": 3, "trials": 4, "safe_goal": True, "prompts": 5, "test_prompts": 3},
        (u8, u8, u8, u8),
        other={"safe": 0.5, "block": 2.0},
        states=partial(states, block=2.0),
    ),
    room(
        {"size": 3, "steps": 1, "trials": 300, "observation": "transcript", "prompts": 8},
        (u8, u8, u16, u16, u8),
        7,
        other={"goal_reward": 0.5, "block": 3.0},
        states=partial(states, block=3.0),
    ),
    room(
        {"size": 7, "trials": 5, "observation": "memory", "prompts": 20},
        (u8, u8, u8, u8, u32),
        12,
        other={"goal_reward": 2.0},
        states=states,
    ),
]
