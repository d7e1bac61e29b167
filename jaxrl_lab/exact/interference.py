"""What prompts that share parameters do to each other, to first order in the step."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float


def own_and_cross(
    gradient: Float[Array, "B N"], weight: Float[Array, "B"], p: Float[Array, "B"]
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """d log p_b along Σ_c w_c ∇p_c, split into what prompt b does itself and what the others do.

    own_b = w_b |∇p_b|² / p_b ≥ 0, and cross_b = Σ_{c ≠ b} w_c ⟨∇p_c, ∇p_b⟩ / p_b of either sign.
    ``gradient`` holds ∇p_b with respect to all parameters, ``weight`` what the learner makes of a
    prompt's pass rate (:func:`jaxrl_lab.exact.group_weight`). An expected update therefore lowers
    a pass rate through other prompts only; with a row of parameters per prompt, never.
    """
    p = jnp.maximum(p, jnp.finfo(p.dtype).tiny)  # a rate that underflowed has no gradient either
    own = weight * jnp.sum(gradient**2, -1)
    whole = gradient @ (weight @ gradient)
    return own / p, (whole - own) / p
