"""Slot ``advantage``: one rollout per prompt, judged by what the prompt paid before."""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.advantage import per_rollout
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes, resolve
from jaxrl_lab.mechanisms.prompts import numbering, place
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Context, masked_mean

MOST_PROMPTS = 2**20
"""Largest number of prompts whose history is kept."""


@mechanism
class BetaBaseline:
    """A = R - α/(α + β) of the prompt, where α and β count its past successes and failures.

    Both start with N = 1/(1 - forget_low) rollouts of success rate ``start`` and are kept per
    train prompt; a prompt that the batch visits has α ← ϱα + Σ R, β ← ϱβ + Σ (1 - R), after its
    advantage was taken. R must lie in [0, 1]. With ϱ = 1 this is the posterior mean of a
    Bernoulli rate.

    ϱ follows k, the mean over the last ``window`` updates of the k3 estimate of
    KL(π_old ‖ π_tree) at the sampled tokens: forget_low + (k/target)(forget_high - forget_low) up
    to ``target``, and forget_low beyond it. So the published rule forgets most at k = 0 as well,
    and jumps at the target. The published target 0.01 suits a large model, whose policy stays
    near its reference.

    Source: MSSR (its plain form is called MVSR), arXiv 2512.18215 and its public code.
    """

    forget_low: float = 0.875
    forget_high: float = 0.96
    target: float = 0.01
    start: float = 0.5
    window: int = 20
    tree: str = "reference"

    formula: ClassVar[str] = (
        "A = R − α/(α+β), (α, β) ← ϱ·(α, β) + (R, 1−R), "
        "ϱ ∈ [{forget_low}, {forget_high}] by KL/{target}"
    )

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "beta_baseline")
        low, high = lowest(self.forget_low), lowest(self.forget_high)
        expect(low >= 0 and highest(self.forget_low) < 1, "forget_low", low, "in [0, 1)")
        expect(low <= high, "forget_high", high, f"at least forget_low = {low:g}")
        expect(
            highest(self.forget_high) <= 1, "forget_high", highest(self.forget_high), "at most 1"
        )
        expect(lowest(self.target) > 0, "target", lowest(self.target), "a positive KL")
        expect(0 <= lowest(self.start) <= 1, "start", lowest(self.start), "a success rate")
        expect(self.window >= 1, "window", self.window, "at least 1 update")
        prompts = len(spec.env.level_ids("train"))
        expect(
            prompts <= MOST_PROMPTS, "environment", prompts, f"at most {MOST_PROMPTS} train prompts"
        )

    def init(self, spec: Spec) -> dict[str, Any]:
        """Counts per prompt, the KL of the last updates, and how many there were."""
        now = resolve(self, jnp.float32(0.0))
        weight = jnp.full(len(spec.env.level_ids("train")), 1.0) / (1.0 - now.forget_low)
        counts = {"won": now.start * weight, "lost": (1.0 - now.start) * weight}
        history = {"kl": jnp.zeros(self.window), "updates": jnp.float32(0.0)}
        return numbering(spec) | counts | history

    def advance(
        self, memory: dict[str, Any], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> dict[str, Any]:
        updates, at = memory["updates"] + 1.0, place(memory, batch.level_id[:, 0, 0])
        kl = jnp.roll(memory["kl"], 1).at[0].set(self._divergence(batch, ctx))
        keep = self.memory_factor(jnp.sum(kl) / jnp.minimum(updates, float(self.window)))
        none = jnp.zeros_like(memory["won"])
        rollouts = jnp.sum(batch.valid, axis=-1, dtype=jnp.float32)
        won = jnp.sum(jnp.where(batch.valid, batch.returns, 0.0), axis=-1)
        keep = jnp.where(none.at[at].add(rollouts) > 0, keep, 1.0)
        return memory | {
            "won": keep * memory["won"] + none.at[at].add(won),
            "lost": keep * memory["lost"] + none.at[at].add(rollouts - won),
            "kl": kl,
            "updates": updates,
        }

    def memory_factor(self, kl: Float[Array, ""]) -> Float[Array, ""]:
        """ϱ at a mean divergence."""
        share = jnp.where(kl > self.target, 0.0, kl / self.target)
        return self.forget_low + share * (self.forget_high - self.forget_low)

    def _divergence(self, batch: Batch, ctx: Context) -> Float[Array, ""]:
        assert batch.logp_old is not None
        d = ctx.passes[self.tree].dist.logp(batch.action) - batch.logp_old
        return masked_mean(jnp.exp(d) - d - 1.0, batch.mask)

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        at = place(ctx.memory, batch.level_id[:, 0, 0])
        won, lost = ctx.memory["won"][at], ctx.memory["lost"][at]
        return per_rollout(batch, batch.returns - (won / (won + lost))[:, None])
