"""Exact pass@k and coverage of both splits, interference between prompts, and the two stages."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Float

from jaxrl_lab import exact, measures
from jaxrl_lab.exact.attempts import hit
from jaxrl_lab.phenomena import one_step
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World, levels_at
from jaxrl_lab.types import LearnerState, Tree

ATTEMPTS = (1, 4, 16, 64, 256, 1024)
"""k of pass@k."""

FAR = 256
"""The k at which the boundary is looked at."""

LEAST = 0.01
"""By how much pass@k of a prompt must fall to count as lost."""

GROUP = 8
"""Rollouts of the GRPO with whose weights w_G(p) interference is reckoned, in every arm."""


def _describe(split: str) -> dict[str, tuple[str, str]]:
    of = f"mean over {split} prompts"
    return {f"pass_{k}_{split}": ("probability", f"exact pass@{k}, {of}") for k in ATTEMPTS} | {
        f"coverage_{split}": ("share", f"of the solutions, found in {FAR} tries, {of}"),
        f"solutions_{split}": ("solutions", f"exp entropy of the policy among right arms, {of}"),
        f"lost_{split}": ("share", f"{split} prompts whose pass@{FAR} is lower than at first"),
        f"kl_{split}": ("nats", f"KL from the current to the base policy, {of}"),
    }


INTERFERENCE = {
    "own": ("1/step", "d log p by a prompt's own expected gradient, mean over train prompts"),
    "helped": ("1/step", "max(x, 0) of x = d log p by the gradients of all other prompts"),
    "undone": ("1/step", "max(−x, 0) of the same"),
    "opposed": ("share", "train prompts whose pass rate the other prompts push down"),
}
DESCRIBE_TRAIN = _describe("train") | INTERFERENCE
DESCRIBE = DESCRIBE_TRAIN | _describe("test")
DESCRIBE_STAGES = {
    "best": ("probability", "of the arm that pays most, mean over prompts"),
    "known": ("probability", "of the near-optimal arm, mean over prompts"),
    "switched": ("share", "prompts on which the best arm is the likeliest"),
}


def measure(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Both splits."""
    seen = capability(env, policy, world, first, after.params, ("train", "test"))
    return seen | interference(env, policy, world, after.params)


def train_only(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """The train split alone, for policies that carry nothing over."""
    seen = capability(env, policy, world, first, after.params, ("train",))
    return seen | interference(env, policy, world, after.params)


def capability(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    params: Tree,
    splits: tuple[str, ...],
) -> dict[str, Array]:
    """What k tries achieve on each split, and how far the policy has moved on it."""
    # All prompts in one go: every line below would otherwise be compiled once per split.
    correct = jnp.concatenate([one_step.right_arms(env, world, s) for s in splits])
    start, now = (
        jnp.concatenate([one_step.log_policy(env, policy, world, x, s) for s in splits])
        for x in (first, params)
    )
    attempts = jnp.asarray(ATTEMPTS, jnp.float32)[None]
    p0, p = (measures.accuracy(x, correct)[:, None] for x in (start, now))
    before, after = hit(p0, attempts), hit(p, attempts)
    at = ATTEMPTS.index(FAR)
    columns = {f"pass_{k}": after[:, i] for i, k in enumerate(ATTEMPTS)} | {
        "coverage": measures.coverage_at_k(now, correct, FAR),
        "solutions": measures.effective_solutions(now, correct),
        "lost": (after[:, at] < before[:, at] - LEAST).astype(jnp.float32),
        "kl": measures.kl_to(now, start),
    }
    seen: dict[str, Array] = {}
    begin = 0
    for split in splits:
        end = begin + len(env.level_ids(split))
        seen |= {f"{n}_{split}": measures.prompt_mean(x[begin:end]) for n, x in columns.items()}
        begin = end
    return seen


def pass_gradients(
    env: Environment, policy: Policy, world: World, params: Tree
) -> tuple[Float[Array, "B"], Float[Array, "B N"]]:
    """Pass@1 of every train prompt, and its gradient with respect to all parameters."""
    correct = one_step.right_arms(env, world)

    def rates(params: Tree) -> Float[Array, "B"]:
        return measures.accuracy(one_step.log_policy(env, policy, world, params), correct)

    p, back = jax.vjp(rates, params)
    rows = jax.vmap(lambda row: back(row)[0])(jnp.eye(p.shape[0]))
    flat = [x.reshape(p.shape[0], -1) for x in jax.tree.leaves(rows)]
    return p, jnp.concatenate(flat, axis=1)


def interference(env: Environment, policy: Policy, world: World, params: Tree) -> dict[str, Array]:
    """What an expected GRPO update does to log p of a prompt by itself and through the others."""
    p, gradient = pass_gradients(env, policy, world, params)
    p = jnp.minimum(p, 1.0)  # sums of probabilities may round to more, where no weight is defined
    own, cross = exact.own_and_cross(gradient, exact.difficulty_weight(p, GROUP, ddof=1), p)
    mean = measures.prompt_mean
    return {
        "own": mean(own),
        "helped": mean(jnp.maximum(cross, 0.0)),
        "undone": mean(jnp.maximum(-cross, 0.0)),
        "opposed": mean((cross < 0).astype(jnp.float32)),
    }


def stages(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """Where the probability is among a best, a near-optimal and a bad arm."""
    correct = one_step.right_arms(env, world)
    levels: Any = levels_at(env, world, jnp.asarray(env.level_ids("train"), jnp.int32))
    logp = one_step.log_policy(env, policy, world, after.params)
    mass = partial(measures.accuracy, logp)
    likeliest = jnp.take_along_axis(correct, jnp.argmax(logp, -1)[:, None], axis=-1)
    return {
        "best": jnp.mean(mass(correct)),
        "known": jnp.mean(mass(~correct & (levels.reward > 0))),
        "switched": jnp.mean(likeliest.astype(jnp.float32)),
    }
