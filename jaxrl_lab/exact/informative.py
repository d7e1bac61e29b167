"""Which groups can teach anything, in closed form, for rewards of 0 and 1."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float


@jax.jit
def informative_chance(p: Float[Array, "..."], G: Float[Array, "..."]) -> Float[Array, "..."]:
    """1 − p^G − (1−p)^G: chance that G rollouts are neither all right nor all wrong.

    ``p`` is the success probability of a rollout. Concave in p and in G, symmetric about p = 1/2;
    2p(1−p) for G = 2 and about G · p for a small p. G may differ from prompt to prompt; no
    rollouts are not informative.
    """
    rare = jnp.minimum(p, 1.0 - p)  # the symmetry keeps the digits of a rare success or failure
    return jnp.maximum(-jnp.expm1(G * jnp.log1p(-rare)) - rare**G, 0.0)
