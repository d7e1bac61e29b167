"""Slot ``surrogate``: learning from one's own and from other people's rollouts at once."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.mechanisms.surrogate import Surrogate
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio


@mechanism
class MultipleImportance:
    """Own rollouts: ρ·A, unclipped. Others': r·A·sg(1 − π)^gamma, r = 2π / (π_old + π_ω).

    π_ω is the author of the other rollouts (``logp_behavior`` where ``source`` is not 0). The
    mixture in the denominator is the balance heuristic of multiple importance sampling: at most
    2π/π_ω, where the plain ratio π/π_old of an answer that the policy hardly gives explodes, and
    unlike π/π_ω it has no variance left where the policy itself would have given it. The
    exploration factor gives answers of low probability more of their advantage; at ``gamma`` 0 it
    is off. Without rollouts of others this is :class:`~.surrogate.ImportanceWeighted`.

    The balance heuristic is unbiased if one rollout of each author is drawn and *both* are
    weighted by the mixture. Here, as in the paper, own rollouts keep the weight π/π_old: what
    others contribute comes on top.

    Source: RL-PLUS, arXiv 2508.00222, whose released run has no clip.
    """

    gamma: float = 0.5

    formula: ClassVar[str] = "ρA; others' 2π/(π_old + π_ω)·A·sg(1 − π)^{gamma}"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.gamma) >= 0, "gamma", lowest(self.gamma), "0 or more")

    def __call__(self, out: Outputs, batch: Batch, ctx: Context) -> Surrogate:
        assert batch.advantage is not None
        assert batch.logp_old is not None
        others = (batch.source != 0)[..., None] & batch.mask
        mixture = jnp.logaddexp(batch.logp_old, batch.logp_behavior) - jnp.log(2.0)
        ratio = importance_ratio(out.logp, jnp.where(others, mixture, batch.logp_old))
        left = -jnp.expm1(jnp.minimum(out.logp, 0.0))
        # x^gamma has no derivative at 0, but none is wanted.
        explore = jax.lax.stop_gradient(left) ** self.gamma
        objective = ratio * jnp.where(others, explore, 1.0) * batch.advantage
        return objective, {"clipped": jnp.zeros_like(batch.mask)}
