"""Slot ``advantage``: advantages reshaped by how sure the collecting policy was.

``(batch, ctx) -> Batch``. Each takes the advantages of the mechanism before it, such as
``group_normalized``, and reads the policy that collected the batch from ``ctx.passes``.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.policies.distributions import Categorical
from jaxrl_lab.types import Batch, Context, masked_mean


@mechanism
class DCPO:
    """A ← (1 - α) A + α c ϱ: right answers are imitated as a hotter or colder self would give them.

    c = 1 where the return exceeds ``threshold``; ϱ = π_T(a)/π_old(a), π_T ∝ π_old^(1/T), so that
    E_π[c ϱ ∇log π] = E_(π_T)[c ∇log π] without a sample from π_T. T = ``hot`` while the entropy
    estimate Ĥ of the previous update (mean of -log π_old over sampled tokens, 0 before the first)
    is at most ``target``, else ``cold``. With g = min(|target - Ĥ|, cap) and p the share of
    right rollouts of the batch, α = (g/p)/(1 + g/p) = g/(g + p) < 1; 0 where nothing is right.

    Source: DCPO, arXiv 2601.12730 and its public code (target 0.5 there, 0.25 best in the paper).
    """

    target: float = 0.5
    hot: float = 1.2
    cold: float = 0.8
    cap: float = 0.1
    threshold: float = 0.05

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = (
        "A ← (1−α)·A + α·1[R > {threshold}]·π_T/π_old, "
        "T = {hot} if H ≤ {target} else {cold}, α/(1−α) ∝ min(|H − {target}|, {cap})"
    )

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "dcpo")
        for name in ("hot", "cold"):
            value = lowest(getattr(self, name))
            expect(value > 0, name, value, "a positive temperature")
        expect(lowest(self.cap) >= 0, "cap", lowest(self.cap), "0 or more")

    def init(self, spec: Spec) -> Float[Array, ""]:
        """Ĥ, the entropy estimate of the previous update."""
        return jnp.float32(0.0)

    def advance(
        self, memory: Float[Array, ""], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> Float[Array, ""]:
        assert batch.logp_old is not None
        return masked_mean(-batch.logp_old, batch.mask)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        temperature = jnp.where(ctx.memory <= self.target, self.hot, self.cold)
        tempered = Categorical.from_logits(ctx.passes[OLD].dist.logp_all / temperature)
        ratio = jnp.exp(tempered.logp(batch.action) - batch.logp_old)
        right = ((batch.returns > self.threshold) & batch.valid).astype(jnp.float32)
        share = masked_mean(right, batch.valid)
        gap = jnp.minimum(jnp.abs(self.target - ctx.memory), self.cap)
        alpha = jnp.where(share > 0, gap / jnp.where(share > 0, gap + share, 1.0), 0.0)
        mixed = (1.0 - alpha) * batch.advantage + alpha * right[..., None] * ratio
        return replace(batch, advantage=jnp.where(batch.mask, mixed, 0.0))


@mechanism
class UCAS:
    """Sure successes count less, sure failures more, and likely tokens pay a small tax.

    Ĉ is the confidence of a rollout, standardized within its group. A ← A W, W = exp(-right · Ĉ)
    where A > 0 and exp(wrong · Ĉ) elsewhere. Then A ← A - tax · l, l the logit of the sampled
    action scaled to [0, 1] over the batch, and no A > 0 falls below 0.

    ``confidence`` of a rollout: ``certainty``, the sum of u_t = KL(uniform ‖ π_t) + log K over its
    tokens, as published, which grows with length because of log K; ``certainty_mean``; or
    ``logp``, Σ log π(a_t). In a one-step world all rollouts of a prompt have the same u, and only
    ``logp`` tells them apart. Logits are centered per state, since a policy here knows them up to
    a constant only.

    Source: UCAS, arXiv 2510.10649 and its public code.
    """

    right: float = 0.25
    wrong: float = 0.35
    tax: float = 0.05
    confidence: Literal["certainty", "certainty_mean", "logp"] = "certainty"

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = (
        "A ← A·exp(−{right}·Ĉ if A > 0 else {wrong}·Ĉ) − {tax}·logit, Ĉ from {confidence}"
    )

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "ucas")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        certainty = self_certainty(ctx.passes[OLD].dist.logp_all)
        per_token = batch.logp_old if self.confidence == "logp" else certainty
        confidence = jnp.sum(jnp.where(batch.mask, per_token, 0.0), axis=-1)
        if self.confidence == "certainty_mean":
            confidence = confidence / jnp.maximum(batch.lengths, 1.0)
        score = _standardized(EqualGroups(batch.valid), confidence)
        factor = jnp.where(batch.advantage > 0, -self.right, self.wrong) * score[..., None]
        shaped = batch.advantage * jnp.exp(factor)
        taxed = shaped - self.tax * _unit_scaled(batch.logp_old + certainty, batch)
        taxed = jnp.where(shaped > 0, jnp.maximum(taxed, 0.0), taxed)
        return replace(batch, advantage=jnp.where(batch.mask, taxed, 0.0))


@mechanism
class EntropyCapped:
    """A ← A + min(scale · h, |A| / cap): a push where the policy hesitates, never a change of sign.

    h is the entropy of the collecting policy at the token (``entropy``, the paper) or
    -π(a) log π(a) of the sampled action alone (``sampled``, the released code). A token without
    advantage gets none.

    Source: MSSR, arXiv 2512.18215 and its public code, after "Reasoning with Exploration"
    (arXiv 2506.14758).
    """

    scale: float = 0.4
    cap: float = 2.0
    bonus: Literal["entropy", "sampled"] = "entropy"

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = "A ← A + min({scale}·h, |A|/{cap}), h = {bonus}"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.scale) >= 0, "scale", lowest(self.scale), "0 or more")
        expect(lowest(self.cap) > 1, "cap", lowest(self.cap), "more than 1, or A changes its sign")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        h = -jnp.exp(batch.logp_old) * batch.logp_old
        if self.bonus == "entropy":
            h = ctx.passes[OLD].dist.entropy()
        pushed = batch.advantage + jnp.minimum(self.scale * h, jnp.abs(batch.advantage) / self.cap)
        return replace(batch, advantage=jnp.where(batch.mask, pushed, 0.0))


def self_certainty(logp_all: Float[Array, "... K"]) -> Float[Array, "..."]:
    """u = logsumexp(z) - mean z = KL(uniform ‖ π) + log K: high for a peaked distribution."""
    return -jnp.mean(logp_all, axis=-1)


def _standardized(groups: EqualGroups, x: Float[Array, "B G"]) -> Float[Array, "B G"]:
    """(x - group mean) / (group std + 1e-6), exactly 0 where all are alike."""
    centered = x - group_statistics.mean(groups, x)
    score = centered / (group_statistics.std(groups, x) + 1e-6)
    return jnp.where(group_statistics.is_informative(groups, x), score, 0.0)


def _unit_scaled(x: Float[Array, "B G T"], batch: Batch) -> Float[Array, "B G T"]:
    """x scaled to [0, 1] over the real tokens; 0.5 where it is constant."""
    small = jnp.min(jnp.where(batch.mask, x, jnp.inf))
    large = jnp.max(jnp.where(batch.mask, x, -jnp.inf))
    varies = large > small
    scaled = jnp.clip((x - small) / jnp.where(varies, large - small, 1.0), 0.0, 1.0)
    return jnp.where(varies, scaled, 0.5)
