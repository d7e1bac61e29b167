"""Slot ``surrogate``: action values learned by regression, for tasks that come in blocks."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.types import Batch, Context, Outputs


def block_discount(
    batch: Batch, step: float | Array, episode: float | Array
) -> Float[Array, "B G T"]:
    """What the next entry is worth to this one: ``step``, ``episode``, or 0 at a border.

    ``info["trial_end"]`` marks the last step of an episode inside a block (every step, where a
    world does not say: one pull is one episode), ``info["border"]`` the last of a block.
    """
    inside = jnp.ones_like(batch.mask)
    ends, border = batch.info.get("trial_end", inside), batch.info.get("border", ~inside)
    return jnp.where(border | batch.terminated, 0.0, jnp.where(ends, episode, step))


@mechanism
class QRegression:
    """-½ (Q(s_t, a_t) − y_t)², y_t = r_t + γ_t · max_a Q(s_(t+1), a) with its gradient stopped.

    Q(s, a) = V(s) + τ log π(a|s): any policy with a value head is an action-value network, whose
    behavior is softmax(Q / τ). γ_t is ``step`` inside an episode, ``episode`` from one episode to
    the next of the same block, and 0 where the block ends: see :func:`block_discount`. Entries
    whose successor the batch does not hold (a time limit, the end of a stream) teach nothing.

    Source: the two discounts and the borders, arXiv 2508.01287 (its agent is a deep Q-network;
    here without a target network and a replay buffer); Q from V and π, arXiv 1702.08892.
    """

    episode: float = 0.9
    step: float = 1.0
    temperature: float = 1.0

    needs: ClassVar[frozenset[str]] = frozenset({"value"})
    formula: ClassVar[str] = (
        "−½(Q_t − r_t − γ_t·max Q_(t+1))², Q = V + {temperature}·log π, "
        "γ = {step} in, {episode} across episodes, 0 across blocks"
    )

    def check(self, spec: Spec) -> None:
        for name in ("episode", "step"):
            discount = float(getattr(self, name))
            expect(0.0 <= discount <= 1.0, name, discount, "a discount from 0 to 1")
        own, given = getattr(spec.policy, "temperature", None), float(self.temperature)
        same = own is None or abs(own - given) <= 1e-6 * own
        expect(given > 0 and same, "temperature", given, f"the temperature of the policy, {own}")

    def __call__(
        self, out: Outputs, batch: Batch, ctx: Context
    ) -> tuple[Float[Array, "B G T"], dict[str, Any]]:
        value = out.policy.value
        assert value is not None
        q = value + self.temperature * out.logp
        best = value + self.temperature * jnp.max(out.dist.logp_all, axis=-1)
        follows = _shift(batch.mask & ~batch.resets, False) & ~batch.truncated
        discount = jnp.where(follows, block_discount(batch, self.step, self.episode), 0.0)
        target = batch.reward + discount * jnp.where(follows, _shift(best, 0.0), 0.0)
        taught = batch.mask & (follows | batch.terminated)
        error = jnp.where(taught, q - jax.lax.stop_gradient(target), 0.0)
        return -0.5 * error**2, {}


def _shift(x: Float[Array, "B G T"] | Bool[Array, "B G T"], last: float | bool) -> Array:
    """The next entry of each rollout, ``last`` behind the last one."""
    end = jnp.full_like(x[..., :1], last)
    return jnp.concatenate([x[..., 1:], end], axis=-1)
