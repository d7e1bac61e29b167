"""Counts of pulls and successes, what a bandit's history boils down to: numbered and packed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import comb

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, UInt32

from jaxrl_envs.tabular import TabularMDP

MOST_STATES = 2**31 - 1
"""A vector of counts must have an int32 number."""


def how_many(entries: int, total: int) -> int:
    """How many vectors of ``entries`` counts add up to at most ``total``: C(total + m, m)."""
    return comb(total + entries, entries)


@cache
def binomials(entries: int, total: int) -> np.ndarray:
    """``table[j, d] = C(d + j, j + 1)``. Cached: a constant of every program that uses it."""
    table = [[comb(d + j, j + 1) for d in range(total + 1)] for j in range(entries)]
    return np.array(table, np.int32)


def rank(counts: Int[Array, "... m"], total: int) -> Int[Array, "..."]:
    """The number of a vector of m counts that add up to at most ``total``.

    Σ_j C(d_j + j - 1, j) with d_j = c_1 + … + c_j (the combinatorial number system): a bijection
    onto 0 .. C(total + m, m) - 1, sorted by the sum, so the counts of each clock are contiguous.
    """
    sums = jnp.cumsum(counts.astype(jnp.int32), axis=-1)
    m = counts.shape[-1]
    return jnp.sum(jnp.asarray(binomials(m, total))[jnp.arange(m), sums], axis=-1, dtype=jnp.int32)


def every_count(entries: int, total: int) -> np.ndarray:
    """All vectors of ``entries`` counts that add up to at most ``total``, in order of rank."""
    table = binomials(entries, total)
    left = np.arange(how_many(entries, total))
    sums = np.zeros((len(left), entries + 1), np.int32)
    for j in range(entries - 1, -1, -1):
        sums[:, j + 1] = np.searchsorted(table[j], left, side="right") - 1
        left = left - table[j, sums[:, j + 1]]
    return np.diff(sums, axis=1)


@dataclass(frozen=True)
class Packing:
    """K arms' counters side by side in 32-bit words: one addition counts a pull.

    An arm has ``fields`` counters (pulls; and successes where there are two) of 8 bits, or 16 where
    a counter may pass 255. Two Bernoulli arms with T ≤ 255 are one word, whose update takes a
    fraction of the time of four bytes in arrays ``[K]``.
    """

    arms: int
    fields: int
    total: int

    @property
    def bits(self) -> int:
        return 8 if self.total <= 255 else 16

    @property
    def _shifts(self) -> UInt32[Array, "f"]:
        return jnp.arange(0, 32, self.bits, dtype=jnp.uint32)

    @property
    def words(self) -> int:
        return -(-self.arms * self.fields * self.bits // 32)

    def add(
        self, words: UInt32[Array, "W"], arm: Int[Array, ""], success: UInt32[Array, ""] | None
    ) -> UInt32[Array, "W"]:
        """Count one pull of ``arm`` (and its success, 0 or 1, where there are two fields)."""
        one = jnp.uint32(1) if success is None else 1 + (success << self.bits)
        place = arm.astype(jnp.uint32) * (self.fields * self.bits)
        here = jnp.arange(self.words, dtype=jnp.uint32) == place // 32
        return words + jnp.where(here, one << (place % 32), jnp.uint32(0))

    def unpack(self, words: UInt32[Array, "W"]) -> Int[Array, "K f"]:
        """Pulls, and successes where they are counted, of each arm."""
        entries = (words[:, None] >> self._shifts[None, :]) & (2**self.bits - 1)
        entries = entries.reshape(-1)[: self.arms * self.fields]
        return entries.reshape(self.arms, self.fields).astype(jnp.int32)

    def pulls(self, words: UInt32[Array, "W"]) -> Int[Array, ""]:
        """How many pulls were counted, over all arms."""
        each = [(words >> s) & (2**self.bits - 1) for s in range(0, 32, self.bits * self.fields)]
        return jnp.sum(sum(each[1:], each[0]), dtype=jnp.uint32).astype(jnp.int32)


def bernoulli_table(mean: Float[Array, "K"], horizon: int) -> TabularMDP:
    """T pulls of Bernoulli arms of these means: states are all counts, in order of rank.

    The counts that add up to T are terminal; they show the last row of the others.
    """
    entries = 2 * mean.shape[0]
    counts = every_count(entries, horizon)
    size, running = len(counts), counts.sum(axis=1) < horizon
    grown = counts[:, None, :] + np.eye(entries, dtype=np.int32)
    grown = np.where(running[:, None, None], grown, counts[:, None, :])
    sums = np.cumsum(grown, axis=2)
    ahead = binomials(entries, horizon)[np.arange(entries), sums].sum(axis=2)
    to = jax.nn.one_hot(ahead.reshape(size, -1, 2), size)
    chance = jnp.stack([1.0 - mean, mean], axis=1)
    return TabularMDP(
        reward=jnp.where(running[:, None], mean, 0.0),
        start=jax.nn.one_hot(0, size),
        terminal=jnp.asarray(~running),
        row=jnp.minimum(jnp.arange(size), how_many(entries, horizon - 1) - 1),
        P=jnp.einsum("ko,skot->skt", chance, to),
        horizon=horizon,
    )
