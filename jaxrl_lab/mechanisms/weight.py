"""Slot ``weight``: a factor per token. ``(out, batch, aux, ctx) -> [B, G, T]``, detached."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxrl_envs import threefry
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.mechanisms.tokens import check_share, quantile, token_covariance, top_k_mask
from jaxrl_lab.types import Batch, Context, Outputs


@mechanism
class ClipCov:
    """Drop the gradient of a few tokens with a high covariance of advantage and log-probability.

    cov = (A - mean A)(logp - mean logp). Candidates are valid, unclipped tokens with cov in
    (low, high); n = max(1, floor(fraction · tokens)) of them, drawn uniformly, get weight 0
    (all of them where there are fewer).

    The published band (1, 5) and fraction 2e-4 belong to large vocabularies and batches of 10^5
    tokens; at 512 tokens they select almost none. ``band="quantile"`` reads ``low`` and ``high``
    as quantile levels of cov over the valid tokens instead.

    Source: arXiv 2505.22617 and its public code.
    """

    fraction: float = 2e-4
    low: float = 1.0
    high: float = 5.0
    band: Literal["absolute", "quantile"] = "absolute"

    formula: ClassVar[str] = (
        "0 on {fraction} of the tokens, drawn where cov(A, log π) ∈ ({low}, {high}) {band}"
    )

    def check(self, spec: Spec) -> None:
        check_share(self.fraction)
        top = lowest(self.high)
        expect(highest(self.low) <= top, "low", highest(self.low), f"at most high = {top:g}")
        if self.band == "quantile":
            expect(lowest(self.low) >= 0, "low", lowest(self.low), "a quantile level in [0, 1]")
            expect(
                highest(self.high) <= 1, "high", highest(self.high), "a quantile level in [0, 1]"
            )

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        cov = token_covariance(out, batch)
        low, high = jnp.asarray(self.low), jnp.asarray(self.high)
        if self.band == "quantile":
            low, high = (quantile(cov, level, batch.mask) for level in (low, high))
            inside = (cov >= low) & (cov <= high)
        else:
            inside = (cov > low) & (cov < high)
        candidates = inside & batch.mask & ~aux["clipped"]
        n = jnp.maximum(jnp.floor(self.fraction * jnp.sum(batch.mask, dtype=jnp.float32)), 1.0)
        lottery = threefry.uniform(ctx.key, cov.shape)
        dropped = top_k_mask(lottery, n.astype(jnp.int32), candidates)
        return 1.0 - dropped.astype(jnp.float32)


@mechanism
class RandomDrop:
    """Drop the gradient of a random share of the tokens: the control of :class:`ClipCov`."""

    fraction: float

    formula: ClassVar[str] = "0 on a random {fraction} of the tokens"

    def check(self, spec: Spec) -> None:
        check_share(self.fraction)

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        n = jnp.floor(self.fraction * jnp.sum(batch.mask, dtype=jnp.float32)).astype(jnp.int32)
        lottery = threefry.uniform(ctx.key, batch.mask.shape)
        return 1.0 - top_k_mask(lottery, n, batch.mask).astype(jnp.float32)
