"""Slot ``advantage``: shape an advantage so that unusual right answers gain from it.

Chained after the mechanism that makes the advantage. Right means a positive return. What a
rollout's own likelihood is, the policy that collected the batch says.
"""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.advantage import of_rollout, per_rollout
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.mechanisms.tokens import check_share
from jaxrl_lab.types import Batch, Context


def _check_shaping(spec: Spec, name: str) -> None:
    needs_episodes(spec, name)
    expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
    given = len(spec.recipe.advantage) > 1
    expect(given, "recipe.advantage", name, f"a group advantage before {name}, which shapes it")


@mechanism
class Sharpened:
    """A_i += min(max(strength · (1 − η_i), 0), cap · A_i) for right rollouts.

    η_i = exp(s_i − mean over the group of s), s_i the mean log-probability of a token of rollout
    i: right answers that are less likely than the group's average gain, up to (1 + cap) · A_i.
    Wrong rollouts keep their advantage, so the sum over the group is no longer 0 and actions that
    were not sampled are pushed down. Nothing happens in a group of equal rewards (A = 0) or of
    equal likelihoods (η = 1).

    Source: XRPO, arXiv 2510.06672; the order of min and max is not certain.
    """

    strength: float = 2.5
    cap: float = 0.5

    formula: ClassVar[str] = (
        "A += min(max({strength}·(1 − η), 0), {cap}·A) if right, η = e^(s − mean s)"
    )

    def check(self, spec: Spec) -> None:
        _check_shaping(spec, "sharpened")
        for name in ("strength", "cap"):
            low = lowest(getattr(self, name))
            expect(low >= 0, name, low, "0 or more")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.logp_old is not None
        groups, plain = EqualGroups(batch.valid), of_rollout(batch)
        score = jnp.sum(jnp.where(batch.mask, batch.logp_old, 0.0), axis=-1)
        score = score / jnp.maximum(batch.lengths, 1.0)
        novelty = jnp.exp(score - group_statistics.mean(groups, score))
        room = self.cap * jnp.maximum(plain, 0.0)
        bonus = jnp.clip(self.strength * (1.0 - novelty), 0.0, room)
        return per_rollout(batch, plain + jnp.where(batch.returns > 0, bonus, 0.0))


@mechanism
class ConfidenceShaped:
    """A_i += strength · (mean over the group of c − c_i), in groups with a right rollout.

    c_i = exp(mean log-probability of the ``fraction`` least likely tokens of rollout i), at least
    one token. The published center is the confidence of the model in the prompt; a prompt that
    is not text has none, so the mean of the group stands in, which keeps Σ A as it was. Unlike the
    advantage itself the term does not vanish in a group that is all right, where it lowers what
    is likely.

    Source: ProGRPO, arXiv 2602.05281; the exponential form of c is not certain.
    """

    strength: float
    fraction: float = 0.2

    formula: ClassVar[str] = (
        "A += {strength}·(mean c − c), c = exp(mean log π of the lowest {fraction})"
    )

    def check(self, spec: Spec) -> None:
        _check_shaping(spec, "confidence_shaped")
        check_share(self.fraction)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.logp_old is not None
        groups = EqualGroups(batch.valid)
        # Real tokens in rising order, then the others.
        rising = jnp.sort(jnp.where(batch.mask, batch.logp_old, jnp.inf), axis=-1)
        count = jnp.maximum(jnp.ceil(self.fraction * batch.lengths), 1.0)[..., None]
        place = jnp.arange(rising.shape[-1], dtype=jnp.float32)[None, None, :]
        low = (place < count) & jnp.isfinite(rising)
        confidence = jnp.exp(jnp.sum(jnp.where(low, rising, 0.0), axis=-1) / count[..., 0])
        solved = groups.max(batch.returns) > 0
        shape = self.strength * (group_statistics.mean(groups, confidence) - confidence)
        return per_rollout(batch, of_rollout(batch) + jnp.where(solved, shape, 0.0))


@mechanism
class DiversityScaled:
    """A_i ← A_i · D_i / mean over the group of D, where A_i ≥ 0; worse rollouts keep theirs.

    D_i = 1 − cosine to the most similar other rollout of the group, of responses embedded as
    counts of their actions: in a world of one step 0 for a response that was drawn twice and 1
    for one that was drawn once. The factor is 1 where the mean of D is 0 (all rollouts have a
    twin).

    Source: GARDO, arXiv 2512.24138, its third part; there it follows R − mean R without division
    by a deviation. The gate on the KL and the moving reference are about overrated proxies.
    """

    formula: ClassVar[str] = "A ← A·D/mean D where A ≥ 0, D = 1 − cos to the nearest other rollout"

    def check(self, spec: Spec) -> None:
        _check_shaping(spec, "diversity_scaled")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        groups, plain = EqualGroups(batch.valid), of_rollout(batch)
        distance = _to_nearest(batch)
        mean = group_statistics.mean(groups, distance)
        factor = jnp.where(mean > 0, distance / jnp.where(mean > 0, mean, 1.0), 1.0)
        return per_rollout(batch, jnp.where(plain >= 0, plain * factor, plain))


def _to_nearest(batch: Batch) -> Float[Array, "B G"]:
    """1 − the largest cosine between a rollout's action counts and another's; 1 if alone."""
    own, other = batch.action[:, :, None, :, None], batch.action[:, None, :, None, :]
    real = batch.mask[:, :, None, :, None] & batch.mask[:, None, :, None, :]
    dot = jnp.sum((own == other) & real, axis=(-2, -1), dtype=jnp.float32)
    square = jnp.diagonal(dot, axis1=-2, axis2=-1)
    lengths = jnp.sqrt(square[:, :, None] * square[:, None, :])
    cosine = dot / jnp.maximum(lengths, 1.0)
    others = batch.valid[:, None, :] & ~jnp.eye(dot.shape[-1], dtype=bool)[None]
    # Products of square roots are not exact: a twin has distance 0, not 1e-7.
    nearest = jnp.max(jnp.where(others, cosine, 0.0), axis=-1)
    return jnp.where(nearest > 1.0 - 1e-6, 0.0, 1.0 - nearest)
