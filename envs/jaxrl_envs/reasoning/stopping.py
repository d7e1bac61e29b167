"""When a policy that thinks, pads or answers stops, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

THINK = 0
"""The one token that helps; 1 .. k are fillers and k + 1 is the answer."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Stopping:
    """What a policy earns on one prompt, exactly.

    Attributes:
        true: chance of a right answer in time. penalized: expected return of that channel.
        length: expected number of tokens, at most the limit.
        cut: chance that the limit comes before the answer.
        bias: truncation bias, ``true`` less what it would be without the limit (at most 0).
    """

    true: Float[Array, ""]
    penalized: Float[Array, ""]
    length: Float[Array, ""]
    cut: Float[Array, ""]
    bias: Float[Array, ""]


def answer_times(policy: Float[Array, "N N A"]) -> Float[Array, "N N"]:
    """Chance that a policy without a limit answers after t tokens with j useful, ``[t, j]``.

    ``policy[t, j]`` are its action probabilities there; the number of rows N is free.
    """

    def write(alive: Float[Array, "N"], pi: Float[Array, "N A"]) -> tuple[Array, Array]:
        chances = alive[:, None] * pi
        kept = jnp.sum(chances[:, 1:-1], axis=1)
        return kept.at[1:].add(chances[:-1, THINK]), chances[:, -1]

    start = jnp.zeros(policy.shape[0]).at[0].set(1.0)
    return jax.lax.scan(write, start, policy)[1]
