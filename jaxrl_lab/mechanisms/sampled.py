"""Slot ``update``: remembers what the last batch sampled, for measures; changes nothing."""

from __future__ import annotations

from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.core import Discrete
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.types import Batch, Context, LearnerState


@mechanism
class SampledActions:
    """How often each action was taken, per prompt of the last batch: its memory, ``[B, K]``."""

    formula: ClassVar[str] = "remember how often each action was sampled"

    def check(self, spec: Spec) -> None:
        space = spec.env.action_space
        discrete = isinstance(space, Discrete)
        expect(discrete, "recipe.update", type(space).__name__, "actions that can be counted")
        needs_episodes(spec, "sampled_actions")

    def init(self, spec: Spec) -> Float[Array, "B K"]:
        assert isinstance(spec.env.action_space, Discrete)
        return jnp.zeros((spec.prompts, spec.env.action_space.n))

    def __call__(
        self, state: LearnerState, candidate: LearnerState, fit: dict[str, Array], ctx: Context
    ) -> LearnerState:
        return candidate

    def advance(
        self, memory: Float[Array, "B K"], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> Float[Array, "B K"]:
        prompt = jnp.broadcast_to(
            jnp.arange(memory.shape[0], dtype=jnp.int32)[:, None, None], batch.action.shape
        )
        return jnp.zeros_like(memory).at[prompt, batch.action].add(batch.mask.astype(jnp.float32))
