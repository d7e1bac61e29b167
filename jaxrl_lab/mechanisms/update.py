"""Slot ``update``: what becomes of the optimizer's candidate. ``(state, candidate, fit, ctx)``.

``state`` is the learner before the update, ``candidate`` after it, ``fit`` the update's scalars;
the result is the next candidate.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.types import Context, LearnerState


@mechanism
class RefreshReference:
    """Every ``every`` updates the reference policy becomes the current one."""

    every: int = 100

    passes: ClassVar[tuple[str, ...]] = ("reference",)
    formula: ClassVar[str] = "π_ref ← π every {every} updates"

    def check(self, spec: Spec) -> None:
        expect(self.every >= 1, "every", self.every, "at least 1 update")

    def __call__(
        self, state: LearnerState, candidate: LearnerState, fit: dict[str, Array], ctx: Context
    ) -> LearnerState:
        now = (ctx.update + 1) % self.every == 0
        fresh = jax.tree.map(
            lambda new, old: jnp.where(now, new, old),
            candidate.params,
            candidate.trees["reference"],
        )
        return replace(candidate, trees=candidate.trees | {"reference": fresh})
