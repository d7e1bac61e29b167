"""Cheap base noise for gridworlds: as many outcomes as possible from each random word."""

from __future__ import annotations

from math import prod

import jax
import jax.numpy as jnp
from jaxtyping import Array, UInt16, UInt32

from jaxrl_envs import threefry


def half_words(key: Array, shape: tuple[int, ...]) -> UInt16[Array, "..."]:
    """16 random bits per entry, two entries from each 32-bit word.

    The generator makes 32 bits whatever is asked of it, so this halves its work. Prefix-stable
    along the leading axis, as ``draw`` must be.
    """
    size = prod(shape)
    words = threefry.bits(key, ((size + 1) // 2,))
    return jax.lax.bitcast_convert_type(words, jnp.uint16).reshape(-1)[:size].reshape(shape)


def pick(word: UInt32[Array, ""], n: int) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """One of ``0 .. n-1`` from a random word, and the word's remaining randomness.

    The word is read as a fraction of 2^32; n times it has an integer part, the index, and a
    fraction, the rest. The index is uniform to 2^-32. Needs n <= 2^16.
    """
    high, low = word >> 16, word & jnp.uint32(0xFFFF)
    scale = jnp.uint32(n)
    return (high * scale + (low * scale >> 16)) >> 16, word * scale


def skip(index: UInt32[Array, ""], taken: Array) -> UInt32[Array, ""]:
    """The index-th of all numbers but ``taken``."""
    return jnp.where(index >= taken.astype(jnp.uint32), index + 1, index)


def pick_two(word: UInt32[Array, ""], n: int) -> tuple[UInt32[Array, ""], UInt32[Array, ""]]:
    """An ordered pair of different indices among ``0 .. n-1``, uniform to about n²/2^32."""
    first, rest = pick(word, n)
    second, _ = pick(rest, n - 1)
    return first, skip(second, first)
