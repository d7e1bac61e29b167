"""Slot ``regularizer``: pull the policy toward a distribution that covers every good answer.

The reverse KL to a reference, KL(pi ‖ pi_ref), is :class:`~.regularizer.KLToReference`. On the
logit of an arm k its restoring force is pi_k (log(pi_k / ref_k) − KL) and vanishes with pi_k: an
arm that is lost stays lost. The forces here do not vanish, or only like the square root.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context, Outputs, masked_mean


@mechanism
class DistributionMatching:
    """coefficient · mean over groups of (1/G) Σ_i (q_i − p_i)².

    p_i = softmax_i(R_i / temperature) is a target over the rollouts of a group and
    q_i = softmax_i(mean over tokens of logp_i) what the policy says of them. The gradient on the
    score of rollout i is (2/G) q_i [(q_i − p_i) − Σ_j q_j (q_j − p_j)].

    A group whose rewards are all equal still has a gradient, unless its rollouts are equally
    likely. A response that was drawn twice is two rollouts: its score counts twice in q and it
    gets two shares of the target, so that the optimum is equal likelihood of all right responses
    in the group whatever their copies. Responses outside the group are not seen. A group of one
    rollout has no gradient.

    Source: DMPO, arXiv 2605.19461; the temperature and the coefficient are not published.
    """

    coefficient: float
    temperature: float = 0.1

    formula: ClassVar[str] = (
        "{coefficient}·mean_group(softmax(mean_t log π) − softmax(R/{temperature}))²"
    )

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "distribution_matching")
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
        low = lowest(self.temperature)
        expect(low > 0, "temperature", low, "a positive number")

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, ""]:
        groups = EqualGroups(batch.valid)
        total = jnp.sum(jnp.where(batch.mask, out.logp, 0.0), axis=-1)
        score = total / jnp.maximum(batch.lengths, 1.0)
        share = _softmax(score, batch)
        target = _softmax(batch.returns / self.temperature, batch)
        per_group = group_statistics.mean(groups, (share - target) ** 2)
        return self.coefficient * masked_mean(per_group, batch.valid)


def _softmax(score: Float[Array, "B G"], batch: Batch) -> Float[Array, "B G"]:
    """Shares among the valid rollouts of each group; 0 elsewhere."""
    kept = jnp.where(batch.valid, score, -1e30)  # finite: a group may have no valid rollout
    return jnp.where(batch.valid, jax.nn.softmax(kept, axis=-1), 0.0)


@mechanism
class ReferenceDivergence:
    """coefficient · Σ_a pi_ref(a) f(pi(a) / pi_ref(a)), exact over all actions.

    ``forward_kl``, f(u) = u − log u − 1: KL(pi_ref ‖ pi), with gradient pi − pi_ref on the logits.
    ``js``, f(u) = u log u − (u + 1) log((u + 1)/2): twice the Jensen-Shannon divergence in nats,
    between 0 and 2 log 2.

    The published method averages f over stored responses of the reference that are correct, on
    prompts that the reference solves; this is the same penalty without the noise of the store and
    without the choice of prompts and responses, so that it also holds on to wrong answers.

    Source: DPH-RL, arXiv 2509.07430.
    """

    coefficient: float
    divergence: Literal["forward_kl", "js"] = "forward_kl"
    tree: str = "reference"

    formula: ClassVar[str] = "{coefficient}·D_{divergence}(π, π_{tree})"

    @property
    def passes(self) -> tuple[str, ...]:
        return (self.tree,)

    def __call__(
        self, out: Outputs, batch: Batch, aux: dict[str, Any], ctx: Context
    ) -> Float[Array, "B G T"]:
        logp, reference = out.dist.logp_all, out.passes[self.tree].dist.logp_all
        if self.divergence == "forward_kl":
            apart = jnp.exp(reference) * (reference - logp)
        else:
            middle = jnp.logaddexp(logp, reference) - jnp.log(2.0)
            apart = jnp.exp(logp) * (logp - middle) + jnp.exp(reference) * (reference - middle)
        return self.coefficient * jnp.sum(apart, axis=-1)
