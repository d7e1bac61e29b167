"""Slot ``regularizer``: what is subtracted. ``(out, batch, aux, ctx) -> [B, G, T]`` or a scalar.

The result is a penalty, its coefficient included: a per-token one is aggregated like the
objective, a scalar is subtracted after the aggregation.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.tokens import check_share, token_covariance, top_k_mask
from jaxrl_lab.types import Batch, Context, Outputs


@mechanism
class EntropyBonus:
    """-coefficient · H(pi(.|s_t)), with gradient through H: dH/dz_a = -pi_a (log pi_a + H)."""

    coefficient: float

    formula: ClassVar[str] = "−{coefficient}·H(π)"

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        return -self.coefficient * out.dist.entropy()


@mechanism
class KLCov:
    """coefficient · |logp - logp_old| on the share of valid tokens with the highest covariance.

    cov = (A - mean A)(logp - mean logp), detached; n = max(1, floor(fraction · tokens)). The
    paper writes a KL to the old policy, its code the absolute log-ratio, which is what is here.
    Its gradient is zero at ρ = 1: the first of several inner updates is the plain surrogate, and
    with a single inner update the mechanism is inert. The published fractions (2e-4 to 2e-3)
    select one token or none at toy scale: rescale them.

    Source: arXiv 2505.22617 and its public code.
    """

    fraction: float = 2e-3
    coefficient: float = 1.0

    formula: ClassVar[str] = "{coefficient}·|log ρ| on the top {fraction} of cov(A, log π)"

    def check(self, spec: Spec) -> None:
        check_share(self.fraction)

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        assert batch.logp_old is not None
        cov = token_covariance(out, batch)
        tokens = jnp.sum(batch.mask, dtype=jnp.float32)
        n = jnp.maximum(jnp.floor(self.fraction * tokens), 1.0)
        n = jnp.where(self.fraction > 0, n, 0.0).astype(jnp.int32)
        chosen = top_k_mask(cov, n, batch.mask)
        log_ratio = out.logp - batch.logp_old
        # Not jnp.abs, whose derivative at 0 is 1 in JAX (0 in the paper's code).
        return jnp.where(chosen, self.coefficient * log_ratio * jnp.sign(log_ratio), 0.0)


@mechanism
class KLToReference:
    """coefficient · KL(pi ‖ pi_ref), by an estimator at the sampled token or exactly.

    With d = log pi_ref(a) - log pi(a): k1 = -d, k2 = d²/2, k3 = e^d - d - 1; ``exact`` sums over
    all actions. k1 and k3 are unbiased as values; as losses the expected gradient of k2 is the
    KL gradient, that of k1 is zero on-policy and that of k3 is the gradient of the opposite
    divergence KL(pi_ref ‖ pi) on-policy (d k3 / d logp = 1 - e^d).

    Source: Schulman, "Approximating KL divergence" (2020); GRPO, arXiv 2402.03300 (k3).
    """

    coefficient: float
    estimator: Literal["k1", "k2", "k3", "exact"] = "k3"
    tree: str = "reference"

    formula: ClassVar[str] = "{coefficient}·KL_{estimator}(π ‖ π_{tree})"

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        reference = out.passes[self.tree].dist
        if self.estimator == "exact":
            logp_all = out.dist.logp_all
            kl = jnp.sum(jnp.exp(logp_all) * (logp_all - reference.logp_all), axis=-1)
        else:
            d = reference.logp(batch.action) - out.logp
            kl = {"k1": -d, "k2": 0.5 * d**2, "k3": jnp.exp(d) - d - 1.0}[self.estimator]
        return self.coefficient * kl


@mechanism
class ValueLoss:
    """coefficient / 2 · (V - target)², optionally with the value clipped around its old self.

    With ``clip`` = c the larger of the losses at V and at V_old + clip(V - V_old, ±c) is taken.

    Source: PPO, arXiv 1707.06347, and its reference implementation (value clipping).
    """

    coefficient: float = 0.5
    clip: float | None = None

    needs: ClassVar[frozenset[str]] = frozenset({"value"})
    formula: ClassVar[str] = "{coefficient}·½(V − target)²"

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        value, target = out.policy.value, batch.target
        assert value is not None
        assert target is not None
        loss = (value - target) ** 2
        if self.clip is not None:
            assert batch.value is not None
            near = batch.value + jnp.clip(value - batch.value, -self.clip, self.clip)
            loss = jnp.maximum(loss, (near - target) ** 2)
        return 0.5 * self.coefficient * loss
