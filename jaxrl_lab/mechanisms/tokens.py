"""Choosing tokens inside a loss, at fixed shape and without a sort."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float, Int

from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Outputs, masked_mean


def check_share(fraction: float) -> None:
    """Refuse a fraction of the tokens that is none."""
    for f in (lowest(fraction), highest(fraction)):
        expect(0 <= f <= 1, "fraction", f, "a share of the tokens in [0, 1]")


def token_covariance(out: Outputs, batch: Batch) -> Float[Array, "B G T"]:
    """(A - mean A)(logp - mean logp) with means over all valid tokens; detached.

    Its mean is the batch estimate of Cov(A, log pi), minus the first-order entropy change per
    unit of natural-gradient step (arXiv 2505.22617).
    """
    assert batch.advantage is not None
    logp = jax.lax.stop_gradient(out.logp)
    centered_advantage = batch.advantage - masked_mean(batch.advantage, batch.mask)
    return centered_advantage * (logp - masked_mean(logp, batch.mask))


def top_k_mask(
    score: Float[Array, "..."], k: Int[Array, ""], among: Bool[Array, "..."]
) -> Bool[Array, "..."]:
    """Exactly min(k, number of candidates) candidates with the largest scores; ties by index."""
    code = jnp.where(among, _ordered_code(score), 0).reshape(-1)
    k = jnp.minimum(k.astype(jnp.int32), jnp.sum(among, dtype=jnp.int32))
    kth = _kth_largest(code, k)
    above, tied = code > kth, code == kth
    room = k - jnp.sum(above, dtype=jnp.int32)
    chosen = above | (tied & (jnp.cumsum(tied, dtype=jnp.int32) <= room))
    return (chosen & (k > 0)).reshape(among.shape) & among


def quantile(
    x: Float[Array, "..."], level: Float[Array, ""], among: Bool[Array, "..."]
) -> Float[Array, ""]:
    """The smallest candidate value that at least ``level`` of the candidates do not exceed.

    -inf where there is no candidate.
    """
    total = jnp.sum(among, dtype=jnp.int32)
    k = jnp.maximum(jnp.ceil(level * total.astype(jnp.float32)), 1.0).astype(jnp.int32)
    # The k-th smallest of n is the (n - k + 1)-th largest.
    code = jnp.where(among, _ordered_code(x), 0).reshape(-1)
    return jnp.where(total > 0, _value_of(_kth_largest(code, total - k + 1)), -jnp.inf)


def _kth_largest(code: Int[Array, "n"], k: Int[Array, ""]) -> Int[Array, ""]:
    """The largest threshold that at least k codes reach; k is traced.

    A radix select: 32 counting passes, several times cheaper than a sort and exact. Counts are
    floating-point sums, which vectorize better than integer ones and are exact below 2^24 codes.
    """
    wanted = k.astype(jnp.float32)

    def set_bit(i: Array, threshold: Array) -> Array:
        trial = threshold | (jnp.uint32(1) << (jnp.uint32(31) - jnp.uint32(i)))
        count = jnp.sum((code >= trial).astype(jnp.float32))
        return jnp.where(count >= wanted, trial, threshold)

    return jax.lax.fori_loop(0, 32, set_bit, jnp.uint32(0))


def _ordered_code(x: Float[Array, "..."]) -> Int[Array, "..."]:
    """uint32 codes in the order of the floats (negative floats have their bits reversed)."""
    x = jnp.where(x == 0, 0.0, x.astype(jnp.float32))  # -0.0 ties with 0.0
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    negative = bits >> jnp.uint32(31) == jnp.uint32(1)
    return jnp.where(negative, ~bits, bits | jnp.uint32(0x80000000))


def _value_of(code: Int[Array, "..."]) -> Float[Array, "..."]:
    """The floats that have these codes: the inverse of :func:`_ordered_code`."""
    negative = code < jnp.uint32(0x80000000)
    bits = jnp.where(negative, ~code, code & jnp.uint32(0x7FFFFFFF))
    return jax.lax.bitcast_convert_type(bits, jnp.float32)
