"""Slot ``reward``: what is trained on. ``(batch, ctx) -> Batch``, once, before the advantage."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import BadInput, expect

from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context


@mechanism
class Channel:
    """Train on a named reward channel instead of ``true``; diagnostics go on looking at ``true``.

    Raises:
        BadInput: when the world has no such channel (found when the program is traced).
    """

    name: str = "true"

    formula: ClassVar[str] = "r = {name}"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        return with_channel(batch, self.name)


def with_channel(batch: Batch, name: str) -> Batch:
    """The batch with a named channel as the reward that is trained on.

    Raises:
        BadInput: when the world has no such channel.
    """
    if name not in batch.channels:
        raise BadInput("recipe.reward.channel.name", name, "a reward channel", batch.channels)
    return replace(batch, reward=batch.channels[name])


@mechanism
class Overlong:
    """Soft penalty for responses that come near the length limit.

    R += clip(-(|y| - (limit - cache)) / cache, -1, 0) · penalty, paid on the last token.

    Source: DAPO, arXiv 2503.14476 (overlong reward shaping).
    """

    limit: float
    cache: float
    penalty: float = 1.0

    formula: ClassVar[str] = "R += {penalty}·clip(({limit} − {cache} − |y|)/{cache}, −1, 0)"

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "overlong")
        expect(lowest(self.cache) > 0, "cache", lowest(self.cache), "a positive length")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        over = (self.limit - self.cache - batch.lengths) / self.cache
        shaped = self.penalty * jnp.clip(over, -1.0, 0.0)
        time = jnp.arange(batch.mask.shape[-1], dtype=jnp.float32)[None, None, :]
        last = batch.mask & (time == batch.lengths[..., None] - 1.0)
        return replace(batch, reward=batch.reward + jnp.where(last, shaped[..., None], 0.0))


@mechanism
class KLInReward:
    """r_t -= coefficient · (log pi_old(a_t) - log pi_ref(a_t)): the k1 estimate, paid per token.

    Source: the RLHF practice that REINFORCE++ keeps (arXiv 2501.03262).
    """

    coefficient: float

    passes: ClassVar[tuple[str, ...]] = ("reference",)
    formula: ClassVar[str] = "r −= {coefficient}·log(π_old/π_ref)"

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        assert batch.logp_old is not None
        log_ratio = batch.logp_old - ctx.passes["reference"].dist.logp(batch.action)
        return replace(batch, reward=batch.reward - self.coefficient * log_ratio)
