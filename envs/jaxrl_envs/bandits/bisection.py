"""Roots of monotone functions by halving, at fixed shape."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float


def bisect(
    below: Callable[[Float[Array, "..."]], Bool[Array, "..."]],
    low: Float[Array, "..."],
    high: Float[Array, "..."],
    halvings: int,
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    """Ends around the point from which ``below`` is false, ``halvings`` times closer together.

    Elementwise; ``below`` holds at ``low`` and fails at ``high``, or at no point in between.
    """

    def halve(_: int, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        middle = (ends[0] + ends[1]) / 2
        under = below(middle)
        return jnp.where(under, middle, ends[0]), jnp.where(under, ends[1], middle)

    found: tuple[Array, Array] = jax.lax.fori_loop(0, halvings, halve, (low, high))
    return found
