"""Rows of ``reasoning/self_correct``."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import self_correct
from world_cases import World, midpoints

u8 = jnp.uint8


def states(env, level):
    report, answer = np.divmod(np.arange(2**env.tests * env.answers), env.answers)
    turn = np.append(0, np.ones(len(report)))
    leaves = (turn, np.append(0, answer), np.append(0, report))
    return self_correct.State(*(jnp.asarray(x, u8) for x in leaves))


def reports(env):
    grid = np.meshgrid(*[np.asarray(midpoints(env))] * env.tests)
    return jnp.asarray(np.stack([x.ravel() for x in grid], axis=1))


twice = partial(World, "reasoning/self_correct", states=states, state=(u8, u8, u8))
WORLDS = [
    twice({"prompts": 6, "test_prompts": 2}, other={"alpha": 3.0, "easiest": 0.5}),
    twice({"prompts": 5, "answers": 5, "modes": 2, "tests": 0}, other={"hardest": 0.1}),
    twice(
        {"prompts": 4, "answers": 4, "tests": 2, "noisy": True, "observation": "features"},
        other={"false_positive": 0.25, "false_negative": 0.125, "alpha": 0.5},
        noise=reports,
    ),
    twice(
        {"prompts": 5, "answers": 6, "modes": 2, "noisy": True},
        other={"false_negative": 0.5},
        noise=reports,
    ),
]
