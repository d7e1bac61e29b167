"""The standard measures of a one-step world, and which groups can teach anything."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Bool, Float

from jaxrl_lab import measures
from jaxrl_lab.exact import informative_chance
from jaxrl_lab.mechanisms.hint import without_hints
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World, levels_at
from jaxrl_lab.types import LearnerState, Tree

SIZES = (2, 4, 8, 16, 32)
"""Group sizes for which the closed form is recorded."""

DESCRIBE = (
    one_step.DESCRIBE
    | {
        "accuracy_hard": ("probability", "exact pass@1, mean over the third that began hardest"),
        "groups": ("share", "informative groups of the last batch"),
        "rollouts": ("share", "rollouts of the last batch in informative groups"),
        "expected_groups": ("share", "groups, as expected from pass@1 and the sizes of the batch"),
        "expected_rollouts": ("share", "rollouts, as expected from pass@1 and the sizes"),
        "largest": ("rollouts", "largest group of the last batch"),
        "hinted": ("share", "prompts that are shown a hint"),
    }
    | {f"expected_{g}": ("share", f"1 − q^G − (1−q)^G, mean over prompts, G = {g}") for g in SIZES}
)


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """What the policy can do without hints, and the closed form beside the last batch.

    The batch itself is known where a budget keeps a record of it. q is the probability that a
    rollout is verified, pass@1 where the verifier makes no errors; hints are in it.
    """
    correct = one_step.right_arms(env, world)
    start, old, new, sampled = one_step.log_policies(
        env, policy, world, first, _bare(before), _bare(after), before.params
    )
    q = jnp.sum(jnp.exp(sampled) * verified_rates(env, world), axis=-1)
    hard = hardest_third(measures.accuracy(start, correct)).astype(jnp.float32)
    seen = one_step.standard(new, old, start, correct)
    seen["accuracy_hard"] = measures.prompt_mean(measures.accuracy(new, correct), hard)
    seen |= {f"expected_{g}": jnp.mean(informative_chance(q, jnp.float32(g))) for g in SIZES}
    record = after.memory.get("task.0", {})
    if "visit_count" in record:
        seen |= last_batch(record["visit_right"], record["visit_count"], q)
    if "update.0" in after.memory:
        seen["hinted"] = jnp.mean(after.memory["update.0"]["shown"].astype(jnp.float32))
    return seen


def last_batch(
    right: Float[Array, "P"], count: Float[Array, "P"], q: Float[Array, "P"]
) -> dict[str, Array]:
    """Shares of groups and of rollouts that are informative, as they were and as expected."""
    informative = ((right > 0) & (right < count)).astype(jnp.float32)
    chance = informative_chance(q, count)
    return {
        "groups": measures.prompt_mean(informative),
        "rollouts": measures.prompt_mean(informative, count),
        "expected_groups": measures.prompt_mean(chance),
        "expected_rollouts": measures.prompt_mean(chance, count),
        "largest": jnp.max(count),
    }


def verified_rates(env: Any, world: World) -> Float[Array, "P K"]:
    """Expected verdict on every arm of every train prompt."""
    levels = levels_at(env, world, jnp.asarray(env.level_ids("train"), jnp.int32))
    rates: Array = jax.vmap(env.verified_rate, in_axes=(None, 0))(world.params, levels)
    return rates


def hardest_third(p: Float[Array, "P"]) -> Bool[Array, "P"]:
    """The third of the prompts with the lowest pass@1; ties by number."""
    index = jnp.arange(p.size)
    tied = (p[None, :] == p[:, None]) & (index[None, :] < index[:, None])
    lower = (p[None, :] < p[:, None]) | tied
    return jnp.sum(lower, axis=-1) < -(-p.size // 3)


def _bare(state: LearnerState) -> Tree:
    """Parameters of the policy as it acts without hints."""
    hints = state.memory.get("update.0")
    return state.params if hints is None else without_hints(hints, state.params)
