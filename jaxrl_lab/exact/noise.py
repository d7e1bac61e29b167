"""Sampling noise on top of the expected update: group-normalized policy gradient at one state.

One group of G rollouts with 0/1 rewards, S of them right. With the group's standard deviation as
the scale (``ddof`` as in :func:`~jaxrl_lab.exact.dynamics.difficulty_weight`) every right rollout
has advantage c sqrt((G−S)/S) and every wrong one −c sqrt(S/(G−S)), c² = 1 or (G−1)/G; groups with
S = 0 or G do nothing. Advantages sum to 0, so one inner step of size 1 changes the logits by

    Δz_a = (c/G) n_a sqrt((G−S)/S)  (a right),    Δz_a = −(c/G) n_a sqrt(S/(G−S))  (a wrong),

n_a the copies of a in the group. Given S the counts are two independent multinomials, hence mean
and covariance in closed form, at a cost of G where enumeration costs C(K+G−1, G).
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Bool, Float

from jaxrl_lab.exact.binomial import binomial

Number = float | Float[Array, ""]


def normalized_update_moments(
    logp: Float[Array, "K"], correct: Bool[Array, "K"], G: int, ddof: int = 1
) -> tuple[Float[Array, "K"], Float[Array, "K K"]]:
    """E[Δz] and Cov[Δz] of one inner step of size 1 on one group.

    With q = π/p on the right arms, q' = π/(1−p) on the wrong ones and S ~ Bin(G, p):

        E   = (c/G) E[sqrt(S(G−S))] (q − q')
        Cov = (c/G)² { E[(G−S) 1(S>0)] (diag q − q qᵀ) + E[S 1(S<G)] (diag q' − q' q'ᵀ)
                       + Var[sqrt(S(G−S))] (q − q')(q − q')ᵀ }.

    The first two terms say *which* right and which wrong arms were drawn: noise between equally
    good arms. The last says how many were right, and moves all right arms together.

    Raises:
        BadInput: G below 2, or ddof not 0 or 1.
    """
    expect(G >= 2, "G", G, "at least 2 rollouts")
    expect(ddof in (0, 1), "ddof", ddof, "0 (population deviation) or 1 (sample deviation)")
    pi = jnp.exp(logp)
    p = jnp.sum(jnp.where(correct, pi, 0.0))
    counts, chances = binomial(G, p)
    right, chance = counts[1:-1], chances[1:-1]  # S = 1 .. G−1
    wrong = G - right
    scale = ((G - 1) / G) ** (0.5 * ddof) / G
    spread = jnp.sqrt(right * wrong)
    first = jnp.sum(chance * spread)
    among = jnp.sum(chance * wrong), jnp.sum(chance * right)
    together = jnp.sum(chance * right * wrong) - first**2
    q = jnp.where(correct, pi, 0.0) / jnp.where(p > 0, p, 1.0)
    rest = jnp.where(correct, 0.0, pi) / jnp.where(p < 1, 1.0 - p, 1.0)
    apart = q - rest
    covariance = (
        among[0] * (jnp.diag(q) - jnp.outer(q, q))
        + among[1] * (jnp.diag(rest) - jnp.outer(rest, rest))
        + together * jnp.outer(apart, apart)
    )
    return scale * first * apart, scale**2 * covariance


@partial(jax.jit, static_argnames=("G", "updates", "ddof"))
def expected_path(
    logits: Float[Array, "K"],
    correct: Bool[Array, "K"],
    G: int,
    step: Number,
    updates: int,
    ddof: int = 1,
) -> Float[Array, "N K"]:
    """Training without sampling noise, z_{t+1} = z_t + η E[Δz](z_t); N = updates + 1.

    Up to the length of its steps the path is that of :func:`~jaxrl_lab.exact.softmax_flow`, at
    another speed.
    """

    def update(z: Array, _: None) -> tuple[Array, Array]:
        return z + step * _drift(z, correct, G, ddof), z

    return jax.lax.scan(update, logits, None, length=updates + 1)[1]


@partial(jax.jit, static_argnames=("G", "updates", "ddof"))
def linear_noise(
    logits: Float[Array, "K"],
    correct: Bool[Array, "K"],
    G: int,
    step: Number,
    updates: int,
    ddof: int = 1,
) -> tuple[Float[Array, "N K"], Float[Array, "N K K"]]:
    """:func:`expected_path`, and the covariance of sampled runs around it.

    To first order in the deviation V_{t+1} = J V_t Jᵀ + η² Cov[Δz](z_t), J = 1 + η ∂E[Δz]/∂z:
    noise enters at every update, and the geometry of softmax carries it on. V grows like η at
    fixed η·t, so the approximation holds for small steps, while square roots of V are small
    against 1.
    """

    def update(carry: tuple[Array, Array], _: None) -> tuple[Any, tuple[Array, Array]]:
        z, V = carry
        drift, noise = normalized_update_moments(jax.nn.log_softmax(z), correct, G, ddof)
        J = jnp.eye(len(z)) + step * jax.jacfwd(_drift)(z, correct, G, ddof)
        return (z + step * drift, J @ V @ J.T + step**2 * noise), (z, V)

    start = logits, jnp.zeros((len(logits), len(logits)))
    _, (path, covariance) = jax.lax.scan(update, start, None, length=updates + 1)
    return path, covariance


def _drift(z: Array, correct: Array, G: int, ddof: int) -> Array:
    return normalized_update_moments(jax.nn.log_softmax(z), correct, G, ddof)[0]
