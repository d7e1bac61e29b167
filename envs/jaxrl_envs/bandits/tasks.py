"""Arm means and block borders as a hash of (prompt, clock): no key, no bytes, a nanosecond each.

A prompt meets the same tasks and borders in all its rollouts, at any horizon, so rollouts of one
prompt differ by pay and actions only. The hash is :func:`~jaxrl_envs.counter.mix`, whose words are
tested for uniformity and independence; prompts are a fixed data set, noise is never drawn so.
"""

from __future__ import annotations

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from jaxrl_envs.counter import mix

QUANTILES = 4096
"""Arm means are drawn from this many equally likely points of their prior: a 16 KB table."""
ARM, BORDER = 0x9E3779B9, 0x85EBCA6B
"""Separate the words that decide arm means and borders."""


@cache
def quantiles(prior: str, a: float, b: float) -> np.ndarray:
    """Midpoint quantiles of Beta(a, b) or N(0, 1). Cached: a constant of every program."""
    middle = (np.arange(QUANTILES) + 0.5) / QUANTILES
    if prior == "beta" and a == b == 1.0:
        return middle.astype(np.float32)
    from scipy import special  # slow to import, and not needed by the default prior

    standard = special.ndtri(middle) if prior == "normal" else special.betaincinv(a, b, middle)
    return standard.astype(np.float32)


def standard(
    prior: str,
    a: float,
    b: float,
    arms: int,
    level_id: Int[Array, ""],
    start: Int[Array, ""],
    arm: Int[Array, "..."],
) -> Float[Array, "..."]:
    """The standard prior's value of some arms, in the task that begins at clock ``start``.

    ``"gap"``: 1 for the best of ``arms`` and 0 for the others; else an independent draw for each.
    """
    if prior == "gap":
        return (arm == best_arm(arms, level_id, start)).astype(jnp.float32)
    words = mix(_task(level_id, start) ^ ((arm.astype(jnp.uint32) + 1) * jnp.uint32(ARM)))
    index = (words >> 20).astype(jnp.int32)  # 12 bits: one of the quantiles
    if prior == "beta" and a == b == 1.0:  # the same numbers without looking them up
        return (index.astype(jnp.float32) + 0.5) * jnp.float32(1 / QUANTILES)
    return jnp.asarray(quantiles(prior, a, b))[index]


def best_arm(arms: int, level_id: Int[Array, ""], start: Int[Array, ""]) -> Int[Array, ""]:
    """The best arm of a task in which the others are equal; first tasks of prompts take turns."""
    turn = jnp.where(start == 0, level_id.astype(jnp.uint32), mix(_task(level_id, start)))
    return (turn % arms).astype(jnp.int32)


def border(
    fixed: bool, length: Float[Array, ""], level_id: Int[Array, ""], clock: Int[Array, ""]
) -> Bool[Array, ""]:
    """Whether a new task begins at pull ``clock``: every n pulls, or with probability 1/n."""
    if fixed:
        return jnp.mod(clock.astype(jnp.float32), length) == 0.0
    word = mix(_task(level_id, clock) ^ jnp.uint32(BORDER))
    return (word >> 8).astype(jnp.float32) * jnp.float32(2.0**-24) * length < 1.0


def starts(
    fixed: bool, length: Float[Array, ""], level_id: Int[Array, ""], clocks: int
) -> Int[Array, "clocks"]:
    """The clock at which the task began that is met at each of the clocks 0, 1, …"""
    clock = jnp.arange(clocks, dtype=jnp.int32)
    # The first task begins at 0, border or not.
    return jax.lax.cummax(jnp.where(border(fixed, length, level_id, clock), clock, 0))


def _task(level_id: Int[Array, ""], clock: Int[Array, ""]) -> UInt32[Array, ""]:
    return mix(mix(level_id.astype(jnp.uint32)) + clock.astype(jnp.uint32))
