"""Slot ``advantage``: what becomes of the symmetry of group advantages.

Group advantages sum to zero over a group, so right and wrong rollouts pull with equal weight and
answers nobody gave are not pushed at all. These mechanisms come after a group-relative advantage
and break that symmetry in one way each. For binary rewards, with p the group's pass rate,

    attenuated A = (p + positive · (1 − p)) · A − (1 − positive) · mean_group max(A, 0),

a smaller step and a raised baseline, exactly: :class:`MatchedScale` is the first factor alone,
:class:`MatchedShift` the second term alone. They are the controls of :class:`Attenuate`.
Groups whose rewards are all equal keep advantage 0 throughout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.advantage import of_rollout, per_rollout
from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Context, masked_mean


def _check_share(name: str, number: float) -> None:
    fits = lowest(number) >= 0 and highest(number) <= 1
    expect(fits, name, (lowest(number), highest(number)), "a weight from 0 to 1")


def _needs_relative(spec: Spec, name: str) -> None:
    """Refuse where no advantage came first, or groups are too small to have one."""
    first = bool(spec.recipe.advantage) and not isinstance(
        spec.recipe.advantage[0], Attenuate | MatchedShift | MatchedScale | DifficultyFocus
    )
    expect(first, "recipe.advantage", name, f"a group-relative advantage before {name}")
    expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")


def _attenuated(
    advantage: Float[Array, "..."], positive: Float[Array, "..."] | float
) -> Float[Array, "..."]:
    return jnp.where(advantage > 0, positive, 1.0) * advantage


@mechanism
class Attenuate:
    """A ← positive · A where A > 0, negative · A where A < 0.

    ``positive=0`` learns from wrong answers only, ``negative=0`` from right ones only. Answers that
    nobody gave are then pushed by −π_a mean_group(A), which is upward for ``positive < negative``.

    Source: A-GRAE, arXiv 2602.05548; negative samples only: arXiv 2506.01347.
    """

    positive: float = 1.0
    negative: float = 1.0

    formula: ClassVar[str] = "A ← {positive}·max(A, 0) + {negative}·min(A, 0)"

    def check(self, spec: Spec) -> None:
        _check_share("positive", self.positive)
        _check_share("negative", self.negative)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        weight = jnp.where(batch.advantage > 0, self.positive, self.negative)
        return replace(batch, advantage=weight * batch.advantage)


@mechanism
class AttenuateByProgress:
    """A ← min(1, m / alpha) · A where A > 0; m is the mean return of the batch.

    Attenuation fades as the policy gets better and is off from m = ``alpha`` on. Rewards from 0
    to 1 are assumed. ``alpha`` is 1 for mathematics and 0.5 for other sets in the paper.

    Source: A-GRAE, arXiv 2602.05548.
    """

    alpha: float = 1.0

    formula: ClassVar[str] = "A ← min(1, mean_batch(R)/{alpha})·max(A, 0) + min(A, 0)"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.alpha) > 0, "alpha", lowest(self.alpha), "a positive mean return")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        progress = jnp.clip(masked_mean(batch.returns, batch.valid), 0.0, 1.0)
        positive = jnp.minimum(1.0, progress / self.alpha)
        return replace(batch, advantage=_attenuated(batch.advantage, positive))


@mechanism
class MatchedShift:
    """A ← A − (1 − positive) · mean_group max(A, 0): the mean of :class:`Attenuate`, not its shape.

    The control that pushes unsampled answers as much as attenuation does. For binary rewards it
    is REINFORCE with the baseline raised from p to p + (1 − positive) p (1 − p), divided by
    whatever the advantage before it divides by.
    """

    positive: float = 1.0

    formula: ClassVar[str] = "A ← A − (1 − {positive})·mean_group(max(A, 0))"

    def check(self, spec: Spec) -> None:
        _check_share("positive", self.positive)
        _needs_relative(spec, "matched_shift")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        advantage = of_rollout(batch)
        gain = group_statistics.mean(EqualGroups(batch.valid), jnp.maximum(advantage, 0.0))
        return per_rollout(batch, advantage - (1.0 - self.positive) * gain)


@mechanism
class MatchedScale:
    """A ← k A with k = Σ_group A' A / Σ_group A², A' the attenuated A: its step, not its shift.

    The best multiple of A in place of :class:`Attenuate`; for binary rewards
    k = p + positive · (1 − p). The mean advantage stays zero.
    """

    positive: float = 1.0

    formula: ClassVar[str] = "A ← A·Σ(A'A)/Σ(A²), A' = {positive}·max(A, 0) + min(A, 0)"

    def check(self, spec: Spec) -> None:
        _check_share("positive", self.positive)
        _needs_relative(spec, "matched_scale")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        groups, advantage = EqualGroups(batch.valid), of_rollout(batch)
        power = groups.sum(advantage**2)
        kept = groups.sum(_attenuated(advantage, self.positive) * advantage)
        return per_rollout(batch, advantage * kept / jnp.where(power > 0, power, 1.0))


@mechanism
class DifficultyFocus:
    """A ← (1 − h) · A / (2 e(p)) + h · A / (2 √p): easy prompts first, hard ones later.

    p is the group's pass rate. h is the batch's mean return unless ``hard`` fixes it: 1 looks at
    hard prompts only, 0 at easy ones only. With A = (R − p)/√(p(1−p)) the hard term has
    Σ|A| = G √(1−p) and, where e = √(1−p) (``mirrored``), the easy one G √p. The released code has
    e = 1 − √p (``released``), which is no mirror image: Σ|A| = G √(p(1−p)) / (1 − √p) runs from
    4 to 41 between p = 1/8 and 7/8 at G = 8. The reading with √(1−p) is ours. Rewards from 0 to 1
    are assumed.

    Source: A-GRAE, arXiv 2602.05548.
    """

    hard: float | None = None
    denominator: Literal["mirrored", "released"] = "mirrored"
    eps: float = 1e-6

    formula: ClassVar[str] = (
        "A ← (1 − h)·A/(2·e(p) + {eps}) + h·A/(2·√p + {eps}), h = mean_batch(R) unless given, "
        "e {denominator}"
    )

    def check(self, spec: Spec) -> None:
        if self.hard is not None:
            _check_share("hard", self.hard)
        expect(lowest(self.eps) > 0, "eps", lowest(self.eps), "a positive number")
        _needs_relative(spec, "difficulty_focus")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        rate = jnp.clip(group_statistics.mean(EqualGroups(batch.valid), batch.returns), 0.0, 1.0)
        progress = jnp.clip(masked_mean(batch.returns, batch.valid), 0.0, 1.0)
        hard = progress if self.hard is None else jnp.asarray(self.hard)
        root = jnp.sqrt(rate)
        easy = jnp.sqrt(1.0 - rate) if self.denominator == "mirrored" else 1.0 - root
        factor = (1.0 - hard) / (2.0 * easy + self.eps) + hard / (2.0 * root + self.eps)
        return per_rollout(batch, of_rollout(batch) * factor)


@mechanism
class VarianceNormalized:
    """A = (R − mean_group) / (variance_group + eps): mean over right minus mean over wrong answers.

    For binary rewards A = 1/p and −1/(1−p), so the surrogate is the difference of the mean scores
    of right and wrong rollouts, of weight 1 in every group that has both. Divides by the
    population variance. The published method adds a squared-hinge constraint on the KL,
    :class:`~.constraint.HingeKL`, and in its full form weights wrong rollouts by a softmax of
    their scores, :class:`~.discriminative.HardNegatives`.

    Source: DisCO's basic objective, arXiv 2505.12366.
    """

    eps: float = 1e-6

    formula: ClassVar[str] = "A = (R − mean_group(R)) / (variance_group(R) + {eps})"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.eps) > 0, "eps", lowest(self.eps), "a positive number")
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        groups, returns = EqualGroups(batch.valid), batch.returns
        centered = returns - group_statistics.mean(groups, returns)
        centered = jnp.where(group_statistics.is_informative(groups, returns), centered, 0.0)
        variance = group_statistics.std(groups, returns, ddof=0) ** 2
        return per_rollout(batch, centered / (variance + self.eps))
