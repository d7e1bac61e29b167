"""Slot ``advantage``: compare prompts with each other where a group's own answers agree."""

from __future__ import annotations

from typing import ClassVar

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import groups as group_statistics
from jaxrl_lab.groups import EqualGroups
from jaxrl_lab.mechanisms.advantage import of_rollout, per_rollout
from jaxrl_lab.mechanisms.core import Spec, mechanism, needs_episodes
from jaxrl_lab.mechanisms.schedules import lowest
from jaxrl_lab.types import Batch, Context


@mechanism
class ConsistencyGated:
    """A ← w A + (1 − w) A_prompt, w = sigmoid(steepness · (H − threshold)).

    A_prompt = (mean_group R − mean over prompts of it) / (std over prompts of it + eps) is one
    number for all rollouts of a prompt, so that unanimous groups move too: wrong ones away from
    what they said, right ones toward it. H is the entropy, in bits, of the answers of the group:
    the more they agree, the less the group's own advantage counts. The answer of a rollout is its
    last action. A large steepness with a negative threshold leaves A as it is, a large threshold
    leaves A_prompt alone. A batch of one prompt, or of equally good ones, has A_prompt = 0.

    A rollout's own return is a G-th of what its A_prompt is made of: the expected gradient of
    A_prompt is a G-th of REINFORCE's, up to the batch's baseline and deviation, and the rest of
    it is other rollouts' luck.

    The published loss mixes two clipped surrogates, this the advantages inside one: the same as
    long as no ratio leaves the clip range, or A and A_prompt have one sign. Reviews of the paper
    have steepness 20 and threshold 1.5; its released script has 5 and 1, as here, and also gives
    rollouts of reward 0 A_prompt alone, which is not here. That code takes H in bits: six
    different answers have 2.58, a group split in two has 1.

    Source: COPO, arXiv 2508.04138, and its public code.
    """

    steepness: float = 5.0
    threshold: float = 1.0
    eps: float = 1e-6

    formula: ClassVar[str] = (
        "A ← w·A + (1 − w)·(mean_group R − mean)/(std + {eps}), "
        "w = σ({steepness}·(H_bits(answers) − {threshold}))"
    )

    def check(self, spec: Spec) -> None:
        needs_episodes(spec, "consistency_gated")
        expect(spec.group >= 2, "recipe.group", spec.group, "at least 2 rollouts per prompt")
        given = len(spec.recipe.advantage) > 1
        expected = "a group advantage before consistency_gated, which mixes it"
        expect(given, "recipe.advantage", "consistency_gated", expected)
        expect(lowest(self.steepness) >= 0, "steepness", lowest(self.steepness), "0 or more")
        expect(lowest(self.eps) > 0, "eps", lowest(self.eps), "a positive number")

    def __call__(self, batch: Batch, ctx: Context) -> Batch:
        own = jax.nn.sigmoid(self.steepness * (answer_entropy(batch) - self.threshold))
        mixed = own * of_rollout(batch) + (1.0 - own) * self._of_prompt(batch)
        return per_rollout(batch, mixed)

    def _of_prompt(self, batch: Batch) -> Float[Array, "B G"]:
        """How much better the prompt went than the batch's others, in their deviations."""
        score = group_statistics.mean(EqualGroups(batch.valid), batch.returns)
        prompts = EqualGroups(jnp.any(batch.valid, axis=-1)[None, :])
        mean = score[None, :, 0]
        apart = mean - group_statistics.mean(prompts, mean)
        apart = jnp.where(group_statistics.is_informative(prompts, mean), apart, 0.0)
        scaled = apart / (group_statistics.std(prompts, mean) + self.eps)
        return jnp.broadcast_to(scaled[0, :, None], batch.valid.shape)


def answer_entropy(batch: Batch) -> Float[Array, "B G"]:
    """−Σ_u f_u log2 f_u over the distinct answers of each group, f_u the share of answer u.

    Written as the mean over rollouts of −log2 of the share of their own answer.
    """
    groups = EqualGroups(batch.valid)
    last = jnp.maximum(batch.lengths - 1.0, 0.0).astype(jnp.int32)[..., None]
    answer = jnp.take_along_axis(batch.action, last, axis=-1)[..., 0]
    same = (answer[:, :, None] == answer[:, None, :]) & batch.valid[:, None, :]
    alike = jnp.sum(same, axis=-1, dtype=jnp.float32)
    share = jnp.maximum(alike, 1.0) / jnp.maximum(groups.count(), 1.0)
    return group_statistics.mean(groups, -jnp.log2(share))
