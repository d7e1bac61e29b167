"""The standard measures of a one-step world, and the entropy change beside its prediction."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxrl_envs import Environment

from jaxrl_lab import measures
from jaxrl_lab.exact import first_order_entropy_change, measured_entropy_change
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree

DESCRIBE = one_step.DESCRIBE | {
    "entropy_change": ("nats", "change of the entropy by the last update"),
    "predicted_change": ("nats", "−Cov(log π, Δz) of the last update, exact and first order"),
    "absolute_change": ("nats", "mean over prompts of |change of the entropy| by the last update"),
    "prediction_gap": ("nats", "mean over prompts of |change − predicted change|"),
}


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Everything exact that a one-step world allows, means over the train prompts."""
    correct = one_step.right_arms(env, world)
    start, old, new = one_step.log_policies(env, policy, world, first, before.params, after.params)
    mean = measures.prompt_mean
    change = measured_entropy_change(old, new - old)
    # Logits are known up to a constant per prompt, which the covariance does not see.
    predicted = first_order_entropy_change(old, new - old)
    return one_step.standard(new, old, start, correct) | {
        "entropy_change": mean(change),
        "predicted_change": mean(predicted),
        "absolute_change": mean(jnp.abs(change)),
        "prediction_gap": mean(jnp.abs(change - predicted)),
    }
