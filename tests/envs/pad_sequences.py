"""All token sequences of small worlds of ``reasoning/pad_length``, for its tests."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxrl_envs.reasoning.pad_length import PadLength

THINK = 0


def params_of(env: PadLength, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


def level_of(env: PadLength, params: Any, index: int = 0) -> Any:
    return env.make_level(params, jnp.int32(index))


def q(env: PadLength, params: Any, level: Any, j: Any) -> Any:
    ahead = np.asarray(j, float) - float(level.needed)
    return 1 / (1 + np.exp(-ahead / float(params.width))) if env.noisy else (ahead >= 0) * 1.0


def sequences(env: PadLength, length: int) -> list[tuple[int, ...]]:
    """All token sequences that end in the answer or have all ``length`` tokens without it."""
    answer = env.fillers + 1
    rows = []
    for n in range(length + 1):
        for tokens in itertools.product(range(answer), repeat=n):
            rows.append(tokens if n == length else (*tokens, answer))
    return rows
