"""Slot ``task``: rollouts that begin in the middle of others. ``(plan, ctx) -> Plan``.

A mechanism with ``points(batch, out, ctx)`` and ``branches`` makes the learner go on from those
points of the batch it has collected, ``branches`` times each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.rollouts.branch import Points
from jaxrl_lab.types import Batch, Context, Plan, PolicyOutput


@mechanism
class BranchAtEntropy:
    """G / (1 + branches) rollouts per prompt, each continued ``branches`` times from inside.

    A rollout is taken up again before one of its ``top`` tokens of ``highest`` entropy, chosen
    uniformly; ``lowest`` entropy and ``anywhere`` are the controls. What came before is the
    prompt of the branch: it has no loss. All rollouts share one group. With no branches this is
    no mechanism.

    Rollouts of a prefix are alike as far as it goes, so the group's rewards are no longer
    independent, and the choice looks at the whole rollout: tokens late in it can decide where an
    earlier one is taken up.

    Source: CURE, arXiv 2508.11016, its first stage; the second has no branches. The published
    numbers are 4 rollouts, 3 branches each, and 20 tokens of thousands.
    """

    branches: int = 3
    top: int = 1
    where: Literal["highest", "lowest", "anywhere"] = "highest"

    formula: ClassVar[str] = (
        "G/(1 + {branches}) rollouts, each branched {branches}× at one of the {top} tokens of "
        "{where} entropy"
    )

    def check(self, spec: Spec) -> None:
        expect(self.branches >= 0, "branches", self.branches, "0 or more")
        expect(self.top >= 1, "top", self.top, "at least 1 token")
        size = 1 + self.branches
        expected = f"a multiple of 1 + branches = {size}"
        expect(spec.group % size == 0, "recipe.group", spec.group, expected)

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        first = plan.valid.shape[1] // (1 + self.branches)
        return replace(plan, valid=plan.valid[:, :first], source=plan.source[:, :first])

    def points(self, batch: Batch, out: PolicyOutput, ctx: Context) -> Points:
        """One token of every rollout, where it is to be taken up again."""
        b, g, t = batch.mask.shape
        entropy = out.dist.entropy()
        sign = {"highest": 1.0, "lowest": -1.0, "anywhere": 0.0}[self.where]
        rank = jnp.argsort(jnp.where(batch.mask, -sign * entropy, jnp.inf), axis=-1, stable=True)
        width = t if self.where == "anywhere" else min(self.top, t)
        choices = jnp.clip(batch.lengths, 1.0, float(width))
        u = jax.random.uniform(ctx.key, (b, g))
        chosen = jnp.minimum(u * choices, choices - 1.0).astype(jnp.int32)[..., None]
        time = jnp.take_along_axis(rank, chosen, axis=-1).reshape(-1)
        prompt, rollout = jnp.unravel_index(jnp.arange(b * g, dtype=jnp.int32), (b, g))
        return Points(prompt, rollout, time.astype(jnp.int32))
