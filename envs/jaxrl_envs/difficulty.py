"""How hard the prompts of a world are for a base policy."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


def spread_rate(
    level_id: Int[Array, ""], hardest: Float[Array, ""], easiest: Float[Array, ""]
) -> Float[Array, ""]:
    """A pass rate between two ends, log-odds spread evenly over the prompts' ranks.

    The rank of prompt b is a fixed golden-ratio sequence in its id, so every subset of prompts,
    train or test, covers the whole range of difficulty.
    """
    place = jnp.mod((level_id.astype(jnp.float32) + 0.5) * 0.6180339887, 1.0)
    low, high = (jnp.log(p) - jnp.log1p(-p) for p in (hardest, easiest))
    return jax.nn.sigmoid(low + (high - low) * place)
