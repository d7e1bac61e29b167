"""What a group advantage does to one prompt with right and wrong answers, exactly.

Binary rewards, one step, a softmax over K answers, p the pass rate, G rollouts, step η on the mean
over the group. A group with S right rollouts gives each of them A₊(S) and each wrong one A₋(S).
Tables hold those numbers for S = 0 … G; entries for which no such rollout exists are not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float

from jaxrl_lab.exact.binomial import binomial
from jaxrl_lab.types import Batch, Context

Table = Float[Array, "N"]


@partial(jax.jit, static_argnames="G")
def advantage_tables(chain: Sequence[Any], G: int) -> tuple[Table, Table]:
    """A₊(S) and A₋(S) of the mechanisms of an advantage slot, ``[G + 1]`` each.

    Each of the G + 1 groups is called alone, so a mechanism that looks across prompts sees a
    batch of one prompt.

    Raises:
        BadInput: G below 2.
    """
    expect(G >= 2, "G", G, "at least 2 rollouts")
    S = jnp.arange(G + 1, dtype=jnp.int32)[:, None]
    rewards = (jnp.arange(G, dtype=jnp.int32)[None] < S).astype(jnp.float32)
    advantage = jax.vmap(partial(group_advantages, chain))(rewards)
    return advantage[:, 0], advantage[:, -1]


def group_advantages(chain: Sequence[Any], rewards: Float[Array, "G"]) -> Float[Array, "G"]:
    """What the mechanisms of an advantage slot make of one group of one-token answers."""
    batch = _batch(rewards)
    for mech in chain:
        batch = mech(batch, _context())
    assert batch.advantage is not None
    return batch.advantage[0, :, 0]


@jax.jit
def group_weight(right: Table, wrong: Table, p: Float[Array, "..."]) -> Float[Array, "..."]:
    """w(p) in E[Δz_a] = η w(p) π_a (r_a − p): the direction is that of ∇p, whatever the advantage.

    w(p) = E[S A₊(S)] / (G p) − E[(G − S) A₋(S)] / (G (1 − p)), S ~ Bin(G, p), for 0 < p < 1.
    For group-normalized advantages it is :func:`jaxrl_lab.exact.difficulty_weight`.
    """
    S, weight = binomial(right.shape[0] - 1, p)
    G = S[-1]
    return (weight @ (S * right)) / (G * p) - (weight @ ((G - S) * wrong)) / (G * (1.0 - p))


@jax.jit
def group_noise(right: Table, p: Float[Array, "..."]) -> Float[Array, "..."]:
    """v(p) in Var[Δz_a − Δz_b] = η² (2 π_a / G) v(p) for two right answers with π_a = π_b.

    v(p) = E[S A₊(S)²] / (G p), for p > 0. What pulls equals apart by luck: wrong rollouts have no
    part in it, nor has any push on answers that nobody gave.
    """
    S, weight = binomial(right.shape[0] - 1, p)
    return (weight @ (S * right**2)) / (S[-1] * p)


@jax.jit
def unsampled_push(
    right: Table, wrong: Table, p: Float[Array, "..."], share: Float[Array, "..."]
) -> Float[Array, "..."]:
    """E[Δz_a | a not sampled] / (η π_a) for a wrong answer of probability ``share``: −E[mean A].

    Given that a is not sampled, S ~ Bin(G, p / (1 − share)). 0 where advantages sum to zero.
    """
    S, weight = binomial(right.shape[0] - 1, p / (1.0 - share))
    return -(weight @ (S * right + (S[-1] - S) * wrong)) / S[-1]


def _batch(rewards: Float[Array, "G"]) -> Batch:
    """One group of one-token answers with these rewards."""
    shape = (1, rewards.shape[0], 1)
    reward, yes = rewards.reshape(shape), jnp.ones(shape, bool)
    zeros, number = jnp.zeros(shape), jnp.zeros(shape, jnp.int32)
    return Batch(
        level_id=jnp.zeros((1, 1, 1), jnp.int32),
        state=(),
        action=number,
        logp_behavior=zeros,
        mask=yes,
        resets=yes,
        terminated=yes,
        truncated=~yes,
        channels={"true": reward},
        reward=reward,
        info={},
        carry=(),
        valid=yes[..., 0],
        source=jnp.zeros(shape[:2], jnp.int8),
        advantage=reward,
    )


def _context() -> Context:
    return Context(jnp.int32(0), jnp.float32(0.0), jax.random.key(0))
