"""Slot ``aggregate``: from tokens to one number. ``(per_token, mask) -> scalar``."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import masked_mean


def _responses(mask: Bool[Array, "B G T"]) -> Float[Array, ""]:
    """Number of responses with at least one token."""
    return jnp.maximum(jnp.sum(jnp.any(mask, axis=-1), dtype=jnp.float32), 1.0)


@mechanism
class TokenMean:
    """Mean over all tokens of the batch: every token weighs the same (DAPO, CISPO)."""

    formula: ClassVar[str] = "mean_tokens"

    def __call__(
        self, per_token: Float[Array, "B G T"], mask: Bool[Array, "B G T"]
    ) -> Float[Array, ""]:
        return masked_mean(per_token, mask)


@mechanism
class SequenceMean:
    """Mean over responses of the mean over their tokens: every response weighs the same (GRPO)."""

    formula: ClassVar[str] = "mean_responses mean_tokens"

    def __call__(
        self, per_token: Float[Array, "B G T"], mask: Bool[Array, "B G T"]
    ) -> Float[Array, ""]:
        length = jnp.maximum(jnp.sum(mask, axis=-1, dtype=jnp.float32), 1.0)
        mean = jnp.sum(jnp.where(mask, per_token, 0.0), axis=-1) / length
        return jnp.sum(mean) / _responses(mask)


@mechanism
class SequenceSum:
    """Mean over responses of the sum over their tokens: the policy gradient's own weighting.

    The default of an empty slot.
    """

    formula: ClassVar[str] = "mean_responses Σ_tokens"

    def __call__(
        self, per_token: Float[Array, "B G T"], mask: Bool[Array, "B G T"]
    ) -> Float[Array, ""]:
        return jnp.sum(jnp.where(mask, per_token, 0.0)) / _responses(mask)


@mechanism
class ConstantLength:
    """Sum over tokens divided by (number of responses · length).

    One public library divides by the length only; this is the convention of the paper.

    Source: Dr.GRPO, arXiv 2503.20783.
    """

    length: float

    formula: ClassVar[str] = "1/(N·{length}) Σ"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.length) > 0, "length", lowest(self.length), "a positive length")

    def __call__(
        self, per_token: Float[Array, "B G T"], mask: Bool[Array, "B G T"]
    ) -> Float[Array, ""]:
        return jnp.sum(jnp.where(mask, per_token, 0.0)) / (_responses(mask) * self.length)
