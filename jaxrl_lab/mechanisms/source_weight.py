"""Slot ``credit``: how much rollouts count that the current policy did not write."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context


@mechanism
class ReplayedWeight:
    """A ← weight · A for rollouts of another source; the group's statistics keep them.

    At weight 0 a replayed rollout still moves the baseline of the others: a right answer put into
    an all-wrong group turns the wrong ones down without being turned up itself.

    Source: cross-context replay of R³, arXiv 2601.19620, which does not publish the weight.
    """

    weight: float = 0.5

    formula: ClassVar[str] = "A ← {weight}·A where replayed"

    def check(self, spec: Spec) -> None:
        expect(lowest(self.weight) >= 0, "weight", lowest(self.weight), "0 or more")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        weight = jnp.where(batch.source != 0, self.weight, 1.0)
        return replace(batch, advantage=batch.advantage * weight[..., None])
