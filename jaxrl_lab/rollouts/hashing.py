"""A number for each packed state, so that equal states are found by comparing numbers."""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs.counter import mix
from jaxtyping import Array, UInt8, UInt32

from jaxrl_lab.types import Tree


def state_hash(states: Tree, shape: tuple[int, ...] = ()) -> UInt32[Array, "..."]:
    """A 32-bit hash of each packed state; equal states have equal hashes.

    h = mix(Σ_i mix(w_i ⊕ c_i)), w the state's bytes in words of four, c_i fixed random words and
    ``mix`` that of :mod:`jaxrl_envs.counter`. As ``mix`` is one-to-one, states of at most 4 bytes,
    and states that differ in one word only, never collide; others do with probability near 2⁻³².

    The level is no part of a state: compare within a group, whose rollouts share it. A state that
    counts its steps is met again at the same time only. -0.0 equals 0.0.

    Args:
        states: leaves ``[*shape, ...]`` of integers, booleans or floats.
        shape: the leading axes (``(B, G, T)`` of a batch), which a world without state cannot
            tell.

    Returns:
        Hashes of that shape.
    """
    parts = [_as_bytes(jnp.asarray(x), shape) for x in jax.tree.leaves(states)]
    size = sum(p.shape[-1] for p in parts)
    count = -(-size // 4)
    padding = jnp.zeros((*shape, 4 * count - size), jnp.uint8)
    packed = jnp.concatenate([*parts, padding], axis=-1)
    words = jax.lax.bitcast_convert_type(packed.reshape(*shape, count, 4), jnp.uint32)
    salt = np.random.RandomState(0).randint(0, 2**32, count, np.uint32)  # a frozen generator
    salted = words ^ jnp.broadcast_to(jnp.asarray(salt), words.shape)
    return mix(jnp.sum(mix(salted), axis=-1, dtype=jnp.uint32))


def _as_bytes(x: Array, shape: tuple[int, ...]) -> UInt8[Array, "... n"]:
    if x.dtype == jnp.bool_:
        x = x.astype(jnp.uint8)
    if jnp.issubdtype(x.dtype, jnp.floating):
        x = jnp.where(x == 0, jnp.zeros_like(x), x)  # two zeros, one number
    count = prod(x.shape[len(shape) :]) * x.dtype.itemsize
    return jax.lax.bitcast_convert_type(x, jnp.uint8).reshape(*shape, count)
