"""Rows of ``reasoning/think_answer``."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning import think_answer
from world_cases import World, midpoints

u8 = jnp.uint8


def states(env, level):
    """The prompt, every strategy and none at every later time, and an ended episode."""
    width = env.strategies + 1
    clock, strategy = np.divmod(np.arange((env.horizon - 1) * width), width)
    strategy = np.concatenate([[env.strategies], strategy, [env.strategies]])
    clock = np.concatenate([[0], clock + 1, [env.horizon]])
    return think_answer.State(jnp.asarray(strategy, u8), jnp.asarray(clock, u8))


WORLDS = [
    World("reasoning/think_answer", {}, (u8, u8), 2, {"hardest": 0.1}, states),
    World(
        "reasoning/think_answer",
        {"prompts": 6, "test_prompts": 3, "strategies": 5, "right": 1, "unsure": 2, "popular": 1}
        | {"answers": 4, "free": 1, "vocabulary": 7},
        (u8, u8),
        2,
        {"chance": 0.25},
        states,
        noise=midpoints,
    ),
    World(
        "reasoning/think_answer",
        {"prompts": 5, "strategies": 4, "right": 3, "right_answers": 2, "answers": 9, "free": 0}
        | {"observation": "features", "features": 3},
        (u8, u8),
        2,
        {"skew": 0.5},
        states,
        inert=True,  # the base policy alone is skewed
    ),
]
