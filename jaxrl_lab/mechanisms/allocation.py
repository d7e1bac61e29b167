"""Slot ``task``: further rules for the rollouts of each prompt; budget and record as in ``budget``.

The papers spend the budget of one batch in rounds and look at the outcomes in between. Here a
batch is one round: what is known of a prompt comes from its earlier visits.
"""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
import scipy.special
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.budget import (
    Record,
    advanced,
    check_budget,
    check_record,
    empty_record,
    estimate,
    visits,
    with_sizes,
)
from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context, Plan


@mechanism
class IntervalBudget:
    """The next rollout goes where it narrows the confidence interval of p the most, plus a bonus.

    priority(n) = h(n) − h(n+1) + bonus · √(log(1 + t) / n),  h(n) = t_{n−1} · s / √n,

    where n counts the rollouts of a prompt so far, s² = p̂(1−p̂) n/(n−1) is their variance, held
    while rollouts are given out, t_{n−1} is Student's two-sided quantile at ``confidence``
    percent (static, as the quantiles are tabulated) and t is the number of the update. Prompts
    whose rollouts were all alike have no width and live on the bonus. A prompt that was never
    visited counts as two rollouts, one of them right.

    A narrow interval around p is not a large gradient: n grows with p(1−p), which is symmetric,
    as in :class:`~.budget.ProportionalBudget`. The bonus is small so that both terms are of one
    size at 8 rollouts and 100 updates; ``bonus`` and ``confidence`` are not published in what
    could be read, and the bonus is known from second hand. Showing solved examples to prompts
    that nobody solves, the paper's other part, is here :class:`~.hint.HintHardPrompts`.

    Source: XRPO, arXiv 2510.06672.
    """

    bonus: float = 0.05
    confidence: int = 95
    budget: int = 0
    fewest: int = 2
    decay: float = 0.8
    channel: str = "true"

    formula: ClassVar[str] = (
        "n_b by h(n) − h(n+1) + {bonus}·√(log(1+t)/n), h = t_(n−1)·s/√n at {confidence} %, "
        "Σ n_b = B·{budget}, n_b ≥ {fewest}"
    )

    def check(self, spec: Spec) -> None:
        check_record(self.decay)
        check_budget(spec, self.budget, self.fewest)
        expect(lowest(self.bonus) >= 0, "bonus", lowest(self.bonus), "0 or more")
        inside = 1 <= self.confidence <= 99
        expect(inside, "confidence", self.confidence, "a percentage from 1 to 99")

    def init(self, spec: Spec) -> Record:
        return empty_record(spec)

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        p = estimate(ctx.memory, plan.level_ids, 0.0)
        before = jnp.maximum(visits(ctx.memory, plan.level_ids), 2.0)[:, None]
        n = before + jnp.arange(plan.valid.shape[1], dtype=jnp.float32)[None, :]
        deviation = jnp.sqrt(p[:, None] * (1.0 - p[:, None]) * before / (before - 1.0))
        narrower = half_width(n, self.confidence) - half_width(n + 1.0, self.confidence)
        updates = 1.0 + ctx.update.astype(jnp.float32)
        explore = self.bonus * jnp.sqrt(jnp.log1p(updates) / n)
        return with_sizes(plan, ctx, deviation * narrower + explore, self.budget, self.fewest)

    def advance(self, memory: Record, batch: Batch, fit: dict[str, Array], ctx: Context) -> Record:
        return advanced(memory, batch, self.decay, self.channel)


@mechanism
class ValueBudget:
    """Rollouts of unanimous prompts go to the others, in proportion to (1 − p̂) · √(p̂(1−p̂)).

    The value of a prompt is the room above its mean reward times its deviation, largest at
    p = 1/4 and 0 for a prompt whose rollouts were all alike. Such a prompt keeps ``fewest``
    rollouts, or it would never be seen to change; the others keep their ``budget`` and share the
    rest, rounded by the divisors k + ½. Where no prompt or every prompt is unanimous all get the
    same.

    The paper takes groups without advantage out of the batch and fills their places with prompts
    of the batch, drawn in proportion to their value. A prompt drawn c times and rolled out anew
    is one with c more groups' worth of rollouts, given here without the luck of the draw. It also
    tempers prompts that were drawn often, by a formula that could not be found: dividing A by
    their share is :class:`~.prompt_weight.EqualPrompts`. Copies of the same rollouts would be a
    factor on A alone, which that division would undo exactly.

    Source: VSPO, arXiv 2512.07478.
    """

    budget: int = 0
    fewest: int = 2
    decay: float = 0.0
    channel: str = "true"

    formula: ClassVar[str] = (
        "n_b = {budget} + ∝ (1−p̂)·√(p̂(1−p̂)) if p̂(1−p̂) > 0, else {fewest}; Σ n_b = B·{budget}"
    )

    def check(self, spec: Spec) -> None:
        check_record(self.decay)
        check_budget(spec, self.budget, self.fewest)

    def init(self, spec: Spec) -> Record:
        return empty_record(spec)

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        width = plan.valid.shape[1]
        p = estimate(ctx.memory, plan.level_ids, 0.0)[:, None]
        value = (1.0 - p) * jnp.sqrt(p * (1.0 - p))
        number = jnp.arange(width, dtype=jnp.float32)[None, :]
        beyond = number - (self.budget or width // 4)
        own = jnp.float32(1e3)  # first of all, and more than any value is worth
        shared = jnp.where(beyond >= 0, value / (jnp.maximum(beyond, 0.0) + 0.5), own)
        alike = 1e-6 / (number + 0.5)  # last of all, but equal among themselves
        gain = jnp.where(value > 0, shared, alike)
        return with_sizes(plan, ctx, gain, self.budget, self.fewest)

    def advance(self, memory: Record, batch: Batch, fit: dict[str, Array], ctx: Context) -> Record:
        return advanced(memory, batch, self.decay, self.channel)


INVERSE_DEGREES = np.linspace(0.0, 1.0, 1025)
"""1 / (n − 1) from 0 to 1: Student's quantile is smooth in it, and counts that faded are not
whole numbers."""


def half_width(n: Float[Array, "..."], confidence: int) -> Float[Array, "..."]:
    """t_{n−1} / √n: half the width of Student's interval of n ≥ 2 numbers with deviation 1."""
    tail = 0.5 + confidence / 200.0
    with np.errstate(divide="ignore"):
        quantile = scipy.special.stdtrit(1.0 / INVERSE_DEGREES, tail)
    quantile[0] = scipy.special.ndtri(tail)
    grid, table = jnp.asarray(INVERSE_DEGREES, jnp.float32), jnp.asarray(quantile, jnp.float32)
    return jnp.interp(1.0 / (n - 1.0), grid, table) / jnp.sqrt(n)
