"""How the normalization of a group's loss by length changes the expected update, exactly."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxrl_envs.errors import expect

MOST = 16
"""Largest group: the law of the others' lengths has G² T entries."""


class Updates(NamedTuple):
    """Expected updates of one coordinate under three normalizations of the same group.

    With A_i the advantage, L_i the length and s_i = ∂ log π(rollout i) the score of a rollout:

    Attributes:
        sequence: E[(1/G) Σ_i A_i s_i / L_i], every rollout weighs the same (GRPO, arXiv
            2402.03300): long wrong rollouts are punished less per token.
        token: E[Σ_i A_i s_i / Σ_i L_i], every token weighs the same (DAPO, arXiv 2503.14476).
        constant: E[(1/G) Σ_i A_i s_i] / T, no bias by length (Dr. GRPO, arXiv 2503.20783).
    """

    sequence: Float[Array, ""]
    token: Float[Array, ""]
    constant: Float[Array, ""]


def advantages(group: int) -> np.ndarray:
    """``[2, G]``: (r - mean) / std of a wrong and of a right rollout beside k right ones.

    Population standard deviation; 0 where all G rollouts agree.
    """
    others = np.arange(group)
    wrong, right = others / group, (others + 1) / group  # share of right rollouts in the group
    return np.stack([-np.sqrt(wrong / (1 - wrong)), np.sqrt((1 - right) / right)])


def expected_updates(
    mass: Float[Array, "2 M"], score: Float[Array, "M"], length: np.ndarray, group: int
) -> Updates:
    """The three expected updates for one independent group of G rollouts.

    Args:
        mass: probability that a rollout is wrong (row 0) or right (row 1) and of kind m; sums to 1.
        score: ∂ log π of a rollout of kind m. length: its tokens, static, at least 1.
        group: G.

    Raises:
        BadInput: a group outside 1 .. 16.
    """
    expect(1 <= group <= MOST, "group", group, f"1 to {MOST} rollouts")
    longest = int(length.max())
    by_length = jnp.zeros((2, longest + 1)).at[:, length].add(mass)
    # beside[k, l]: the other rollouts have k right among them and l tokens together.
    span = (group - 1) * longest + 1
    gap = np.arange(span)[None, :] - np.arange(span)[:, None]
    fits = (gap >= 0) & (gap <= longest)
    add = jnp.where(fits, by_length[:, np.clip(gap, 0, longest)], 0.0)
    beside = jnp.zeros((group, span)).at[0, 0].set(1.0)
    for _ in range(group - 1):
        failed, solved = beside @ add[0], beside @ add[1]
        beside = failed.at[1:].add(solved[:-1])

    A = jnp.asarray(advantages(group), jnp.float32)
    total = length[:, None] + np.arange(span)[None, :]
    per_token = jnp.einsum("ck,kl,ml->cm", A, beside, jnp.asarray(1.0 / total, jnp.float32))
    weight = mass * score[None, :]
    alone = weight * (A @ jnp.sum(beside, axis=1))[:, None]
    return Updates(
        sequence=jnp.sum(alone / jnp.asarray(length, jnp.float32)[None, :]),
        token=group * jnp.sum(weight * per_token),
        constant=jnp.sum(alone) / longest,
    )
