"""What greedy policies do, exactly: in a block of search or safe, and on the counts of a bandit."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs import Environment
from jaxtyping import Array, Float

from jaxrl_lab import exact
from jaxrl_lab.policies.core import Policy
from jaxrl_lab.rollouts import World
from jaxrl_lab.types import LearnerState, Tree

TRIALS = 200
"""A block of mean 20 is longer with a chance of 4e-5."""
EARLY = 4
"""Trials of a block over which coverage is counted."""

SWITCH = {
    "gap": ("pay", "learned value of the best search minus that of safe, at a fresh block"),
    "searches": ("share", "whether the greedy policy begins a block with a search"),
    "pay": ("pay", "exact pay per trial of the greedy policy, mean over blocks"),
    "coverage": ("share", "places the greedy policy has tried after four trials of a block"),
}
BANDIT = {
    "pay": ("pay", "exact pay per pull of the greedy policy, mean over tasks"),
    "coverage": ("share", "arms tried in the first half"),
    "suffix_failure": ("probability", "the best arm is never pulled in the second half"),
    "greedy": ("share", "pulls of an arm of highest empirical mean, first tries aside"),
}


def switch(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """The first decision of a block, and what the greedy policy earns in it."""
    u = after.params["u"]
    gap = jnp.max(u[0, 1:]) - u[0, 0]
    pay, coverage = greedy_block(u, world.params)
    searches = (gap > 0).astype(jnp.float32)
    return {"gap": gap, "searches": searches, "pay": pay, "coverage": coverage}


def greedy_block(
    score: Float[Array, "R K"], params: Any
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Pay per trial and early coverage of the policy that takes the highest score.

    Rows are the numbers of ``observation="outcomes"``, or a single one for an agent that sees
    nothing. One block is played for each place that may hide the reward. Trial t belongs to a
    block with probability (1 - 1/n)^t, so pay per trial is Σ_t (1 - 1/n)^t E[r_t] / n.
    """
    places = score.shape[1] - 1
    arms, base = jnp.arange(places), 3 ** jnp.arange(places)

    def block(hidden: Array) -> tuple[Array, Array]:
        def trial(shown: Array, _: None) -> tuple[Array, tuple[Array, Array]]:
            row = jnp.sum(shown * base) if score.shape[0] > 1 else jnp.int32(0)
            action = jnp.argmax(score[row])
            found = action - 1 == hidden
            learned = jnp.where(arms == action - 1, 1 + found.astype(jnp.int32), 0)
            place = params.location + params.scale * found.astype(jnp.float32)
            shown = jnp.maximum(shown, learned)
            tried = jnp.mean((shown > 0).astype(jnp.float32))
            return shown, (jnp.where(action == 0, params.safe, place), tried)

        _, (pay, tried) = jax.lax.scan(trial, jnp.zeros_like(arms), length=TRIALS)
        return pay, tried[EARLY - 1]

    pay, tried = jax.vmap(block)(arms)
    goes_on = (1.0 - 1.0 / params.block) ** jnp.arange(TRIALS, dtype=jnp.float32)
    return jnp.sum(goes_on * jnp.mean(pay, axis=0)) / jnp.sum(goes_on), jnp.mean(tried)


def bandit(
    env: Environment,
    policy: Policy,
    world: World,
    first: Tree,
    before: LearnerState,
    after: LearnerState,
) -> dict[str, Any]:
    """What the greedy policy on counts earns, tries and abandons."""
    known: Any = env
    counts = exact.beliefs(known.arms, known.horizon, known.a, known.b)
    played = exact.play_counts(exact.argmax_table(after.params["u"]), counts)
    return dict(zip(BANDIT, played, strict=True))
