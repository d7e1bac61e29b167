"""Small worlds of ``reasoning/kv_hop`` for its tests, and what their questions ask for."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs.reasoning.kv_hop import KVHop

POINTER = {"keys": 6, "hops": 3, "questions": 2, "prompts": 4}
INDEX = {"mode": "index", "keys": 4, "hops": 3, "base": 2, "questions": 3, "prompts": 6}


def params_of(env: KVHop, **given: float) -> Any:
    return replace(env.default_params, **{k: jnp.float32(v) for k, v in given.items()})


@cache
def compiled(env: KVHop, member: str) -> Any:
    return jax.jit(getattr(env, member))


@cache
def bank(env: KVHop) -> Any:
    ids = jnp.arange(env.prompts + env.test_prompts)
    return jax.jit(lambda params: jax.vmap(partial(env.make_level, params))(ids))


def levels_of(env: KVHop, params: Any) -> Any:
    return bank(env)(params)


def level_of(env: KVHop, params: Any, index: int = 0) -> Any:
    return jax.tree.map(lambda x: x[index], levels_of(env, params))


def solve(env: KVHop, table: Any, question: int) -> tuple[list[int], int]:
    """The useful keys in order, and the answer."""
    if env.mode == "index":
        useful = list(range(env.hops))
        return useful, sum(int(table[k]) * env.base**k for k in useful)
    path = [question + 1]
    for _ in range(env.hops):
        path.append(int(table[path[-1]]))
    return path[:-1], path[-1]


def ask(env: KVHop, params: Any, level: Any, keys: Any) -> Any:
    state = env.reset(params, level, ())
    for key in keys:
        state = compiled(env, "step")(params, level, state, jnp.int32(key), ()).state
    return state
