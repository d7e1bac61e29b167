"""Statistics of groups of rollouts: equal groups by reshape, ragged ones by segments.

Both classes answer the same questions, broadcast back to the shape of the rollouts, so that an
advantage is written once for either. Rollouts that are not valid do not count.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


class Groups(Protocol):
    """Group statistics, each broadcast back to one number per rollout."""

    def count(self) -> Float[Array, "..."]:
        """Valid rollouts in the group."""
        ...

    def sum(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Sum over the valid rollouts of the group."""
        ...

    def max(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Largest ``x`` among the valid rollouts; -inf in a group without any."""
        ...

    def rank(self, x: Float[Array, "..."]) -> Float[Array, "..."]:
        """Number of valid rollouts of the group with a smaller ``x``, ties counting half."""
        ...


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EqualGroups:
    """Groups laid out as rows of ``[B, G]``."""

    valid: Bool[Array, "B G"]

    def count(self) -> Float[Array, "B G"]:
        return self.sum(jnp.ones(self.valid.shape))

    def sum(self, x: Float[Array, "B G"]) -> Float[Array, "B G"]:
        total = jnp.sum(jnp.where(self.valid, x, 0.0), axis=-1, keepdims=True)
        return jnp.broadcast_to(total, x.shape)

    def max(self, x: Float[Array, "B G"]) -> Float[Array, "B G"]:
        top = jnp.max(jnp.where(self.valid, x, -jnp.inf), axis=-1, keepdims=True)
        return jnp.broadcast_to(top, x.shape)

    def rank(self, x: Float[Array, "B G"]) -> Float[Array, "B G"]:
        return _rank(x, self.valid, self.valid[:, None, :])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class RaggedGroups:
    """Groups of any size: rollout i belongs to group ``ids[i]`` of ``num_groups``."""

    ids: Int[Array, "N"]
    valid: Bool[Array, "N"]
    num_groups: int = field(metadata={"static": True})

    def count(self) -> Float[Array, "N"]:
        return self.sum(jnp.ones(self.ids.shape))

    def sum(self, x: Float[Array, "N"]) -> Float[Array, "N"]:
        x = jnp.where(self.valid, x, 0.0)
        return jax.ops.segment_sum(x, self.ids, self.num_groups)[self.ids]

    def max(self, x: Float[Array, "N"]) -> Float[Array, "N"]:
        x = jnp.where(self.valid, x, -jnp.inf)
        return jax.ops.segment_max(x, self.ids, self.num_groups)[self.ids]

    def rank(self, x: Float[Array, "N"]) -> Float[Array, "N"]:
        same = self.ids[:, None] == self.ids[None, :]
        return _rank(x, self.valid, same & self.valid[None, :])


def _rank(x: Array, valid: Array, counts: Array) -> Array:
    below = (x[..., None, :] < x[..., :, None]) & counts
    equal = (x[..., None, :] == x[..., :, None]) & counts
    itself = jnp.where(valid, 0.5, 0.0)  # a rollout that counts ties with itself once
    return jnp.sum(below, -1, dtype=x.dtype) + 0.5 * jnp.sum(equal, -1, dtype=x.dtype) - itself


def mean(groups: Groups, x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Group mean; 0 for a group without valid rollouts."""
    return groups.sum(x) / jnp.maximum(groups.count(), 1.0)


def std(groups: Groups, x: Float[Array, "..."], ddof: int = 1) -> Float[Array, "..."]:
    """Group standard deviation with divisor ``count - ddof``; 0 where that is not positive."""
    centered = x - mean(groups, x)
    freedom = groups.count() - ddof
    variance = groups.sum(centered**2) / jnp.maximum(freedom, 1.0)
    return jnp.sqrt(jnp.where(freedom > 0, variance, 0.0))


def is_informative(groups: Groups, x: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Whether the valid rollouts of the group do not all have the same ``x``."""
    return groups.max(x) > -groups.max(-x)
