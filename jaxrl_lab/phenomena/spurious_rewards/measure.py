"""The standard measures of a one-step world, the preferred arm, and the pull toward right arms."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Bool, Float

from jaxrl_lab import measures
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree

DESCRIBE = one_step.DESCRIBE | {
    "prior": ("probability", "of the arm the base policy preferred, mean over prompts"),
    "pull": ("logits", "logit change so far along ∇p, in units of ∇p, mean over prompts"),
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
    liked = jnp.argmax(start, axis=-1)[:, None]
    prior = jnp.exp(jnp.take_along_axis(new, liked, axis=-1))[:, 0]
    return one_step.standard(new, old, start, correct) | {
        "prior": measures.prompt_mean(prior),
        "pull": measures.prompt_mean(pull(start, new - start, correct)),
    }


def pull(
    start: Float[Array, "B K"], change: Float[Array, "B K"], correct: Bool[Array, "B K"]
) -> Float[Array, "B"]:
    """⟨Δz, ∇p⟩ / ⟨∇p, ∇p⟩ with ∇p_a = π_a (1[a right] − p) at the start.

    ∇p sums to zero, so that a constant in Δz, which log-probabilities do not show, has no part.
    """
    pi, p = jnp.exp(start), measures.accuracy(start, correct)[:, None]
    gradient = pi * (correct.astype(jnp.float32) - p)
    return jnp.sum(change * gradient, -1) / jnp.sum(gradient * gradient, -1)
