"""Slot ``surrogate``: PPO whose trust region is anchored elsewhere than at the behavior policy."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.mechanisms.surrogate import Surrogate
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio


@mechanism
class DecoupledClip:
    """min(ρ A, clip(ρ_p, 1 - low, 1 + high) · (π_prox / π_old) · A), ρ_p = π / π_prox.

    The old policy of PPO has two jobs, denominator of the importance ratio and center of the
    trust region; here the second is given to the tree ``proximal``, as a rule a
    :class:`~.averaging.ParameterAverage`. An older anchor allows a smaller outer step. Where the
    anchor is the old policy this is :class:`~.surrogate.Clip`. The importance weights
    ρ = π / π_old and π_prox / π_old are capped.

    In the paper the anchor also moves within the inner loop. Here it stands still there, as the
    old policy does, and averages the policies at the start of each inner loop: it is never
    younger than PPO's. The variant with a penalty is ``importance_weighted`` with
    ``kl_to_reference: {estimator: k2, tree: proximal}``.

    Source: PPO-EWMA, arXiv 2110.00641, and its public code.
    """

    low: float = 0.2
    high: float = 0.2
    cap: float = 100.0
    tree: str = "proximal"

    formula: ClassVar[str] = (
        "min(ρA, clip(π/π_{tree}, 1−{low}, 1+{high})·(π_{tree}/π_old)·A), ratios ≤ {cap}"
    )

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def check(self, spec: Spec) -> None:
        for name in ("low", "high"):
            width = lowest(getattr(self, name))
            expect(width >= 0, name, width, "0 or more")
        expect(lowest(self.cap) >= 1, "cap", lowest(self.cap), "1 or more")

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        advantage = batch.advantage
        anchor = out.passes[self.tree].dist.logp(batch.action)
        ratio = importance_ratio(out.logp, batch.logp_old)
        stale = jnp.minimum(importance_ratio(anchor, batch.logp_old), self.cap)
        bound = stale * jnp.where(advantage >= 0, 1.0 + self.high, 1.0 - self.low)
        capped = ratio > self.cap
        ratio = jnp.where(capped, self.cap, ratio)
        # A selection, because the gradient of a minimum divides by the number of ties.
        off = jnp.where(advantage >= 0, ratio > bound, ratio < bound)
        return jnp.where(off, bound, ratio) * advantage, {"clipped": off | capped}
