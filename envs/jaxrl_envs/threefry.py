"""The draws of ``jax.random`` bit for bit, in half the time on a CPU and with less to compile.

jax lowers its default generator to a loop of small kernels on a CPU. Here the twenty rounds of
threefry-2x32 are written out, so that XLA fuses them, the conversion of the bits and whatever
consumes them into one pass. Keys of another generator, and wide types, are left to
``jax.random``; so is a jax that was told to lay out its counters the old way.

Source: Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Float, UInt32

ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
PARITY = np.uint32(0x1BD11BDA)
Key = Array
Shape = tuple[int, ...]


def bits(key: Array, shape: Shape) -> UInt32[Array, "..."]:
    """``jax.random.bits(key, shape, uint32)``: uniform 32-bit words."""
    if not _is_default(key):
        return jax.random.bits(key, shape, jnp.uint32)
    return _words(jax.random.key_data(key), shape)


def split(key: Array, count: int) -> Array:
    """``jax.random.split(key, count)``: that many keys."""
    if not _is_default(key):
        return jax.random.split(key, count)
    data = _children(jax.random.key_data(key), count)
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(data, impl="threefry2x32") if typed else data


def fold_in(key: Array, data: Array | int) -> Array:
    """``jax.random.fold_in(key, data)``: the key of a number."""
    if not _is_default(key):
        return jax.random.fold_in(key, data)
    child = _child(jax.random.key_data(key), jnp.uint32(data))
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    return jax.random.wrap_key_data(child, impl="threefry2x32") if typed else child


@jax.jit
def _child(key: UInt32[Array, "2"], data: UInt32[Array, ""]) -> UInt32[Array, "2"]:
    return jnp.stack(hash_words(key[0], key[1], jnp.zeros_like(data), data))


@partial(jax.jit, static_argnums=1)
def _children(key: UInt32[Array, "2"], count: int) -> UInt32[Array, "count 2"]:
    position = jax.lax.iota(jnp.uint32, count)
    return jnp.stack(hash_words(key[0], key[1], jnp.zeros_like(position), position), axis=1)


@partial(jax.jit, static_argnums=1, inline=True)
def _words(key: UInt32[Array, "2"], shape: Shape) -> UInt32[Array, "..."]:
    position = jax.lax.iota(jnp.uint32, prod(shape))
    high, low = hash_words(key[0], key[1], jnp.zeros_like(position), position)
    return (high ^ low).reshape(shape)


def uniform(key: Array, shape: Shape) -> Float[Array, "..."]:
    """``jax.random.uniform(key, shape)``: float32 numbers in [0, 1), multiples of 2^-23."""
    # The bits become the mantissa of a number in [1, 2).
    one = np.float32(1.0).view(np.uint32)
    mantissa = (bits(key, shape) >> np.uint32(9)) | one
    return jax.lax.bitcast_convert_type(mantissa, jnp.float32) - np.float32(1.0)


def normal(key: Array, shape: Shape) -> Float[Array, "..."]:
    """``jax.random.normal(key, shape)``: standard normal float32 numbers."""
    low = np.nextafter(np.float32(-1.0), np.float32(0.0))
    centered = uniform(key, shape) * (np.float32(1.0) - low) + low
    return np.float32(np.sqrt(2)) * jax.lax.erf_inv(jnp.maximum(low, centered))


def once(draw: Callable[[Key, Shape], Array], key: Key, shape: Shape) -> Array:
    """``draw(key, shape)``, computed a single time where several kernels read it.

    XLA on a CPU takes the rounds for cheap and repeats them in every kernel that needs the draw;
    the body of a call that is not to be inlined is compiled by itself. With a single reader that
    is a detour through memory, so it is for draws that have several.
    """
    if jax.default_backend() != "cpu":
        return draw(key, shape)
    with set_xla_metadata(inlineable="false"):
        return _apart(draw, key, shape)


@partial(jax.jit, static_argnums=(0, 2))
def _apart(draw: Callable[[Key, Shape], Array], key: Key, shape: Shape) -> Array:
    return draw(key, shape)


def hash_words(
    first: UInt32[Array, ""],
    second: UInt32[Array, ""],
    high: UInt32[Array, "..."],
    low: UInt32[Array, "..."],
) -> tuple[UInt32[Array, "..."], UInt32[Array, "..."]]:
    """Threefry-2x32 with 20 rounds: the key (first, second) picks a permutation of (high, low)."""
    schedule = (first, second, first ^ second ^ PARITY)
    high, low = high + first, low + second
    for block in range(5):
        for turn in ROTATIONS[block % 2]:
            high = high + low
            low = (low << np.uint32(turn)) | (low >> np.uint32(32 - turn))
            low = high ^ low
        high = high + schedule[(block + 1) % 3]
        low = low + schedule[(block + 2) % 3] + np.uint32(block + 1)
    return high, low


def _is_default(key: Array) -> bool:
    # An option that jax 0.11 no longer has: the layout is what it was by default.
    partitionable = bool(getattr(jax.config, "jax_threefry_partitionable", True))
    return jax.random.key_impl(key) == "threefry2x32" and partitionable
