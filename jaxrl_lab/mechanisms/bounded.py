"""Slot ``surrogate``: move every ratio to a target of its own instead of pushing until a clip."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.mechanisms.surrogate import Surrogate
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio


@mechanism
class BoundedRatio:
    """−|A| · |ρ − ρ*|, ρ* = 1 − low + (low + high) · sigmoid((R − median R)/(std R · temperature)).

    With a small temperature and low = high = ε: ρ* is 1 + ε above the group's median, 1 − ε below
    it and 1 at it. For 0/1 rewards the median is one of the two (or halfway, where exactly half
    succeed): if fewer than half of a group succeed, only its successes are pushed, if more, only
    its failures. So once right answers are the rule they are no longer pushed themselves, and
    which of them was sampled no longer matters.

    At ρ = 1 and where A and R − median R have one sign the gradient is that of ρ A. Where ρ = ρ*
    there is none. The median of an even group is the mean of the middle two.

    Source: GBPO, arXiv 2604.18578.
    """

    low: float = 0.3
    high: float = 0.3
    temperature: float = 1e-4

    formula: ClassVar[str] = "−|A|·|ρ − ρ*|, ρ* = 1 − {low} + ({low} + {high})·σ(z/{temperature})"

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "bounded_ratio")
        for name in ("low", "high"):
            width = lowest(getattr(self, name))
            expect(width >= 0, name, width, "0 or more")
        low = lowest(self.temperature)
        expect(low > 0, "temperature", low, "a positive number")

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        groups, returns = EqualGroups(batch.valid), batch.returns
        deviation = group_statistics.std(groups, returns)
        scale = self.temperature * jnp.where(deviation > 0, deviation, 1.0)
        above = jax.nn.sigmoid((returns - _median(groups, returns)) / scale)
        target = (1.0 - self.low + (self.low + self.high) * above)[..., None]
        miss = importance_ratio(out.logp, batch.logp_old) - target
        # Not jnp.abs, whose derivative at 0 is 1 in JAX.
        loss = jnp.abs(batch.advantage) * miss * jnp.sign(miss)
        return -loss, {"clipped": jnp.zeros_like(batch.mask)}


def _median(groups: EqualGroups, x: Float[Array, "B G"]) -> Float[Array, "B 1"]:
    """Median over the valid rollouts of each group; 0 without any."""
    rising = jnp.sort(jnp.where(groups.valid, x, jnp.inf), axis=-1)
    n = jnp.sum(groups.valid, axis=-1, keepdims=True, dtype=jnp.int32)
    middle = jnp.concatenate([(n - 1) // 2, n // 2], axis=-1)
    pair = jnp.take_along_axis(rising, jnp.clip(middle, 0, x.shape[-1] - 1), axis=-1)
    return jnp.where(n > 0, jnp.mean(pair, axis=-1, keepdims=True), 0.0)
