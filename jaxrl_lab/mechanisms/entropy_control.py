"""Slot ``regularizer``: controllers that look back over the updates before they push.

``(out, batch, aux, ctx) -> [B, G, T]`` or a scalar. Their memory advances once per outer update,
after it, so what acts in an update is what was known when its batch was collected.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.types import Batch, Context, Outputs, masked_mean


@mechanism
class EPO:
    """-coefficient · (H - smoothing · w · P): a bonus for entropy near its own history, per turn.

    H̄_k is the mean over all past updates of the mean entropy at turn k (a turn that no rollout
    reached counts as 0). P is 0 where low · H̄_k < H < high · H̄_k, and elsewhere

    * ``literal``: ``height``, as published. A constant has no gradient: this form acts on the
      value of the loss only and trains exactly like the plain entropy bonus.
    * ``hinge``: height · [(low · H̄ - H)₊ + (H - high · H̄)₊] / H̄, which does have one, and is 0
      before there is a history.

    w is :func:`phase_weight` of the progress. P acts on batches that reach the second half of the
    longest episode; a turn is a step.

    Source: EPO, arXiv 2509.22576 and its public code; the hinge is ours.
    """

    coefficient: float = 0.001
    smoothing: float = 1.0
    height: float = 0.05
    low: float = 0.0
    high: float = 2.0
    form: Literal["literal", "hinge"] = "hinge"

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = (
        "−{coefficient}·(H(π) − {smoothing}·w·{height}·{form}(H/H_history ∉ ({low}, {high})))"
    )

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "epo")
        top = lowest(self.high)
        expect(highest(self.low) <= top, "low", highest(self.low), f"at most high = {top:g}")

    def init(self, spec: Spec) -> dict[str, Any]:
        """Sum over updates of the mean entropy of every turn, and their number."""
        return {"total": jnp.zeros(spec.horizon), "updates": jnp.float32(0.0)}

    def advance(
        self, memory: dict[str, Any], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> dict[str, Any]:
        entropy = jnp.where(batch.mask, ctx.passes[OLD].dist.entropy(), 0.0)
        count = jnp.sum(batch.mask, axis=(0, 1), dtype=jnp.float32)
        by_turn = jnp.sum(entropy, axis=(0, 1)) / jnp.maximum(count, 1.0)
        return {"total": memory["total"] + by_turn, "updates": memory["updates"] + 1.0}

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        entropy = out.dist.entropy()
        mean = (ctx.memory["total"] / jnp.maximum(ctx.memory["updates"], 1.0))[None, None, :]
        if self.form == "literal":
            inside = (entropy > self.low * mean) & (entropy < self.high * mean)
            penalty = jnp.where(inside, 0.0, self.height)
        else:
            below = jax.nn.relu(self.low * mean - entropy)
            above = jax.nn.relu(entropy - self.high * mean)
            known = mean > 0
            off = (below + above) / jnp.where(known, mean, 1.0)
            penalty = jnp.where(known, self.height * off, 0.0)
        turns = batch.mask.shape[-1]
        late = jnp.any(batch.mask[..., turns // 2 :])  # turns are counted from 1
        weight = jnp.where(late, self.smoothing * phase_weight(ctx.progress), 0.0)
        return -self.coefficient * (entropy - weight * penalty)


def phase_weight(progress: Float[Array, ""]) -> Float[Array, ""]:
    """EPO's weight over training: 1 to 0.83 in the first half, then 0.8 to 0.04, with a step."""
    early = 1.0 - 0.2 * (1.0 - jnp.exp(-4.0 * progress))
    late = 0.8 * jnp.exp(-3.0 * (2.0 * progress - 1.0))
    return jnp.where(progress < 0.5, early, late)


@mechanism
class Safe:
    """A KL penalty that sets in above a threshold, which a PID controller and a phase move.

    Once per update: k ← 0.9 k + 0.1 KL, with the k3 estimate of KL(π_old ‖ π_tree) at the sampled
    tokens; r̄ ← 0.95 r̄ + 0.05 r, with the mean return r, from the first r on; error e = Δr̄ - 0.001,
    0 before the first update; u = proportional · e + integral · clip(Σe, ±1) + derivative · Δe;
    τ = clip((threshold + u) · phase, low, high). ``phase``, from the mean returns of the last
    ``window`` updates and of those before: 1.5 while there are fewer; 1.2 where the mean rose by
    more than 0.01; 1 where it is above 0.7 with a deviation below 0.02; else 0.8.

    Where k > τ, with gate = max(0.5, floor/(H + 0.1)) and the excess k - τ:

    * ``literal``: rate · excess² · gate, a number without gradient, as released: inert.
    * ``differentiable``: its derivative by k as the coefficient of the exact KL to the reference,
      2 · rate · excess · gate · KL(π ‖ π_tree).

    The paper's twin critic, its unused slow KL average and its uncalled step scaling by a
    previewed KL are not here.

    Source: SAFE, its public code (GitHub ryyzn9/SAFE); the differentiable form is ours.
    """

    threshold: float = 0.3
    low: float = 0.1
    high: float = 0.6
    rate: float = 0.1
    floor: float = 2.0
    proportional: float = 0.3
    integral: float = 0.01
    derivative: float = 0.05
    window: int = 50
    form: Literal["literal", "differentiable"] = "differentiable"
    tree: str = "reference"

    formula: ClassVar[str] = (
        "{rate}·(k − τ)₊·max(½, {floor}/H)·KL_{form}(π ‖ π_{tree}), "
        "τ = clip(({threshold} + PID(reward))·phase, {low}, {high})"
    )

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "safe")
        top = lowest(self.high)
        expect(highest(self.low) <= top, "low", highest(self.low), f"at most high = {top:g}")
        expect(self.window >= 1, "window", self.window, "at least 1 update")

    def init(self, spec: Spec) -> dict[str, Any]:
        """The averages, the error and its sum, and the mean returns of two windows."""
        zero = jnp.float32(0.0)
        scalars = dict.fromkeys(("kl", "reward", "error", "change", "sum", "updates"), zero)
        return scalars | {"returns": jnp.zeros(2 * self.window)}

    def advance(
        self, memory: dict[str, Any], batch: Batch, fit: dict[str, Array], ctx: Context
    ) -> dict[str, Any]:
        assert batch.logp_old is not None
        d = ctx.passes[self.tree].dist.logp(batch.action) - batch.logp_old
        kl = masked_mean(jnp.exp(d) - d - 1.0, batch.mask)
        paid = masked_mean(batch.returns, batch.valid)
        before = jnp.where(memory["updates"] > 0, memory["reward"], paid)
        error = 0.05 * (paid - before) - 0.001
        return {
            "kl": 0.9 * memory["kl"] + 0.1 * kl,
            "reward": before + 0.05 * (paid - before),
            "error": error,
            "change": error - memory["error"],
            "sum": memory["sum"] + error,
            "updates": memory["updates"] + 1.0,
            "returns": jnp.roll(memory["returns"], 1).at[0].set(paid),
        }

    def threshold_now(self, memory: dict[str, Any]) -> Float[Array, ""]:
        """τ: how far from the reference is too far."""
        steering = (
            self.proportional * memory["error"]
            + self.integral * jnp.clip(memory["sum"], -1.0, 1.0)
            + self.derivative * memory["change"]
        )
        return jnp.clip((self.threshold + steering) * self._phase(memory), self.low, self.high)

    def _phase(self, memory: dict[str, Any]) -> Float[Array, ""]:
        """1.5 warming up, 1.2 climbing, 1 converged, 0.8 on a plateau."""
        last, past = jnp.split(memory["returns"], 2)
        known = jnp.arange(self.window, dtype=jnp.float32) < memory["updates"] - self.window
        rose = (jnp.mean(last) - masked_mean(past, known) > 0.01) & jnp.any(known)
        arrived = (jnp.std(last) < 0.02) & (jnp.mean(last) > 0.7)
        settled = jnp.where(rose, 1.2, jnp.where(arrived, 1.0, 0.8))
        return jnp.where(memory["updates"] < self.window, 1.5, settled)

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "..."]:
        excess = jnp.maximum(ctx.memory["kl"] - self.threshold_now(ctx.memory), 0.0)
        entropy = masked_mean(jax.lax.stop_gradient(out.dist.entropy()), batch.mask)
        gate = jnp.maximum(self.floor / (entropy + 0.1), 0.5)
        if self.form == "literal":
            return self.rate * excess**2 * gate
        logp_all, reference = out.dist.logp_all, out.passes[self.tree].dist.logp_all
        kl = jnp.sum(jnp.exp(logp_all) * (logp_all - reference), axis=-1)
        return 2.0 * self.rate * excess * gate * kl
