"""Slot ``weight``: which wrong answers to push down. ``(out, batch, aux, ctx) -> [B, G, T]``."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.advantage import of_rollout
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context, Outputs, importance_ratio


@mechanism
class HardNegatives:
    """w_i = m · softmax_i(s / temperature) over the m wrong rollouts of a group; 1 for right ones.

    Wrong means A < 0, and s is the mean over tokens of log π (``logp``) or of ρ (``ratio``). After
    :class:`~.asymmetry.VarianceNormalized`, with the surrogate that is s and under a sequence
    mean, the gradient is that of the discriminative objective of each group,

        mean_right s − temperature · log mean_wrong exp(s / temperature):

    the likeliest wrong answers count most. A large temperature weighs them equally, a small one
    pushes the likeliest alone; the mean weight is 1. Only the gradient is that objective's: the
    value that is reported is its linear part.

    The published temperatures are 10 for ``logp``, where the score of a token is rarely below
    −10, and 1 for ``ratio``. The released switch for ratios calls the unweighted objective; this
    follows the paper. Its constraint on the KL is :class:`~.constraint.HingeKL`.

    Source: DisCO, arXiv 2505.12366.
    """

    temperature: float = 10.0
    score: Literal["logp", "ratio"] = "logp"

    formula: ClassVar[str] = "m·softmax_wrong(mean_t {score} / {temperature}) if A < 0, else 1"

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "hard_negatives")
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
        low = lowest(self.temperature)
        expect(low > 0, "temperature", low, "a positive number")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        assert batch.logp_old is not None
        wrong = batch.valid & (of_rollout(batch) < 0)
        token = out.logp if self.score == "logp" else importance_ratio(out.logp, batch.logp_old)
        total = jnp.sum(jnp.where(batch.mask, token, 0.0), axis=-1)
        score = total / jnp.maximum(batch.lengths, 1.0) / self.temperature
        # Finite where nothing is wrong, so that such a group has no NaN.
        share = jax.nn.softmax(jnp.where(wrong, score, -1e30), axis=-1)
        weight = jnp.where(wrong, EqualGroups(wrong).count() * share, 1.0)
        return jnp.broadcast_to(weight[..., None], batch.mask.shape)
