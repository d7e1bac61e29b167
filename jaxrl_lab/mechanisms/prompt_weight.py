"""Slot ``credit``: how much each prompt counts. ``(batch, ctx) -> Batch``, once."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.types import Batch, Context


@mechanism
class EqualPrompts:
    """Every prompt counts the same in the loss, however many rollouts it got.

    A ← A · (mean of n over the batch) / n_b. With leave-one-out advantages and a mean over
    responses the expected update is that of equal groups, for every split of the budget that
    does not look at the batch itself; without this, a prompt counts in proportion to n_b, and a
    budget method is also a method that weighs prompts. Equal groups are left as they are.
    """

    formula: ClassVar[str] = "A ← A·mean(n)/n_b"

    def check(self, spec: Spec) -> None:
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.advantage is not None
        n = jnp.sum(batch.valid, axis=-1, dtype=jnp.float32)
        factor = jnp.mean(n) / jnp.maximum(n, 1.0)
        return replace(batch, advantage=batch.advantage * factor[:, None, None])
