"""Slot ``regularizer``: no cost inside a region around the collecting policy, a steep one outside.

The regularizers of ``regularizer`` pull at every policy; a constraint pulls where it is violated.
"""

from __future__ import annotations

from typing import Any, ClassVar

import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.mechanisms.core import Spec, mechanism
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context, Outputs, masked_mean


@mechanism
class HingeKL:
    """coefficient · max(KL − limit, 0)², KL = mean over tokens of logp_old − logp.

    The estimate of KL(π_old ‖ π) from the batch, its mean over all tokens and not per token. It
    can be negative, and its gradient is that of the mean log-probability of what was sampled:
    outside the limit it pulls all sampled actions up in equal parts. At ρ = 1 it is 0, so with
    one step per batch it never acts. The released code has sg(coefficient · max(KL − limit, 0)) ·
    KL, which is the gradient of half this coefficient.

    The published numbers, limit 1e-4 and coefficient 1e3, go with a learning rate of 2e-6. A step
    that jumps over the limit is thrown back by 2 · coefficient · (KL − limit) times the gradient
    of the KL; where that is longer than the step, logits swing ever further apart. The longer the
    steps and the fewer the prompts, the smaller a coefficient this allows.

    Source: DisCO, arXiv 2505.12366.
    """

    limit: float = 1e-4
    coefficient: float = 1e3

    formula: ClassVar[str] = "{coefficient}·max(mean_tokens(log π_old − log π) − {limit}, 0)²"

    def check(self, spec: Spec) -> None:
        for name in ("limit", "coefficient"):
            low = lowest(getattr(self, name))
            expect(low >= 0, name, low, "0 or more")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, ""]:
        assert batch.logp_old is not None
        beyond = masked_mean(batch.logp_old - out.logp, batch.mask) - self.limit
        return self.coefficient * jnp.where(beyond > 0, beyond, 0.0) ** 2
