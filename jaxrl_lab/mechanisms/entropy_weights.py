"""Slot ``weight``: tokens weighted by how far each of them alone would move the entropy.

``(out, batch, aux, ctx) -> [B, G, T]``, detached. The extremes of the score are those of the
batch that the loss sees (a minibatch where there are several), as in the public code.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax.numpy as jnp
from jaxrl_envs import threefry
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio

Score = Literal["published", "one_sample"]


def entropy_score(out: Outputs, batch: Batch, score: Score) -> Float[Array, "B G T"]:
    """How much the entropy at a token would change if only this token were learned from.

    ``published``: Ω = ρ A (1 - π)(log π + H), π = π(a_t). Learning from the token moves its own
    logit by η ρ A (1 - π), which changes H by -η π Ω: the published score leaves the factor π out
    and with it ranks rare tokens too high.
    ``one_sample``: the first-order change with the other logits moved too, without the step:
    -ρ A [π (log π + H) - Σ_b π_b² (log π_b + H)].

    Source: arXiv 2510.10150; the second form from arXiv 2505.22617.
    """
    assert batch.advantage is not None
    assert batch.logp_old is not None
    weight = importance_ratio(out.logp, batch.logp_old) * batch.advantage
    entropy, p = out.dist.entropy(), jnp.exp(out.logp)
    if score == "published":
        return weight * (1.0 - p) * (out.logp + entropy)
    logp_all = jnp.maximum(out.dist.logp_all, jnp.finfo(jnp.float32).min)
    surprise = jnp.exp(2.0 * logp_all) * (logp_all + entropy[..., None])
    return -weight * (p * (out.logp + entropy) - jnp.sum(surprise, axis=-1))


def _extremes(
    u: Float[Array, "B G T"], mask: Bool[Array, "B G T"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Smallest and largest entry of real tokens."""
    return jnp.min(jnp.where(mask, u, jnp.inf)), jnp.max(jnp.where(mask, u, -jnp.inf))


def _dealt(
    x: Float[Array, "B G T"], mask: Bool[Array, "B G T"], key: Array
) -> Float[Array, "B G T"]:
    """The entries of real tokens dealt to each other in random order; others stay."""
    real = mask.reshape(-1)
    lottery = threefry.uniform(key, real.shape)
    # Real tokens first in both orders: one by place, one by lot.
    places = jnp.argsort(~real, stable=True)
    drawn = jnp.argsort(jnp.where(real, lottery, jnp.inf), stable=True)
    dealt = jnp.zeros_like(x.reshape(-1)).at[places].set(x.reshape(-1)[drawn])
    return jnp.where(mask, dealt.reshape(x.shape), x)


@mechanism
class Steer:
    """Weight falls linearly from ``high`` to ``low`` as the entropy change grows.

    u = |Ω| of :func:`entropy_score`; λ = high - (u - min u)/(max u - min u) · (high - low),
    extremes over the real tokens; the middle of the interval where u is constant. The published
    interval [0.8, 1.2] hardly differs from no weights at toy scale.
    ``shuffle`` is the control: the same weights, dealt to random tokens.

    Source: STEER, arXiv 2510.10150 and its public code.
    """

    low: float = 0.8
    high: float = 1.2
    score: Score = "published"
    shuffle: bool = False

    formula: ClassVar[str] = "λ(|Ω|) from {high} down to {low}, linear in |{score} ΔH|"

    def check(self, spec: Spec) -> None:
        top = lowest(self.high)
        expect(lowest(self.low) >= 0, "low", lowest(self.low), "a weight of 0 or more")
        expect(highest(self.low) <= top, "low", highest(self.low), f"at most high = {top:g}")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        u = jnp.abs(entropy_score(out, batch, self.score))
        small, large = _extremes(u, batch.mask)
        varies = large > small
        share = jnp.where(varies, (u - small) / jnp.where(varies, large - small, 1.0), 0.5)
        weight = self.high - jnp.clip(share, 0.0, 1.0) * (self.high - self.low)
        return _dealt(weight, batch.mask, ctx.key) if self.shuffle else weight


@mechanism
class SteerExponential:
    """Weight λ = exp(-κ |Ω|), κ = -log(low) / max(max |Ω|, floor), clipped to [low, 1].

    The token that would move the entropy most has weight ``low``, unless even that one stays
    below ``floor``.

    Source: STEER, arXiv 2510.10150 and its public code.
    """

    low: float = 0.8
    floor: float = 0.02
    score: Score = "published"

    formula: ClassVar[str] = "exp(−κ|Ω|), κ = −log {low}/max(max|Ω|, {floor})"

    def check(self, spec: Spec) -> None:
        low, high = lowest(self.low), highest(self.low)
        expect(0 < low <= high <= 1, "low", low, "a weight above 0 and at most 1")
        expect(lowest(self.floor) > 0, "floor", lowest(self.floor), "a positive score")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        u = jnp.abs(entropy_score(out, batch, self.score))
        rate = -jnp.log(self.low) / jnp.maximum(_extremes(u, batch.mask)[1], self.floor)
        return jnp.clip(jnp.exp(-rate * u), self.low, 1.0)
