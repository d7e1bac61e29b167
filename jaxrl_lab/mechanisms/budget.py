"""Slot ``task``: how many rollouts each prompt of a batch gets. ``(plan, ctx) -> Plan``.

A batch of B prompts has B · ``budget`` rollouts (0: a quarter of ``recipe.group``), and every
prompt gets between ``fewest`` and ``recipe.group`` of them: the group size of the recipe is the
width of the batch ``[B, G]``, and the rollouts beyond a prompt's share are not valid. What is
known of a prompt is its share of right rollouts so far, where right means a reward above 0 of the
named channel,

    p̂ = (right + prior) / (count + 2 · prior),

with counts that fade by ``decay`` whenever the prompt is visited again (0: the last visit alone).
A prompt that was never visited has p̂ = 1/2.

With a token mean a prompt counts in the loss as often as it was rolled out. Where all prompts
shall count the same, add :class:`~.prompt_weight.EqualPrompts`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.prompts import numbering, place
from jaxrl_lab.mechanisms.reward import with_channel
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.mechanisms.tokens import top_k_mask
from jaxrl_lab.types import Batch, Context, Plan

Record = dict[str, Array]
"""What is remembered of every train prompt: ``right`` and ``count``, faded; ``visit_right`` and
``visit_count`` of the last visit alone; ``first`` and ``step`` of the prompts' ids."""


@mechanism
class Knapsack:
    """The split of the budget with the largest total value; :func:`progress_value` is the value.

    maximize Σ_b (1 − p̂_b^n_b − (1−p̂_b)^n_b) · p̂_b (1−p̂_b)²  subject to  Σ_b n_b = B · budget:
    the chance of a group with both right and wrong rollouts, times how much one step on it can
    raise p to first order. The value is concave in n, so that taking the largest marginal gains
    first is exactly optimal.

    The paper takes p̂ from the last visit and allows 2 to 128 rollouts; how it treats shares of 0
    and 1 could not be found. Here ``prior`` keeps the estimate inside (0, 1).

    Source: Knapsack RL, arXiv 2509.25849.
    """

    budget: int = 0
    fewest: int = 2
    decay: float = 0.8
    prior: float = 0.5
    channel: str = "true"

    formula: ClassVar[str] = (
        "n_b = argmax Σ (1 − p̂^n − (1−p̂)^n)·p̂(1−p̂)², Σ n_b = B·{budget}, n_b ≥ {fewest}"
    )

    def check(self, spec: Spec) -> None:
        check_record(self.decay, self.prior)
        check_budget(spec, self.budget, self.fewest)
        expect(lowest(self.prior) > 0, "prior", lowest(self.prior), "more than 0")

    def init(self, spec: Spec) -> Record:
        return empty_record(spec)

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        p = estimate(ctx.memory, plan.level_ids, self.prior)
        gain = marginal_gain(p, plan.valid.shape[1])
        return with_sizes(plan, ctx, gain, self.budget, self.fewest)

    def advance(self, memory: Record, batch: Batch, fit: dict[str, Array], ctx: Context) -> Record:
        return advanced(memory, batch, self.decay, self.channel)


@mechanism
class ProportionalBudget:
    """Rollouts in proportion to a power of the variance of a prompt's reward.

    n_b ∝ (p̂_b (1−p̂_b))^exponent, rounded by the divisors n + ½ (Webster). Exponent 1 is
    proportional to the variance, ½ to the standard deviation (Neyman's allocation, which
    estimates the mean over prompts best), 0 is uniform. A tiny exponent with ``prior`` 0 skips:
    prompts whose rollouts were all alike get the fewest, all others the same.
    """

    exponent: float = 1.0
    budget: int = 0
    fewest: int = 2
    decay: float = 0.8
    prior: float = 0.5
    channel: str = "true"

    formula: ClassVar[str] = "n_b ∝ (p̂(1−p̂))^{exponent}, Σ n_b = B·{budget}, n_b ≥ {fewest}"

    def check(self, spec: Spec) -> None:
        check_record(self.decay, self.prior)
        check_budget(spec, self.budget, self.fewest)
        expect(lowest(self.exponent) >= 0, "exponent", lowest(self.exponent), "0 or more")

    def init(self, spec: Spec) -> Record:
        return empty_record(spec)

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        p = estimate(ctx.memory, plan.level_ids, self.prior)
        share = jnp.power(p * (1.0 - p), self.exponent)  # 0^0 = 1: uniform
        already = jnp.arange(plan.valid.shape[1], dtype=jnp.float32)
        gain = share[:, None] / (already + 0.5)[None, :]
        return with_sizes(plan, ctx, gain, self.budget, self.fewest)

    def advance(self, memory: Record, batch: Batch, fit: dict[str, Array], ctx: Context) -> Record:
        return advanced(memory, batch, self.decay, self.channel)


# ------------------------------------------------------------------ what a rollout is worth


def progress_value(n: Float[Array, "..."], p: Float[Array, "..."]) -> Float[Array, "..."]:
    """(1 − p^n − (1−p)^n) · p(1−p)²: 0 for p in {0, 1} and for a single rollout."""
    return (1.0 - p**n - (1.0 - p) ** n) * p * (1.0 - p) ** 2


def marginal_gain(p: Float[Array, "B"], most: int) -> Float[Array, "B most"]:
    """What rollout n + 1 adds to :func:`progress_value`, for n = 0 … most − 1; it never rises.

    (p^n (1−p) + (1−p)^n p) · p(1−p)², in closed form because differences would cancel; 0 for the
    first rollout, whose entry is put level with the second.
    """
    n = jnp.maximum(jnp.arange(most, dtype=jnp.float32), 1.0)[None, :]
    p, q = p[:, None], 1.0 - p[:, None]
    return (p**n * q + q**n * p) * p * q**2


def allocate(gain: Float[Array, "B G"], budget: Int[Array, ""], fewest: int) -> Int[Array, "B"]:
    """Rollouts per prompt: the largest gains first, ``fewest`` for everybody.

    Entry [b, n] is what rollout n + 1 of prompt b is worth; rows must not rise. Ties are broken
    by place.
    """
    beyond = jnp.broadcast_to(jnp.arange(gain.shape[1]) >= fewest, gain.shape)
    chosen = top_k_mask(gain, budget - fewest * gain.shape[0], beyond)
    return fewest + jnp.sum(chosen, axis=1, dtype=jnp.int32)


def with_sizes(
    plan: Plan, ctx: Context, gain: Float[Array, "B G"], budget: int, fewest: int
) -> Plan:
    """The plan with B · ``budget`` rollouts, given out by :func:`allocate`."""
    b, g = plan.valid.shape
    rollouts = jnp.int32(b * (budget or g // 4))
    # Estimates are often equal; rotating the prompts keeps the first of them from always winning.
    turn = jnp.mod(ctx.update, b)
    sizes = jnp.roll(allocate(jnp.roll(gain, -turn, 0), rollouts, fewest), turn)
    return replace(plan, valid=jnp.arange(g, dtype=jnp.int32)[None, :] < sizes[:, None])


# ------------------------------------------------------------------ what is remembered


def empty_record(spec: Spec) -> Record:
    """Nothing is known of any prompt."""
    ids = spec.env.level_ids("train")
    names = ("right", "count", "visit_right", "visit_count")
    counts = {name: jnp.zeros(len(ids), jnp.float32) for name in names}
    return counts | numbering(spec)


def advanced(record: Record, batch: Batch, decay: float | Array, channel: str) -> Record:
    """The record after a batch: the visited prompts' counts fade, and the new ones are added."""
    # Not batch.returns: the credit slot may have taken groups out of the mask.
    paid = jnp.sum(with_channel(batch, channel).reward, axis=-1)
    right = jnp.sum(batch.valid & (paid > 0.0), axis=-1, dtype=jnp.float32)
    count = jnp.sum(batch.valid, axis=-1, dtype=jnp.float32)
    at = place(record, batch.level_id[:, 0, 0])
    new = {"right": right, "count": count}
    new = {k: jnp.zeros_like(record[k]).at[at].add(x) for k, x in new.items()}
    visited = new["count"] > 0
    faded = {k: jnp.where(visited, decay * record[k] + x, record[k]) for k, x in new.items()}
    last = {f"visit_{k}": jnp.where(visited, x, record[f"visit_{k}"]) for k, x in new.items()}
    return record | faded | last


def estimate(record: Record, level_ids: Int[Array, "B"], prior: float | Array) -> Array:
    """p̂ of each prompt ``[B]``; 1/2 where nothing is known."""
    at = place(record, level_ids)
    right, count = record["right"][at] + prior, record["count"][at] + 2.0 * prior
    return jnp.where(count > 0, right / jnp.where(count > 0, count, 1.0), 0.5)


def visits(record: Record, level_ids: Int[Array, "B"]) -> Float[Array, "B"]:
    """Rollouts of each prompt so far, faded."""
    return record["count"][place(record, level_ids)]


def check_record(decay: float, prior: float = 0.0) -> None:
    """Refuse a record that cannot be kept.

    Raises:
        BadInput: ``decay`` outside [0, 1], or a negative ``prior``.
    """
    for at in (lowest(decay), highest(decay)):
        expect(0 <= at <= 1, "decay", at, "a share from 0 (the last visit) to 1 (all visits)")
    expect(lowest(prior) >= 0, "prior", lowest(prior), "0 or more rollouts")


def check_budget(spec: Spec, budget: int, fewest: int) -> None:
    """Refuse a budget that a batch of the recipe's width cannot spend.

    Raises:
        BadInput: ``budget`` above the group size, or ``fewest`` above the mean or below 2.
    """
    group = spec.group
    expect(0 <= budget <= group, "budget", budget, f"0 to recipe.group = {group}, the most of one")
    mean = budget or group // 4
    expect(2 <= fewest <= mean, "fewest", fewest, f"2 to {mean}, the mean")
