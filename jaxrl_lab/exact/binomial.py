"""How many of the rollouts of a group are right: S ~ Bin(G, p)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import gammaln


def binomial(G: int, p: Float[Array, "..."]) -> tuple[Float[Array, "N"], Float[Array, "... N"]]:
    """S = 0 … G as numbers, and their probabilities; exact at p = 0 and 1 too."""
    S = np.arange(G + 1, dtype=np.float64)
    ways = jnp.asarray(gammaln(G + 1) - gammaln(S + 1) - gammaln(G - S + 1), p.dtype)
    counts = jnp.asarray(S, p.dtype)
    rate = jnp.broadcast_to(p[..., None], (*p.shape, G + 1))
    hit = jnp.broadcast_to(counts, rate.shape)
    log_terms = jax.scipy.special.xlogy(hit, rate) + jax.scipy.special.xlog1py(G - hit, -rate)
    return counts, jnp.exp(jnp.broadcast_to(ways, rate.shape) + log_terms)
