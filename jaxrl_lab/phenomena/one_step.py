"""What is exact about one-step worlds: read off the policy itself, not off samples."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab import exact, measures
from jaxrl_lab.experiments.population import Arm
from jaxrl_lab.mechanisms.advantage import GroupNormalized
from jaxrl_lab.mechanisms.optimizer import SGD
from jaxrl_lab.mechanisms.schedules import Schedule
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.policies.tabular import Tabular
from jaxrl_lab.rollouts import World, levels_at, make_world, observe
from jaxrl_lab.types import LearnerState, Tree

DESCRIBE = {
    "accuracy": ("probability", "exact pass@1, mean over prompts"),
    "solutions": ("solutions", "exp entropy of the policy among right arms, mean over prompts"),
    "deficit": ("nats", "log M minus the entropy of the policy among right arms"),
    "entropy": ("nats", "entropy of the policy, mean over prompts"),
    "kl": ("nats", "KL from the current to the initial policy, mean over prompts"),
    "kl_step": ("nats", "KL from the policy after the last update to the one before it"),
}
"""Unit and description of what :func:`standard` returns."""


def log_policy(
    env: Environment, policy: Policy, world: World, params: Tree, split: str = "train"
) -> Float[Array, "B K"]:
    """Log-probabilities of all arms on every prompt of a split."""
    ids = jnp.asarray(env.level_ids(split), jnp.int32)
    shape = (len(ids), 1, 1)
    obs = observe(env, world, ids[:, None, None], (), shape)
    resets = jnp.ones(shape, bool)
    return policy.unroll(params, obs, resets, policy.start(shape[:2])).dist.logp_all[:, 0, 0]


def log_policies(
    env: Environment, policy: Policy, world: World, *params: Tree
) -> tuple[Float[Array, "B K"], ...]:
    """:func:`log_policy` on the train prompts, of several parameter trees."""
    return tuple(log_policy(env, policy, world, one) for one in params)


def right_arms(env: Environment, world: World, split: str = "train") -> Bool[Array, "B K"]:
    """Which arms are right on every prompt of a split.

    Raises:
        BadInput: a world of several steps, or one whose levels do not say which arms are right.
    """
    one_step = env.horizon == 1 and hasattr(world.bank, "mode")
    expect(one_step, "environment.id", type(env).__name__, "bandit/modes, which has exact answers")
    levels: Any = levels_at(env, world, jnp.asarray(env.level_ids(split), jnp.int32))
    return levels.mode >= 0


def step_per_prompt(arm: Arm) -> float:
    """Learning rate on the mean over prompts, as the step on one prompt's own mean objective."""
    prompts = arm.recipe.prompts or len(arm.env.level_ids("train"))
    return float(arm.recipe.optimizer[0].learning_rate) / prompts


def is_plain_grpo(arm: Arm) -> bool:
    """Group-normalized advantages, plain SGD on whole batches, a table: its update is exact."""
    recipe, whole = arm.recipe, len(arm.env.level_ids("train"))
    slots = tuple(type(m) for m in (*recipe.optimizer, *recipe.advantage))
    if slots != (SGD, GroupNormalized) or not isinstance(arm.policy, Tabular):
        return False
    (sgd,) = recipe.optimizer
    plain = sgd.momentum is None and not isinstance(sgd.learning_rate, Schedule)
    return plain and recipe.minibatches == 1 and recipe.prompts in (0, whole)


@partial(jax.jit, static_argnames=("env", "group", "updates", "ddof"))
def expected_path(
    env: Environment,
    env_params: Tree,
    logits: Float[Array, "R K"],
    step: Float[Array, ""],
    group: int,
    updates: int,
    ddof: int = 1,
) -> tuple[Float[Array, "N"], Float[Array, "N"]]:
    """Pass@1 and effective solutions along the expected update of GRPO from a table of logits.

    Means over the train prompts, one point per update: :func:`jaxrl_lab.exact.expected_path`.
    """
    correct = right_arms(env, make_world(env, env_params))

    def one(z: Array, right: Array) -> tuple[Array, Array]:
        path = exact.expected_path(z, right, group, step, updates, ddof)
        logp = jax.nn.log_softmax(path)
        right = jnp.broadcast_to(right, logp.shape)
        return measures.accuracy(logp, right), measures.effective_solutions(logp, right)

    accuracy, solutions = jax.vmap(one)(logits[: len(correct)], correct)
    return accuracy.mean(0), solutions.mean(0)


def standard(
    new: Float[Array, "B K"],
    old: Float[Array, "B K"],
    start: Float[Array, "B K"],
    correct: Bool[Array, "B K"],
) -> dict[str, Any]:
    """What every phenomenon of one step looks at, means over prompts.

    ``new``, ``old`` and ``start`` are log-probabilities after the last update, before it, and
    before the training.
    """
    mean = measures.prompt_mean
    return {
        "accuracy": mean(measures.accuracy(new, correct)),
        "solutions": mean(measures.effective_solutions(new, correct)),
        "deficit": mean(measures.solution_deficit(new, correct)),
        "entropy": mean(measures.token_entropy(new)),
        "kl": mean(measures.kl_to(new, start)),
        "kl_step": mean(measures.kl_to(new, old)),
    }


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """:func:`standard` on the train prompts, as a measure of a population."""
    correct = right_arms(env, world)
    start, old, new = log_policies(env, policy, world, first, before.params, after.params)
    return standard(new, old, start, correct)
