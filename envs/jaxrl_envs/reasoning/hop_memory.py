"""The word in which the results of a tool are remembered, and where they lead."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int, UInt32

SLOTS, BITS = 8, 4
"""Results are remembered in 8 slots of 4 bits, one 32-bit word: 0 is none, v + 1 a value."""


def remembered(word: UInt32[Array, ""], slots: int) -> Int[Array, "n"]:
    """The first slots of a word: result + 1, or 0 for none."""
    shifts = jnp.arange(0, BITS * slots, BITS, dtype=jnp.uint32)
    return (word >> shifts & jnp.uint32(2**BITS - 1)).astype(jnp.int32)


def remember(
    word: UInt32[Array, ""], slot: Int[Array, ""], value: Int[Array, ""]
) -> UInt32[Array, ""]:
    """The word after a result was written into one of its slots."""
    shift = (BITS * slot).astype(jnp.uint32)
    mask = jnp.uint32(2**BITS - 1) << shift
    return word & ~mask | (value + 1).astype(jnp.uint32) << shift


def spell(number: Array | np.ndarray, base: int, count: int) -> Any:
    """``[..., count]`` digits of a number, the lowest first."""
    return number[..., None] // base ** np.arange(count, dtype=np.int32) % base


def follow(known: Int[Array, "N"], first: Int[Array, ""], hops: int) -> Int[Array, "H1"]:
    """The keys to which remembered results lead from the first one; -1 where they end."""
    path = [first]
    for _ in range(hops):
        ahead = known[jnp.maximum(path[-1], 0)] - 1
        path.append(jnp.where(path[-1] >= 0, ahead, -1))
    return jnp.stack(path)


def writes(
    table: Int[Array, "n"], old: Int[Array, "n"], marks: int
) -> tuple[Int[Array, "S n"], Int[Array, "S n"], Int[Array, "S n v"]]:
    """All memories, and where every query leads, of n keys with given first and later results.

    A memory has the number Σ_k slot_k m^k. With ``marks`` m = 2 a slot is full or not and only
    the right result can be in it (v = 1); with m = values + 1 it holds any (v = values).

    Returns:
        What the slots hold, the memory after the result that is due, and the memory after any.
    """
    n = table.shape[0]
    here = np.arange(marks**n, dtype=np.int32)
    slot = jnp.asarray(spell(here, marks, n))
    stride = jnp.asarray(marks ** np.arange(n), jnp.int32)
    mark = jnp.arange(1, marks, dtype=jnp.int32)
    step = (mark[None, None, :] - slot[:, :, None]) * stride[None, :, None]
    after = jnp.asarray(here)[:, None, None] + step
    if marks == 2:
        return slot * (table + 1)[None, :], after[:, :, 0], after
    due = jnp.where(slot > 0, table[None, :], old[None, :])
    return slot, jnp.take_along_axis(after, due[:, :, None], axis=2)[:, :, 0], after
