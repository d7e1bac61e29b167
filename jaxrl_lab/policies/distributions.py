"""Categorical distributions: one over explicit logits, one that looks rows up in a table."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def entropy_of(logp_all: Float[Array, "... K"]) -> Float[Array, "..."]:
    """-sum_a p log p, with 0 log 0 = 0."""
    return -jnp.sum(jnp.exp(logp_all) * jnp.where(jnp.isfinite(logp_all), logp_all, 0.0), axis=-1)


def cumulated(p: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """Sums of the first 1, 2, …, K entries.

    One after the other on a CPU, where ``jnp.cumsum`` takes log K passes over memory and up to
    four times as long. (A product with a triangular matrix is as fast, but its rounding depends
    on the number of rows, so that a seed's result would depend on its company.)
    """
    if jax.default_backend() != "cpu":
        return jnp.cumsum(p, axis=-1)

    def add(total: Array, x: Array) -> tuple[Array, Array]:
        return total + x, total + x

    _, sums = jax.lax.scan(add, jnp.zeros_like(p[..., 0]), jnp.moveaxis(p, -1, 0))
    return jnp.moveaxis(sums, 0, -1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Categorical:
    """Normalized log-probabilities ``[..., K]``."""

    logp_all: Float[Array, "... K"]

    @classmethod
    def from_logits(cls, logits: Float[Array, "... K"]) -> Categorical:
        return cls(jax.nn.log_softmax(logits, axis=-1))

    def logp(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        index = action[..., None].astype(jnp.int32)
        return jnp.take_along_axis(self.logp_all, index, axis=-1)[..., 0]

    def entropy(self) -> Float[Array, "..."]:
        return entropy_of(self.logp_all)

    def sample(self, u: Float[Array, "..."]) -> Int[Array, "..."]:
        cdf = cumulated(jnp.exp(self.logp_all))
        # Scaling by the last entry instead of 1 keeps rounding from ever selecting K.
        below = cdf <= u[..., None] * cdf[..., -1:]
        last = self.logp_all.shape[-1] - 1
        return jnp.minimum(jnp.sum(below, axis=-1, dtype=jnp.int32), last)

    def take(self, index: Int[Array, "b"]) -> Categorical:
        return Categorical(self.logp_all[index])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class TableCategorical:
    """Rows of a table of log-probabilities: ``table[R, K]``, ``row[...]``.

    The table is normalized once, before any row is gathered; repeating the softmax per rollout
    would cost as many times more as there are rollouts per row.
    """

    table: Float[Array, "R K"]
    row: Int[Array, "..."]

    @property
    def logp_all(self) -> Float[Array, "... K"]:
        return self.table[self.row]

    def logp(self, action: Int[Array, "..."]) -> Float[Array, "..."]:
        return self.table[self.row, action]

    def entropy(self) -> Float[Array, "..."]:
        return entropy_of(self.table)[self.row]

    def sample(self, u: Float[Array, "..."]) -> Int[Array, "..."]:
        """Binary search in the cumulated row: log2(K) gathers per choice instead of K reads."""
        num_actions = self.table.shape[-1]
        cdf = cumulated(jnp.exp(self.table))
        start = self.row.astype(jnp.int32) * num_actions
        flat = cdf.reshape(-1)
        u = u * flat[start + num_actions - 1]
        found = jnp.zeros(self.row.shape, jnp.int32)
        for step in _halving_steps(num_actions):
            probe = jnp.minimum(found + step, num_actions) - 1
            right = (flat[start + probe] <= u) & (found + step <= num_actions)
            found = jnp.where(right, found + step, found)
        return jnp.minimum(found, num_actions - 1)

    def take(self, index: Int[Array, "b"]) -> TableCategorical:
        return TableCategorical(self.table, self.row[index])


def _halving_steps(n: int) -> list[int]:
    return [1 << bit for bit in reversed(range(n.bit_length()))]
