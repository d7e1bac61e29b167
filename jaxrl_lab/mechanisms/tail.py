"""Slot ``regularizer``: protecting rare actions that are worth keeping."""

from __future__ import annotations

from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import OLD, Spec, mechanism
from jaxrl_lab.mechanisms.schedules import highest, lowest
from jaxrl_lab.mechanisms.tokens import check_share, quantile
from jaxrl_lab.types import Batch, Context, Outputs


def filtered(logp_all: Float[Array, "... K"], keep: float) -> Float[Array, "... K"]:
    """log of the proxy q: what has at least ``keep`` times the top probability, renormalized."""
    kept = logp_all >= jnp.log(keep) + jnp.max(logp_all, axis=-1, keepdims=True)
    return jax.nn.log_softmax(jnp.where(kept, logp_all, -jnp.inf), axis=-1)


@mechanism
class LpReg:
    """coefficient · k3(π, q) on rare tokens that were punished although a filter keeps them.

    q is the collecting policy without its noise: actions below ``keep`` times the probability of
    the likeliest are left out, the others renormalized by their mass Z. The set: real tokens with
    A < 0, among the ``fraction`` of these with the lowest log π, and with log π < log q, which a
    filtered token never has. k3 = e^d - d - 1, d = log q - log π, so d k3 / d log π = 1 - q/π: on
    π = π_old it is 1 - 1/Z ≤ 0, which pushes the token up, the more the filter takes away.

    Where nothing is filtered (``keep`` → 0) on-policy, nothing happens; and once the likeliest
    action has 1/keep times the probability of a rare good one, that one is filtered itself. The
    published keep 0.02 and fraction 0.01 belong to vocabularies of 10^5; rescale them. To be used
    with a surrogate that leaves ρ A unclipped where A < 0 (``clip`` with ``low: 1``).

    Source: Lp-Reg, arXiv 2510.03222 and its public code (the paper writes a forward KL to q, the
    code the k3 estimate at the sampled token, which is what is here).
    """

    coefficient: float = 1.0
    keep: float = 0.02
    fraction: float = 0.01

    passes: ClassVar[tuple[str, ...]] = (OLD,)
    formula: ClassVar[str] = (
        "{coefficient}·k3(π, q) on the rarest {fraction} with A < 0, q ∝ π_old ≥ {keep}·max π_old"
    )

    def check(self, spec: Spec) -> None:
        check_share(self.fraction)
        low, high = lowest(self.keep), highest(self.keep)
        expect(low >= 0 and high <= 1, "keep", low, "a share of the top probability in [0, 1]")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        assert batch.advantage is not None
        proxy = filtered(out.passes[OLD].dist.logp_all, self.keep)
        index = batch.action[..., None].astype(jnp.int32)
        goal = jnp.take_along_axis(proxy, index, axis=-1)[..., 0]
        punished = batch.mask & (batch.advantage < 0)
        logp = jax.lax.stop_gradient(out.logp)
        rare = logp <= quantile(logp, jnp.asarray(self.fraction), punished)
        chosen = punished & rare & (self.fraction > 0) & (logp < goal)
        # -inf where filtered, which must stay out of the gradient of e^d as well.
        d = jnp.where(chosen, goal - out.logp, 0.0)
        return self.coefficient * jnp.where(chosen, jnp.exp(d) - d - 1.0, 0.0)
