"""How a sampled bandit agent explores: what it has tried, what it gives up, how greedy it is.

``actions[..., T]`` are the arms pulled, leading axes are tasks or rollouts. Means over many
rollouts estimate what :func:`jaxrl_lab.exact.play_counts` computes exactly.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float, Int


def pulls(actions: Int[Array, "... T"], arms: int) -> Float[Array, "... T K"]:
    """How often each arm was pulled up to and including each pull."""
    return jnp.cumsum(jax.nn.one_hot(actions, arms), axis=-2)


def coverage(actions: Int[Array, "... T"], arms: int) -> Float[Array, "... T"]:
    """Share of the arms that were tried by each pull; never falls."""
    return jnp.mean((pulls(actions, arms) > 0).astype(jnp.float32), axis=-1)


def suffix_failure(actions: Int[Array, "... T"], best: Int[Array, "..."]) -> Bool[Array, "... T"]:
    """Whether the best arm is never pulled from pull t on; once true, it stays true.

    Its mean over tasks at t = T/2 is SuffFail(T/2), the share of runs that have abandoned the best
    arm for good. Source: arXiv 2403.15371.
    """
    hits = (actions == best[..., None]).astype(jnp.int32)
    return jax.lax.cummax(hits, axis=hits.ndim - 1, reverse=True) == 0


def minimal_fraction(actions: Int[Array, "... T"], arms: int) -> Float[Array, "..."]:
    """K · min_a n_a / T: 1 only where all arms were pulled equally often, 0 where one never was.

    Source: K · MinFrac of arXiv 2403.15371.
    """
    length = actions.shape[-1]
    expect(length >= 1, "actions.shape[-1]", length, "at least one pull")
    return arms * jnp.min(pulls(actions, arms)[..., -1, :], axis=-1) / length


def greedy_fraction(
    actions: Int[Array, "... T"], pay: Float[Array, "... T"], arms: int
) -> Float[Array, "..."]:
    """Share of pulls, first tries aside, of an arm of highest empirical mean among those tried.

    0 where no arm was pulled twice. Source: GreedyFrac of arXiv 2403.15371, which counts first
    tries; leaving them out makes it comparable between numbers of arms.
    """
    chosen = jax.nn.one_hot(actions, arms)
    n = jnp.cumsum(chosen, axis=-2) - chosen
    total = jnp.cumsum(chosen * pay[..., None], axis=-2) - chosen * pay[..., None]
    mean = jnp.where(n > 0, total / jnp.maximum(n, 1.0), -jnp.inf)
    top = mean >= jnp.max(mean, axis=-1, keepdims=True) - 1e-6
    again = jnp.where(n > 0, chosen, 0.0)
    greedy = jnp.where(top, again, 0.0)
    return jnp.sum(greedy, axis=(-2, -1)) / jnp.maximum(jnp.sum(again, axis=(-2, -1)), 1.0)
