"""Slot ``surrogate``: the objective of one token. ``(out, batch, ctx) -> (objective, aux)``.

ρ = exp(logp - logp_old). Objectives are maximized. ``aux["clipped"]`` marks tokens whose
gradient the surrogate itself removed. Several surrogates in a slot add up.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio

Surrogate = tuple[Float[Array, "B G T"], dict[str, Any]]


def _parts(out: Outputs, batch: Batch) -> tuple[Float[Array, "B G T"], Float[Array, "B G T"]]:
    assert batch.advantage is not None
    assert batch.logp_old is not None
    return importance_ratio(out.logp, batch.logp_old), batch.advantage


def _check_widths(low: float, high: float) -> None:
    expect(lowest(low) >= 0, "low", lowest(low), "0 or more")
    expect(lowest(high) >= 0, "high", lowest(high), "0 or more")


def _pessimistic(
    ratio: Float[Array, "B G T"], advantage: Float[Array, "B G T"], low: float, high: float
) -> tuple[Float[Array, "B G T"], Bool[Array, "B G T"]]:
    """min(ρ A, clip(ρ, 1 - low, 1 + high) A), and where the clip is the smaller one.

    A selection, because the gradient of ``minimum`` and ``clip`` divides by the number of ties.
    """
    bound = jnp.where(advantage >= 0, 1.0 + high, 1.0 - low)
    off = jnp.where(advantage >= 0, ratio > bound, ratio < bound)
    return jnp.where(off, bound, ratio) * advantage, off


def _no_token(batch: Batch) -> Bool[Array, "B G T"]:
    return jnp.zeros_like(batch.mask)


@mechanism
class ScoreFunction:
    """A · log pi: REINFORCE, the default of an empty slot.

    Source: Williams 1992.
    """

    formula: ClassVar[str] = "A·log π"

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        assert batch.advantage is not None
        return batch.advantage * out.logp, {"clipped": _no_token(batch)}


@mechanism
class ImportanceWeighted:
    """ρ · A, unclipped."""

    formula: ClassVar[str] = "ρ·A"

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        ratio, advantage = _parts(out, batch)
        return ratio * advantage, {"clipped": _no_token(batch)}


@mechanism
class Clip:
    """min(ρ A, clip(ρ, 1 - low, 1 + high) A); for A < 0 not below ``dual`` · A where given.

    ``high > low`` is clip-higher (DAPO). ``dual`` > 1 bounds the objective of bad actions that
    became likely (dual clip, arXiv 1912.09729).

    Source: PPO, arXiv 1707.06347; DAPO, arXiv 2503.14476.
    """

    low: float = 0.2
    high: float = 0.2
    dual: float | None = None

    formula: ClassVar[str] = "min(ρA, clip(ρ, 1−{low}, 1+{high})·A)"

    def check(self, spec: Spec) -> None:
        _check_widths(self.low, self.high)
        if self.dual is not None:
            expect(lowest(self.dual) > 1, "dual", lowest(self.dual), "more than 1")

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        ratio, advantage = _parts(out, batch)
        objective, off = _pessimistic(ratio, advantage, self.low, self.high)
        if self.dual is not None:
            floor = self.dual * advantage
            off = off | ((advantage < 0) & (objective < floor))
            objective = jnp.where((advantage < 0) & (objective < floor), floor, objective)
        return objective, {"clipped": off}


@mechanism
class SequenceClip:
    """Clip at the level of the sequence: s = exp(mean_t log ρ_t), min(s A, clip(s) A).

    Written in its token form s_t = sg(s) · exp(logp - sg(logp)), which has the same value and
    gradient under a sequence mean of token means.

    Source: GSPO, arXiv 2507.18071.
    """

    low: float = 3e-4
    high: float = 4e-4

    formula: ClassVar[str] = "min(sA, clip(s, 1−{low}, 1+{high})·A), s = exp(mean_t log ρ_t)"

    def check(self, spec: Spec) -> None:
        _check_widths(self.low, self.high)

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        log_ratio = jnp.where(batch.mask, out.logp - batch.logp_old, 0.0)
        mean_log_ratio = jnp.sum(log_ratio, -1) / jnp.maximum(batch.lengths, 1.0)
        s = jnp.exp(jnp.clip(mean_log_ratio, -20.0, 20.0))[..., None]
        token = jnp.exp(out.logp - jax.lax.stop_gradient(out.logp))
        ratio = jax.lax.stop_gradient(s) * token
        objective, off = _pessimistic(ratio, batch.advantage, self.low, self.high)
        return objective, {"clipped": off}


@mechanism
class TruncatedWeight:
    """sg(clip(ρ, 1 - low, 1 + high)) · A · log pi: no token's gradient is ever removed.

    In the paper only the upper cap acts; ``low = 1`` leaves the lower side open.

    Source: CISPO, arXiv 2506.13585.
    """

    low: float = 1.0
    high: float = 0.2

    formula: ClassVar[str] = "sg(clip(ρ, 1−{low}, 1+{high}))·A·log π"

    def check(self, spec: Spec) -> None:
        _check_widths(self.low, self.high)

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        ratio, advantage = _parts(out, batch)
        weight = jax.lax.stop_gradient(jnp.clip(ratio, 1.0 - self.low, 1.0 + self.high))
        return weight * advantage * out.logp, {"clipped": _no_token(batch)}
