"""How far apart two rewards are, by the policies they prefer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxrl_envs.tabular import TabularMDP

NOTHING = 1e-6
"""A norm below this is rounding: such a reward prefers no policy to another."""


def starc_distance(
    first: TabularMDP, second: TabularMDP, discount: Float[Array, ""], sweeps: int = 2048
) -> Float[Array, ""]:
    """How differently two rewards of one world order its policies, in [0, 1].

    Each reward becomes the advantage of the uniform policy, c(s, a) = r + γ E[V(s')] - V(s), over
    the states that policy reaches, and is divided by its Euclidean norm (0 stays 0); half the
    norm of their difference is 0 for rewards that differ by shaping and positive scale only, and
    1 for opposite ones. V is iterated ``sweeps`` times, without a time limit; the discount should
    satisfy γ^sweeps << 1.

    Source: STARC with the value canonicalization (arXiv 2309.15257).
    """

    def reach(seen: Array, _: None) -> tuple[Array, None]:
        return seen | (first.push(jnp.where(seen[:, None], 1.0, jnp.zeros((1, A)))) > 0), None

    A = first.num_actions
    reached, _ = jax.lax.scan(reach, first.start > 0, length=first.num_states)
    counted = (reached & ~first.terminal)[:, None]

    def canonical(mdp: TabularMDP) -> Float[Array, "S A"]:
        def sweep(value: Float[Array, "S"], _: None) -> tuple[Float[Array, "S"], None]:
            return jnp.mean(mdp.reward + discount * mdp.expect(value), axis=1), None

        value, _ = jax.lax.scan(sweep, jnp.zeros(mdp.num_states), length=sweeps)
        gain = mdp.reward + discount * mdp.expect(value) - value[:, None]
        gain = jnp.where(counted, gain, 0.0)
        norm = jnp.sqrt(jnp.sum(gain**2))
        return jnp.where(norm > NOTHING, gain / jnp.maximum(norm, NOTHING), 0.0)

    return jnp.sqrt(jnp.sum((canonical(first) - canonical(second)) ** 2)) / 2
