"""What is exact about a one-step world: measured on the policy itself, not on samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab import measures
from jaxrl_lab.exact import first_order_entropy_change, measured_entropy_change
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World, observe
from jaxrl_lab.types import LearnerState, Tree

DESCRIBE = {
    "accuracy": ("probability", "exact pass@1, mean over prompts"),
    "solutions": ("solutions", "exp entropy of the policy among right arms, mean over prompts"),
    "deficit": ("nats", "log M minus the entropy of the policy among right arms"),
    "entropy": ("nats", "entropy of the policy, mean over prompts"),
    "kl": ("nats", "KL from the current to the initial policy, mean over prompts"),
    "kl_step": ("nats", "KL from the policy after the last update to the one before it"),
    "entropy_change": ("nats", "change of the entropy by the last update"),
    "predicted_change": ("nats", "−Cov(log π, Δz) of the last update, exact and first order"),
    "absolute_change": ("nats", "mean over prompts of |change of the entropy| by the last update"),
    "prediction_gap": ("nats", "mean over prompts of |change − predicted change|"),
}


def log_policy(
    env: Environment, policy: Policy, world: World, params: Tree, count: int
) -> Float[Array, "B K"]:
    """Log-probabilities of all arms on the first ``count`` train prompts."""
    ids = jnp.arange(count, dtype=jnp.int32) + env.level_ids("train").start
    shape = (count, 1, 1)
    obs = observe(env, world, ids[:, None, None], (), shape)
    resets = jnp.ones(shape, bool)
    return policy.unroll(params, obs, resets, policy.start(shape[:2])).dist.logp_all[:, 0, 0]


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Everything exact that a one-step world allows, means over the train prompts."""
    bank: Any = world.bank
    one_step = env.horizon == 1 and hasattr(bank, "mode")
    expect(one_step, "environment.id", type(env).__name__, "bandit/modes, which has exact answers")
    count = len(env.level_ids("train"))
    look = partial(log_policy, env, policy, world, count=count)
    start, old, new = look(params=first), look(params=before.params), look(params=after.params)
    correct = bank.mode[:count] >= 0
    mean = measures.prompt_mean
    change = measured_entropy_change(old, new - old)
    # Logits are known up to a constant per prompt, which the covariance does not see.
    predicted = first_order_entropy_change(old, new - old)
    return {
        "accuracy": mean(measures.accuracy(new, correct)),
        "solutions": mean(measures.effective_solutions(new, correct)),
        "deficit": mean(measures.solution_deficit(new, correct)),
        "entropy": mean(measures.token_entropy(new)),
        "kl": mean(measures.kl_to(new, start)),
        "kl_step": mean(measures.kl_to(new, old)),
        "entropy_change": mean(change),
        "predicted_change": mean(predicted),
        "absolute_change": mean(jnp.abs(change)),
        "prediction_gap": mean(jnp.abs(change - predicted)),
    }
