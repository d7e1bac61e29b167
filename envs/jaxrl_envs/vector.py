"""Streams of N episodes that restart by themselves: pure functions for use inside ``lax.scan``.

The strategies differ in how many resets they compute per step:

* ``"never"``: none. Ended instances stand still (worlds are absorbing); for synchronous episodes.
* ``"every_step"``: N, of which those that are needed are selected. Right where a reset is cheap.
* ``"pooled"``: ``pool`` of them, handed to the ended instances in order of their index. Right
  where a reset is dear. Price: when more than ``pool`` instances end at the same step, the
  remaining ones are given pool entries a second time, so that they share prompt and first state.
  Each fresh episode still has the right distribution by itself, but the sharing ones are
  dependent: the effective sample size falls, while means stay unbiased. With ``pool`` at or above
  the number that end in one step nothing is shared.

Levels are rebuilt from their ids by the caller's ``make_level``, which maps ``int32[N]`` ids to
batched levels: ``jax.vmap(partial(env.make_level, params))``, or a look-up in a bank of levels
where building one is dear.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from jaxrl_envs import threefry
from jaxrl_envs.core import Environment, Transition, Tree
from jaxrl_envs.counter import counter_prng
from jaxrl_envs.errors import BadInput, expect

Strategy = Literal["never", "every_step", "pooled"]
MakeLevel = Callable[[Int[Array, "N"]], Tree]

STEP, LEVEL, RESET = 0, 1, 2
"""Which of a step's three keys ``env.draw``, the prompts and ``env.draw_reset`` are given."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class StreamState:
    """N running episodes.

    Attributes:
        level_id: prompt of each instance, ``int32[N]``.
        state: packed states, leading axis N.
        started: the state is the first of its episode (where a recurrent carry is cleared), [N].
    """

    level_id: Int[Array, "N"]
    state: Tree
    started: Bool[Array, "N"]


def stream_reset(
    env: Environment, params: Tree, make_level: MakeLevel, split: str, key: Array, n: int
) -> StreamState:
    """Start ``n`` episodes on prompts drawn uniformly from a split.

    Raises:
        BadInput: the split has no prompts, or ``n`` is not positive.
    """
    expect(n >= 1, "n", n, "at least 1 environment")
    level_id, state = _fresh(env, params, make_level, split, step_keys(key), n)
    return StreamState(level_id, state, jnp.ones(n, bool))


def stream_step(
    env: Environment,
    params: Tree,
    make_level: MakeLevel,
    split: str,
    stream: StreamState,
    action: Int[Array, "N"],
    key: Array,
    *,
    strategy: Strategy = "every_step",
    pool: int = 0,
) -> tuple[StreamState, Transition]:
    """Step all N instances, then restart those that ended, on newly drawn prompts.

    Args:
        key: of this time step, for example ``fold_in(run_key, t)``; the batched draws hang on it.
        pool: how many resets ``"pooled"`` computes, 1 .. N.

    Returns:
        The next stream, and the transition *before* any restart: its ``state`` is the final one
        where an episode ended, so that a truncated episode can be bootstrapped from it. The
        prompts of the transition are ``stream.level_id``, not those of the next stream.

    Raises:
        BadInput: an unknown strategy, a pool outside 1 .. N, or a split without prompts.
    """
    n = stream.level_id.shape[0]
    keys = step_keys(key)
    noise = env.draw(keys[STEP], (n,))
    levels = make_level(stream.level_id)
    step = jax.vmap(env.step, in_axes=(None, 0, 0, 0, 0))
    transition = step(params, levels, stream.state, action, noise)
    ended = transition.terminated | transition.truncated

    if strategy == "never":
        none = jnp.zeros(n, bool)
        return StreamState(stream.level_id, transition.state, none), transition
    if strategy == "every_step":
        fresh = _fresh(env, params, make_level, split, keys, n)
    elif strategy == "pooled":
        expect(1 <= pool <= n, "pool", pool, f"1 to {n} resets per step")
        entries = _fresh(env, params, make_level, split, keys, pool)
        rank = jnp.cumsum(ended, dtype=jnp.int32) - 1  # 0 for the first that ended, 1, 2, …
        fresh = jax.tree.map(lambda x: x[rank % pool], entries)
    else:
        names = ("never", "every_step", "pooled")
        raise BadInput("strategy", strategy, "a reset strategy", names)

    select = partial(_select, ended)
    state = jax.tree.map(select, fresh[1], transition.state)
    # Where there is one prompt the next one is the same: a whole pass over memory saved.
    one = len(env.level_ids(split)) == 1
    level_id = stream.level_id if one else select(fresh[0], stream.level_id)
    return StreamState(level_id, state, ended), transition


def step_keys(key: Array) -> Array:
    """The three keys of a step in one call: one by one they cost as much as a small step."""
    return threefry.split(key, 3)


def _fresh(
    env: Environment, params: Tree, make_level: MakeLevel, split: str, keys: Array, n: int
) -> tuple[Int[Array, "N"], Any]:
    """Prompts and first states of ``n`` new episodes: one batched draw of each."""
    ids = env.level_ids(split)
    expect(len(ids) > 0, "split", split, "a split with at least one prompt")
    level_id = ids.start + ids.step * uniform_ints(keys[LEVEL], n, len(ids))
    noise = env.draw_reset(keys[RESET], (n,))
    reset = jax.vmap(env.reset, in_axes=(None, 0, 0), axis_size=n)
    return level_id, reset(params, make_level(level_id), noise)


def uniform_ints(key: Array, n: int, count: int) -> Int[Array, "N"]:
    """``n`` numbers below ``count``, hashed from the position and the first two words of the key.

    Few of them are used, namely where an episode ended, so they come from the counter hash: as
    threefry draws they cost more than a whole step of a small world. No draw for one number. The
    bias of scaling 32 random bits is below ``count`` / 2^32.
    """
    if count == 1:
        return jnp.zeros(n, jnp.int32)
    seed = jax.random.wrap_key_data(jax.random.key_data(key)[:2], impl=counter_prng())
    word = jax.random.bits(seed, (n,), jnp.uint32)
    # The upper half of word · count, without 64-bit integers.
    high, low = word >> 16, word & jnp.uint32(0xFFFF)
    top, bottom = jnp.uint32(count >> 16), jnp.uint32(count & 0xFFFF)
    middle = high * bottom + (low * bottom >> 16)
    carry = (middle & jnp.uint32(0xFFFF)) + (low * top & jnp.uint32(0xFFFF))
    upper = high * top + (middle >> 16) + (low * top >> 16) + (carry >> 16)
    return upper.astype(jnp.int32)


def _select(ended: Bool[Array, "N"], new: Array, old: Array) -> Array:
    """``new`` where ended, per instance. Both have one dtype: a silent cast would widen states."""
    if new.dtype != old.dtype:
        raise TypeError(f"reset gives {new.dtype} where step gives {old.dtype}")
    return jnp.where(ended.reshape(ended.shape + (1,) * (old.ndim - 1)), new, old)
