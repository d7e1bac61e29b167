"""Slot ``task``: which prompts the next batch is about. ``(plan, ctx) -> Plan``.

The plan handed to the first mechanism covers the train prompts (all of them in order where the
batch is as large as the split, else a uniform draw). A mechanism with ``keep(batch) -> [B]``
and ``rounds`` makes the learner collect again until every group is kept.
"""

from __future__ import annotations

from typing import ClassVar

from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool

from jaxrl_lab.groups import EqualGroups, is_informative
from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.reward import with_channel
from jaxrl_lab.types import Batch, Context, Plan


@mechanism
class DynamicSampling:
    """Keep sampling until every group of the batch has both better and worse rollouts.

    A group whose rewards are all equal is thrown away and its place refilled by the next
    informative group, in up to ``rounds`` rounds of collection; every generated token is
    counted. Places still empty after the last round keep their uninformative group, whose
    advantage is zero. Merely masking such groups is :class:`~.credit.FilterGroups`.

    ``channel`` is the reward that is compared, before any shaping: where a proxy is trained on,
    name it here too, or the sampling sees the truth.

    Source: DAPO, arXiv 2503.14476.
    """

    rounds: int = 10
    channel: str = "true"

    formula: ClassVar[str] = "resample groups with 0 spread of {channel}, at most {rounds} rounds"

    def check(self, spec: Spec) -> None:
        expect(self.rounds >= 1, "rounds", self.rounds, "at least 1 round of sampling")
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")

    def __call__(self, plan: Plan, ctx: Context) -> Plan:
        return plan

    def keep(self, batch: Batch) -> Bool[Array, "B"]:
        """Which groups carry a learning signal."""
        compared = with_channel(batch, self.channel)
        return is_informative(EqualGroups(batch.valid), compared.returns)[:, 0]
