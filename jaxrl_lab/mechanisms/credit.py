"""Slot ``credit``: which tokens get the advantage. ``(batch, ctx) -> Batch``, once."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from jaxrl_envs.errors import expect

from jaxrl_lab.groups import EqualGroups, is_informative
from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.types import Batch, Context


@mechanism
class FilterGroups:
    """Leave groups whose rewards are all equal out of every mean of the loss.

    Their advantage is zero already; what changes is the denominator of the aggregate, so this
    is a larger step on the informative groups, not new data. Drawing new data in their place is
    :class:`~.task.DynamicSampling`.
    """

    formula: ClassVar[str] = "mask groups with 0 spread"

    def check(self, spec: Spec) -> None:
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        informative = is_informative(EqualGroups(batch.valid), batch.returns)
        return replace(batch, mask=batch.mask & informative[..., None])
