"""Slot ``reward``: old rollouts in a new batch. ``(batch, ctx) -> Batch``, before advantages."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.groups import EqualGroups, is_informative
from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism
from jaxrl_lab.mechanisms.prompts import numbering, place
from jaxrl_lab.types import Batch, Context

Store = dict[str, Array]
"""Per train prompt and outcome (0 wrong, 1 right) ``[prompts, 2]``: ``action``, its ``logp`` when
it was sampled, and whether there is one (``full``); ``first`` and ``step`` of the prompts' ids."""


@mechanism
class OppositeReplay:
    """A group whose rollouts are all alike gets a stored one of the opposite outcome.

    The last rollout of an all-wrong group is replaced by the newest right one of that prompt, that
    of an all-right group by the newest wrong one; groups whose store is empty stay as they are.
    The replayed rollout enters the group's statistics like any other, and its advantage is an
    importance-weighted one: ``ratio="stored"`` measures the policy against the one that sampled it,
    ``ratio="current"`` pretends that the current policy did.

    With ``outcome="random"`` a coin per group decides which of the two it gets: the control that
    replays as often, but to half of the groups something they have already.

    Rewards count as right above 0. One-step worlds only: a trajectory is an action.

    Source: cross-context replay of R³, arXiv 2601.19620. How many rollouts it replays could not be
    found; the weight of their advantages is :class:`~.source_weight.ReplayedWeight`. Its other
    part, a wrong attempt shown together with an instruction to reflect, has no counterpart here.
    """

    ratio: Literal["stored", "current"] = "stored"
    outcome: Literal["opposite", "random"] = "opposite"

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = (
        "last of a unanimous group ← stored {outcome} outcome, ratio to {ratio} policy"
    )

    def check(self, spec: Spec) -> None:
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
        expect(
            spec.horizon == 1, "environment", spec.horizon, "a world whose episodes are one step"
        )

    def init(self, spec: Spec) -> Store:
        shape = (len(spec.env.level_ids("train")), 2)
        return numbering(spec) | {
            "action": jnp.zeros(shape, jnp.int32),
            "logp": jnp.zeros(shape, jnp.float32),
            "full": jnp.zeros(shape, bool),
        }

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.logp_old is not None
        returns = batch.returns
        dead = ~is_informative(EqualGroups(batch.valid), returns)[:, 0]
        wanted = jnp.where(jnp.any(batch.valid & (returns > 0.0), axis=-1), 0, 1)
        if self.outcome == "random":
            wanted = jax.random.randint(ctx.key, wanted.shape, 0, 2, wanted.dtype)
        at = place(ctx.memory, batch.level_id[:, 0, 0]), wanted
        number = jnp.arange(batch.valid.shape[1], dtype=jnp.int32)[None, :]
        last = jnp.max(jnp.where(batch.valid, number, 0), axis=-1)
        put = _one_hot(last, batch) & (dead & ctx.memory["full"][at])[:, None, None]
        action = jnp.where(put, ctx.memory["action"][at][:, None, None], batch.action)
        stored = jnp.where(put, ctx.memory["logp"][at][:, None, None], batch.logp_behavior)
        now = ctx.passes[OLD].dist.logp(action)
        logp_old = jnp.where(put, stored if self.ratio == "stored" else now, batch.logp_old)
        reward = jnp.where(put, wanted.astype(jnp.float32)[:, None, None], batch.reward)
        source = jnp.where(put[..., 0], jnp.ones_like(batch.source), batch.source)
        return replace(
            batch,
            action=action.astype(batch.action.dtype),
            logp_behavior=stored,
            logp_old=logp_old,
            reward=reward,
            source=source,
        )

    def advance(self, memory: Store, batch: Batch, fit: dict[str, Array], ctx: Context) -> Store:
        """The newest rollout of either outcome, replayed ones not counted."""
        fresh = batch.valid & (batch.source == 0)
        is_right = batch.reward[..., 0] > 0.0
        at = place(memory, batch.level_id[:, 0, 0])
        for outcome, good in enumerate((fresh & ~is_right, fresh & is_right)):
            memory = _stored(memory, batch, at, outcome, good)
        return memory


def _stored(
    memory: Store, batch: Batch, prompt: Array, outcome: int, good: Bool[Array, "B G"]
) -> Store:
    """The first good rollout of every prompt that has one."""
    some, which = jnp.any(good, axis=-1), jnp.argmax(good, axis=-1)[:, None]
    nowhere = memory["full"].shape[0]
    at = (jnp.where(some, prompt, nowhere), outcome)

    def pick(x: Float[Array, "B G 1"]) -> Float[Array, "B"]:
        return jnp.take_along_axis(x[..., 0], which, axis=-1)[:, 0]

    new = {"action": pick(batch.action).astype(jnp.int32), "logp": pick(batch.logp_behavior)}
    kept = {k: memory[k].at[at].set(x, mode="drop") for k, x in new.items()}
    return memory | kept | {"full": memory["full"].at[at].set(True, mode="drop")}


def _one_hot(index: Array, batch: Batch) -> Bool[Array, "B G 1"]:
    return jax.nn.one_hot(index, batch.valid.shape[1], dtype=bool)[..., None]
