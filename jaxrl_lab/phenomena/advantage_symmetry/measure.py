"""Three looks at one-step worlds: who was pushed, how hard by difficulty, and who learned."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Float

from jaxrl_lab import measures
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree

BINS = 8
"""Classes of difficulty, of equally many prompts each, hardest first."""

DESCRIBE_PUSH = {
    "accuracy": one_step.DESCRIBE["accuracy"],
    "unsampled_move": ("nats", "mean |Δ log π − c| of arms that nobody sampled, over prompts"),
    "sampled_move": ("nats", "the same of arms that were sampled; c is the mean of unsampled ones"),
}
DESCRIBE_DIFFICULTY = {
    name.format(i): (unit, f"{text}, difficulty class {i} of {BINS}")
    for i in range(BINS)
    for name, unit, text in (
        ("rate_{}", "probability", "pass@1 before the update"),
        ("weight_{}", "step", "Δz · ∇p / |∇p|² of the last update"),
        ("noise_{}", "step²", "variance of Δz among right arms, times their number over pass@1"),
    )
}
DESCRIBE_THIRDS = one_step.DESCRIBE | {
    f"accuracy_{third}": ("probability", f"exact pass@1, mean over the {third} third of prompts")
    for third in ("hard", "middle", "easy")
}


def push(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """How far sampled and unsampled arms moved; needs ``sampled_actions`` in the update slot.

    Softmax does not see a constant on all logits of a prompt, so moves are taken against the mean
    move of its unsampled arms: logits that are left alone move by c in log π, all alike.
    """
    correct = one_step.right_arms(env, world)
    old, new = one_step.log_policies(env, policy, world, before.params, after.params)
    sampled = after.memory["update.0"] > 0
    change = new - old
    apart = jnp.abs(change - _mean(change, ~sampled)[:, None])
    return {
        "accuracy": measures.prompt_mean(measures.accuracy(new, correct)),
        "unsampled_move": jnp.mean(_mean(apart, ~sampled)),
        "sampled_move": jnp.mean(_mean(apart, sampled)),
    }


def by_difficulty(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Strength and scatter of the last update along ∇p, by pass@1 of the initial policy.

    Log-probabilities stand for logits: they differ by a constant, which neither number sees.
    """
    correct = one_step.right_arms(env, world)
    start, old, new = one_step.log_policies(env, policy, world, first, before.params, after.params)
    change, p = new - old, measures.accuracy(old, correct)
    gradient = jnp.exp(old) * (correct.astype(jnp.float32) - p[:, None])
    weight = jnp.sum(change * gradient, -1) / jnp.sum(gradient**2, -1)
    count = jnp.sum(correct, -1, dtype=jnp.float32)
    apart = jnp.where(correct, change - _mean(change, correct)[:, None], 0.0)
    noise = jnp.sum(apart**2, -1) / jnp.maximum(count - 1.0, 1.0) * count / p
    order = jnp.argsort(measures.accuracy(start, correct))
    columns = {"rate_{}": p, "weight_{}": weight, "noise_{}": noise}
    rows = {name: x[order].reshape(BINS, -1).mean(-1) for name, x in columns.items()}
    return {name.format(i): x[i] for name, x in rows.items() for i in range(BINS)}


def thirds(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """The standard measures, and accuracy by difficulty under the initial policy."""
    correct = one_step.right_arms(env, world)
    start, old, new = one_step.log_policies(env, policy, world, first, before.params, after.params)
    order = jnp.argsort(measures.accuracy(start, correct))
    p, size = measures.accuracy(new, correct)[order], len(order) // 3
    return one_step.standard(new, old, start, correct) | {
        "accuracy_hard": jnp.mean(p[:size]),
        "accuracy_middle": jnp.mean(p[size:-size]),
        "accuracy_easy": jnp.mean(p[-size:]),
    }


def _mean(x: Float[Array, "B K"], where: Array) -> Float[Array, "B"]:
    """Mean over the marked arms of each prompt; 0 without any."""
    count = jnp.maximum(jnp.sum(where, -1, dtype=jnp.float32), 1.0)
    return jnp.sum(jnp.where(where, x, 0.0), -1) / count
