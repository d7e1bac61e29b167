"""Slot ``reward``: rollouts of somebody else in the batch. ``(batch, ctx) -> Batch``."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array

from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism
from jaxrl_lab.mechanisms.prompts import numbering, place
from jaxrl_lab.types import Batch, Context


@mechanism
class Demonstrate:
    """The last rollout of every group becomes a demonstration: a right arm, the same each time.

    It is rewarded with 1, enters the group's statistics like any other, and carries ``source`` 1.
    Its old probability is that of the policy that collected the batch; ``logp_behavior`` is what
    is believed of its author: ``unknown`` takes π_ω = (π_old + 1) / 2, as the released code does,
    ``certain`` takes 1, which is right here, since nothing else is ever demonstrated. Of several
    right arms the lowest-numbered one is shown. One-step worlds only.

    Source: the external data of RL-PLUS, arXiv 2508.00222.
    """

    behavior: Literal["unknown", "certain"] = "unknown"

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = "last of each group ← a right arm, its author's π_ω {behavior}"

    def check(self, spec: Spec) -> None:
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
        expect(
            spec.horizon == 1, "environment", spec.horizon, "a world whose episodes are one step"
        )
        named = hasattr(spec.env, "correct")
        expect(named, "environment.id", type(spec.env).__name__, "a world that knows right arms")

    def init(self, spec: Spec) -> dict[str, Array]:
        env: Any = spec.env
        ids = jnp.asarray(env.level_ids("train"), jnp.int32)

        def shown(level_id: Array) -> Array:
            return jnp.argmax(env.correct(env.make_level(env.default_params, level_id)))

        return numbering(spec) | {"action": jax.vmap(shown)(ids).astype(jnp.int32)}

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.logp_old is not None
        number = jnp.arange(batch.valid.shape[1], dtype=jnp.int32)[None, :]
        last = jnp.max(jnp.where(batch.valid, number, 0), axis=-1, keepdims=True)
        is_shown = (number == last) & batch.valid
        put = is_shown[..., None] & batch.mask
        shown = ctx.memory["action"][place(ctx.memory, batch.level_id[:, 0, 0])]
        action = jnp.where(put, shown[:, None, None], batch.action).astype(batch.action.dtype)
        old = ctx.passes[OLD].dist.logp(action)
        author = jnp.logaddexp(old, 0.0) - jnp.log(2.0) if self.behavior == "unknown" else 0.0
        return replace(
            batch,
            action=action,
            logp_behavior=jnp.where(put, author, batch.logp_behavior),
            logp_old=jnp.where(put, old, batch.logp_old),
            reward=jnp.where(put, 1.0, batch.reward),
            source=jnp.where(is_shown, jnp.ones_like(batch.source), batch.source),
        )
