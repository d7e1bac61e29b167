"""Slot ``advantage``: how good each action was. ``(batch, ctx) -> Batch``, once, before the loss.

R is the return of a rollout, ``[B, G]``; a per-rollout advantage is broadcast to its tokens.
Degenerate groups are defined: a group whose rewards are all equal gets advantage 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.types import Batch, Context, masked_mean


def per_rollout(batch: Batch, advantage: Float[Array, "B G"]) -> Batch:
    """The batch with one advantage per rollout, spread over its real tokens."""
    on_tokens = jnp.where(batch.mask, advantage[..., None], 0.0)
    return replace(batch, advantage=jnp.where(batch.valid[..., None], on_tokens, 0.0))


def of_rollout(batch: Batch) -> Float[Array, "B G"]:
    """The advantage of each rollout: the mean over its real tokens, which all have the same."""
    assert batch.advantage is not None
    total = jnp.sum(jnp.where(batch.mask, batch.advantage, 0.0), axis=-1)
    return total / jnp.maximum(batch.lengths, 1.0)


def _centered(groups: EqualGroups, returns: Float[Array, "B G"]) -> Float[Array, "B G"]:
    """R - group mean; exactly 0 in a unanimous group, where only rounding would be left."""
    centered = returns - group_statistics.mean(groups, returns)
    return jnp.where(group_statistics.is_informative(groups, returns), centered, 0.0)


def _needs_group(spec: Spec) -> None:
    expect(
        spec.group >= 2,
        "recipe.group",
        spec.group,
        "at least 2 rollouts per prompt for a group-relative advantage",
    )


@mechanism
class BatchBaseline:
    """A = R - mean of R over the batch."""

    formula: ClassVar[str] = "A = R − mean_batch(R)"

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "batch_baseline")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        return per_rollout(batch, batch.returns - masked_mean(batch.returns, batch.valid))


@mechanism
class LeaveOneOut:
    """A_i = R_i - mean of the other rollouts of the group: unbiased.

    Source: RLOO, Kool et al. 2019; Ahmadian et al., arXiv 2402.14740.
    """

    formula: ClassVar[str] = "A = R − mean_others(R)"

    def check(self, spec: Spec) -> None:
        _needs_group(spec)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        groups = EqualGroups(batch.valid)
        n = groups.count()
        return per_rollout(batch, _centered(groups, batch.returns) * n / jnp.maximum(n - 1.0, 1.0))


@mechanism
class GroupCentered:
    """A = R - mean over the group, without division: (G-1)/G times leave-one-out.

    Source: Dr.GRPO, arXiv 2503.20783.
    """

    formula: ClassVar[str] = "A = R − mean_group(R)"

    def check(self, spec: Spec) -> None:
        _needs_group(spec)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        return per_rollout(batch, _centered(EqualGroups(batch.valid), batch.returns))


@mechanism
class GroupNormalized:
    """A = (R - mean over the group) / (std over the group + eps).

    ``ddof=1`` is what the widely used implementations do. For binary R with success rate p in
    the group, A is sqrt((1-p)/p) and -sqrt(p/(1-p)), times sqrt((G-1)/G).

    Source: GRPO, arXiv 2402.03300.
    """

    eps: float = 1e-6
    ddof: int = 1

    formula: ClassVar[str] = "A = (R − mean_group(R)) / (std_group(R) + {eps})"

    def check(self, spec: Spec) -> None:
        _needs_group(spec)
        expect(self.ddof in (0, 1), "ddof", self.ddof, "0 or 1")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        groups, returns = EqualGroups(batch.valid), batch.returns
        scale = group_statistics.std(groups, returns, self.ddof) + self.eps
        return per_rollout(batch, _centered(groups, returns) / scale)


@mechanism
class BatchScaled:
    """A = (R - mean over the group) / (std over the batch + eps).

    One scale for all prompts, so that a nearly unanimous group is not blown up: for binary R the
    advantages of a group are those of :class:`GroupCentered` times a number that says how mixed
    the batch is. The deviation is that of the returns themselves, between prompts and within, with
    divisor n - 1, as in the public code of the authors. Dividing by the deviation of the centered
    returns instead is :class:`GroupCentered` followed by :class:`Whiten` over responses.

    Source: Lite PPO, arXiv 2508.08221.
    """

    eps: float = 1e-6

    formula: ClassVar[str] = "A = (R − mean_group(R)) / (std_batch(R) + {eps})"

    def check(self, spec: Spec) -> None:
        _needs_group(spec)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        together = EqualGroups(batch.valid.reshape(1, -1))
        scale = group_statistics.std(together, batch.returns.reshape(1, -1)) + self.eps
        centered = _centered(EqualGroups(batch.valid), batch.returns)
        return per_rollout(batch, centered / scale.reshape(batch.valid.shape))


@mechanism
class RewardToGo:
    """A_t = sum over the rest of the episode of discount^(s-t) r_s."""

    discount: float = 1.0

    formula: ClassVar[str] = "A_t = Σ_(s≥t) {discount}^(s−t) r_s"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        goes_on = batch.mask & ~(batch.terminated | batch.truncated)
        reward = jnp.where(batch.mask, batch.reward, 0.0)
        advantage = discounted_sum(reward, self.discount * goes_on.astype(jnp.float32))
        return replace(batch, advantage=jnp.where(batch.mask, advantage, 0.0))


@mechanism
class GAE:
    """Generalized advantage estimation with terminations and truncations kept apart.

    delta_t = r_t + discount · (1 - terminated_t) · V(s'_t) - V(s_t),
    A_t = delta_t + discount · decay · (1 - ended_t) · A_(t+1),  target = A + V,
    where s'_t is the state after the step *before any reset*, so a time limit bootstraps from
    the state it cut off, and the last entry of a stream bootstraps from the state it stopped in.

    Source: Schulman et al., arXiv 1506.02438; time limits: Pardo et al., arXiv 1712.00378.
    """

    discount: float = 0.99
    decay: float = 0.95

    needs: ClassVar[frozenset[str]] = frozenset({"value"})
    formula: ClassVar[str] = (
        "δ_t = r_t + {discount}·V(s'_t) − V(s_t);  A_t = δ_t + {discount}·{decay}·A_(t+1)"
    )

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.value is not None
        assert batch.next_value is not None
        ahead = jnp.where(batch.terminated, 0.0, batch.next_value)
        delta = jnp.where(batch.mask, batch.reward + self.discount * ahead - batch.value, 0.0)
        goes_on = (batch.mask & ~(batch.terminated | batch.truncated)).astype(jnp.float32)
        advantage = discounted_sum(delta, self.discount * self.decay * goes_on)
        return replace(batch, advantage=advantage, target=advantage + batch.value)


@mechanism
class Whiten:
    """A <- (A - mean) / sqrt(variance + eps) over the whole batch.

    ``over="tokens"`` weights long responses more; ``"responses"`` takes each rollout's mean
    advantage once. Both are in use under one name, so both are here under their own.

    Source: REINFORCE++, arXiv 2501.03262.
    """

    over: Literal["tokens", "responses"] = "tokens"
    eps: float = 1e-8

    formula: ClassVar[str] = "A ← whiten_{over}(A)"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        if self.over == "tokens":
            sample, counts = batch.advantage, batch.mask
        else:
            total = jnp.sum(jnp.where(batch.mask, batch.advantage, 0.0), axis=-1)
            sample = total / jnp.maximum(batch.lengths, 1.0)
            counts = batch.valid & (batch.lengths > 0)
        center = masked_mean(sample, counts)
        scale = jnp.sqrt(masked_mean((sample - center) ** 2, counts) + self.eps)
        whitened = (batch.advantage - center) / scale
        return replace(batch, advantage=jnp.where(batch.mask, whitened, 0.0))


def discounted_sum(
    x: Float[Array, "B G T"], discount: Float[Array, "B G T"]
) -> Float[Array, "B G T"]:
    """y_t = x_t + discount_t · y_(t+1), from the right; a plain reverse scan is fastest."""

    def back(tail: Array, now: tuple[Array, Array]) -> tuple[Array, Array]:
        tail = now[0] + now[1] * tail
        return tail, tail

    timed = jnp.moveaxis(x, -1, 0), jnp.moveaxis(discount, -1, 0)
    _, out = jax.lax.scan(back, jnp.zeros_like(x[..., 0]), timed, reverse=True)
    return jnp.moveaxis(out, 0, -1)
