"""PPO as noisy steps on a quadratic: where it stalls, as a function of step, data and reuse.

One direction of parameter space, written as the distance θ from the noise-free fixed point, with
curvature h and variance s of one transition's gradient; J = −½ h θ². An outer step that goes the
share η h of the way to the optimum of an objective sampled from n transitions is
θ ← (1 − η h) θ + η ξ, ξ ~ N(0, s/n), and never ends at 0: :func:`plateau`.

PPO makes its outer step of many inner ones: E epochs over M minibatches of m transitions, each
θ ← (1 − α h) θ + α ξ_j with ξ_j ~ N(0, s/m) the same in every epoch. :func:`inner_loop_plateau` is
exact for that, in a new order each epoch, and has two limits for small α h: where the inner loop
is short, E steps on the same noise add up to a step E times as long, gap = E · α Σ s / 4m; where it
is long, epochs forget each other and gap = α Σ s / 4m, that of online learning. So more data per
outer step buys at most a factor E, and nothing where E = 1: what it buys beyond that is due to the
trust region, which the quadratic does not have.

Source: the outer-loop model of arXiv 2603.06009; the closed form of the inner loop is ours.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

Number = float | Float[Array, ""]


def plateau(
    step: Number, curvature: Float[Array, "D"], noise: Float[Array, "D"], samples: Number
) -> Float[Array, ""]:
    """Stationary E[J* − J] = Σ_j η s_j / (2 n (2 − η h_j)) of one step per batch, for η h_j < 2."""
    return jnp.sum(step * noise / (2.0 * samples * (2.0 - step * curvature)))


@partial(jax.jit, static_argnames="epochs")
def inner_loop_plateau(
    rate: Number,
    curvature: Float[Array, "D"],
    noise: Float[Array, "D"],
    *,
    minibatch: Number,
    minibatches: Number,
    epochs: int,
) -> Float[Array, ""]:
    """Stationary E[J* − J] at the end of an inner loop of ``epochs`` passes, for α h_j < 1.

    With ρ = 1 − α h, q = ρ^M and S = Σ_{e<E} q^(2e), T = Σ_{e<E} q^e, the variance of the inner
    loop's own noise is

        α² s/m · [ S (1 − q²)/(1 − ρ²) + (T² − S)/M · ((1 − q)/(1 − ρ))² ],

    each transition with itself, and with itself in another epoch at an independent place. The
    stationary variance divides it by 1 − q^(2E). Directions without curvature are left out.
    """
    M, E = minibatches, epochs
    moves = curvature > 0
    h = jnp.where(moves, curvature, 1.0)
    rho = 1.0 - rate * h
    q = rho**M
    powers = q[None, :] ** jnp.arange(E, dtype=q.dtype)[:, None]
    S, T = jnp.sum(powers**2, axis=0), jnp.sum(powers, axis=0)
    same = S * (1.0 - q**2) / (1.0 - rho**2)
    other = (T**2 - S) / M * ((1.0 - q) / (1.0 - rho)) ** 2
    variance = rate**2 * noise / minibatch * (same + other) / (1.0 - q ** (2 * E))
    return 0.5 * jnp.sum(jnp.where(moves, h * variance, 0.0))


@jax.jit
def regularized_bandit(
    reward: Float[Array, "K"], temperature: Number, sigma: Number
) -> tuple[Float[Array, "K"], Float[Array, "K"]]:
    """Curvature and noise of the softmax policy gradient at the optimum of r·π + τ H(π).

    There π ∝ exp(r/τ), and the negative Hessian in the logits is τ F with F = diag π − π πᵀ. One
    rollout's gradient A ∇log π + τ ∇H has mean 0 and covariance E[A² ∇ ∇ᵀ] − μ μᵀ, with
    A = r − r·π + σ ε and μ = E[A ∇] = −τ ∇H. Returned along the eigenvectors of F, which is
    enough: a quadratic's modes do not meet, so only the noise's own diagonal matters. One mode is
    the constant that no policy sees, with curvature 0.
    """
    pi = jax.nn.softmax(reward / temperature)
    fisher = jnp.diag(pi) - jnp.outer(pi, pi)
    advantage = reward - jnp.sum(pi * reward)
    score = jnp.eye(len(pi)) - pi[None, :]
    second = jnp.einsum("k,ki,kj->ij", pi * (advantage**2 + sigma**2), score, score)
    mean = score.T @ (pi * advantage)
    curvature, modes = jnp.linalg.eigh(fisher)
    noise = jnp.diag(modes.T @ (second - jnp.outer(mean, mean)) @ modes)
    seen = curvature > 1e-6
    return jnp.where(seen, temperature * curvature, 0.0), jnp.where(seen, noise, 0.0)
