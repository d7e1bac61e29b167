"""What one update or a whole gradient flow does to a softmax policy at one state, exactly.

Rows are ``[..., K]``: leading axes are independent states or prompts. ``step`` is η throughout.
Cov_π(f, g) = E_π[fg] − E_π[f] E_π[g].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int
from scipy.special import gammaln

from jaxrl_lab.policies.distributions import entropy_of

Number = float | Float[Array, ""]

MOST_TUPLES = 2**22
"""Largest K^G that is enumerated."""


def _mean(logp: Float[Array, "... K"], f: Float[Array, "... K"]) -> Float[Array, "... 1"]:
    return jnp.sum(jnp.exp(logp) * f, axis=-1, keepdims=True)


def _finite(logp: Float[Array, "... K"]) -> Float[Array, "... K"]:
    """log π with 0 for actions that are never taken; they carry no mass in any average."""
    return jnp.where(logp > -jnp.inf, logp, 0.0)


def covariance(
    logp: Float[Array, "... K"], f: Float[Array, "... K"], g: Float[Array, "... K"]
) -> Float[Array, "..."]:
    """Cov_π(f, g), from centered values so that a large constant in f or g costs no digits."""
    centered = (f - _mean(logp, f)) * (g - _mean(logp, g))
    return _mean(logp, centered)[..., 0]


# ------------------------------------------------------------------ entropy change of one update


def first_order_entropy_change(
    logp: Float[Array, "... K"], delta_logits: Float[Array, "... K"]
) -> Float[Array, "..."]:
    """ΔH ≈ −Cov_π(log π, Δz); the error is of second order in Δz. Source: arXiv 2505.22617."""
    return -covariance(logp, _finite(logp), delta_logits)


def measured_entropy_change(
    logits: Float[Array, "... K"], delta: Float[Array, "... K"]
) -> Float[Array, "..."]:
    """H(softmax(z + Δz)) − H(softmax(z)), to float32 relative accuracy for small Δz too.

    With c = Δ log π and π' = π e^c: ΔH = −Σ π (e^c − 1)(log π + H) − Σ π' c. Subtracting two
    entropies would drown changes below 1e-6 in rounding.
    """
    logp = jax.nn.log_softmax(logits, axis=-1)
    delta = delta - _mean(logp, delta)
    small = jnp.max(jnp.abs(delta), axis=-1, keepdims=True) < 1.0
    tame = jnp.where(small, delta, 0.0)
    shift = jnp.where(
        small,
        jnp.log1p(_mean(logp, jnp.expm1(tame))),
        jax.nn.logsumexp(logp + delta, axis=-1, keepdims=True),
    )
    c = delta - shift
    moved = jnp.where(small, jnp.exp(logp) * jnp.expm1(tame - shift), 0.0)
    moved = jnp.where(small, moved, jnp.exp(logp + c) - jnp.exp(logp))
    surprise = _finite(logp) + entropy_of(logp)[..., None]
    return -jnp.sum(moved * surprise + jnp.exp(logp + c) * c, axis=-1)


def policy_gradient_entropy_change(
    logp: Float[Array, "... K"], advantage: Float[Array, "... K"], step: Number
) -> Float[Array, "..."]:
    """Exact policy gradient, Δz = η π A: ΔH ≈ −η Cov_π(log π, π A). Source: arXiv 2505.22617."""
    return first_order_entropy_change(logp, step * jnp.exp(logp) * advantage)


def natural_gradient_entropy_change(
    logp: Float[Array, "... K"], advantage: Float[Array, "... K"], step: Number
) -> Float[Array, "..."]:
    """Natural policy gradient, Δz = η A: ΔH ≈ −η Cov_π(log π, A). Source: arXiv 2505.22617."""
    return first_order_entropy_change(logp, step * advantage)


def reinforce_entropy_change(
    logp: Float[Array, "... K"],
    action: Int[Array, "..."],
    weight: Float[Array, "..."],
    step: Number,
) -> Float[Array, "..."]:
    """One sample a of weight w, Δz = η w (e_a − π).

    ΔH ≈ −η w [π_a (log π_a + H) − Σ_b π_b² (log π_b + H)]. Source: arXiv 2505.22617.
    """
    surprise = jnp.exp(logp) * (_finite(logp) + entropy_of(logp)[..., None])
    chosen = jnp.take_along_axis(surprise, action[..., None], axis=-1)
    return -step * weight * (chosen - _mean(logp, surprise))[..., 0]


def second_order_entropy_change_random_rewards(
    logp: Float[Array, "... K"],
    G: int,
    step: Number,
    advantage_variance: float | None = None,
) -> Float[Array, "..."]:
    """E[ΔH] of one update Δz = (η/G) Σ_i A_i e_{a_i} when rewards know nothing of the actions.

    E[ΔH] ≈ −(η²/2) (Var + κ₃) with M = E[Δz Δzᵀ]/η², Var = Σ π_a M_aa − πᵀMπ and
    κ₃ = Σ_a π_a (log π_a + H)(M_aa − 2 (Mπ)_a + πᵀMπ). Any exchangeable group advantage that
    sums to zero has pair covariance −v/(G−1), v = Var[A_i], whatever its law; hence
    M = (v/G)(diag π − ππᵀ), and no separate covariance is needed.

    ``advantage_variance`` is v: by default (1 − 1/G)/4, fair coin rewards minus the group mean;
    1 − 2^(1−G) for the same divided by the group's population deviation.
    The error is of third order in the step. Source: arXiv 2512.16912 for the setting; derived.
    """
    v = 0.25 * (1.0 - 1.0 / G) if advantage_variance is None else advantage_variance
    p = jnp.exp(logp)
    square = _mean(logp, p)
    diagonal = p * (1.0 - p)
    m_pi = p * (p - square)
    quadratic = _mean(logp, m_pi)
    variance = _mean(logp, diagonal) - quadratic
    surprise = _finite(logp) + entropy_of(logp)[..., None]
    skew = _mean(logp, surprise * (diagonal - 2.0 * m_pi + quadratic))
    return (-(0.5 * v / G) * step**2 * (variance + skew))[..., 0]


# ------------------------------------------------------------------ expected updates of a group


@partial(jax.jit, static_argnames=("G", "ddof"))
def difficulty_weight(p: Float[Array, "..."], G: int, ddof: int = 0) -> Float[Array, "..."]:
    """Factor w(p) in E[group-normalized gradient] = w(p) ∇p for binary rewards.

    w = c_G(p)/(p(1−p)), c_G = E[sqrt(S(G−S))]/G, S ~ Bin(G, p), times sqrt((G−1)/G) for the
    sample deviation (``ddof=1``). Tends to 1/sqrt(p(1−p)) as G grows, and is sqrt(G−1) at
    p = 0 and 1: p(1−p) is divided out term by term.

    Raises:
        BadInput: G below 2, or ddof not 0 or 1.
    """
    expect(G >= 2, "G", G, "at least 2 rollouts")
    expect(ddof in (0, 1), "ddof", ddof, "0 (population deviation) or 1 (sample deviation)")
    S = np.arange(1, G, dtype=np.float64)
    ways = gammaln(G + 1) - gammaln(S + 1) - gammaln(G - S + 1)
    ways += 0.5 * np.log(S * (G - S)) - np.log(G) + 0.5 * ddof * np.log((G - 1) / G)
    constant, power = jnp.asarray(ways, p.dtype), jnp.asarray(S - 1.0, p.dtype)
    x = jnp.broadcast_to(p[..., None], (*p.shape, G - 1))
    lose = jnp.broadcast_to(power[::-1], x.shape)
    log_terms = jax.scipy.special.xlogy(jnp.broadcast_to(power, x.shape), x)
    log_terms += jax.scipy.special.xlog1py(lose, -x)
    return jnp.sum(jnp.exp(jnp.broadcast_to(constant, x.shape) + log_terms), axis=-1)


def tuples(K: int, G: int) -> Int[Array, "N G"]:
    """All K^G tuples of G actions, the last action running fastest.

    Raises:
        BadInput: when there are more than ``MOST_TUPLES``.
    """
    expect(K >= 1 and G >= 1, "K, G", (K, G), "at least 1 action and 1 rollout")
    expect(K**G <= MOST_TUPLES, "K^G", K**G, f"at most {MOST_TUPLES} tuples to enumerate")
    return jnp.asarray(np.indices((K,) * G, dtype=np.int32).reshape(G, -1).T)


def expected_update(
    change: Callable[[Int[Array, "G"]], Any], logp: Float[Array, "K"], G: int
) -> Any:
    """E[change(a_1 .. a_G)] over independent draws from π, by enumeration of all K^G groups.

    ``change`` maps the actions ``[G]`` of one group to a pytree and is vmapped. Do not let it
    return what is infinite for groups of probability 0.

    Raises:
        BadInput: when K^G is above ``MOST_TUPLES``.
    """
    groups = tuples(logp.shape[-1], G)
    weight = jnp.exp(jnp.sum(logp[groups], axis=-1))

    def average(x: Array) -> Array:
        return jnp.sum(weight.reshape(-1, *(1,) * (x.ndim - 1)) * x.astype(weight.dtype), axis=0)

    return jax.tree.map(average, jax.vmap(change)(groups))


# ------------------------------------------------------------------ flows


def replicator_flow(
    logits: Float[Array, "... K"], reward: Float[Array, "... K"], times: Float[Array, "N"]
) -> Float[Array, "N ... K"]:
    """Natural-gradient flow dz/dt = A in closed form: log π_t = log softmax(z + t r).

    Ratios of equally rewarded arms are constants of the motion.
    """
    return jax.vmap(lambda t: jax.nn.log_softmax(logits + t * reward, axis=-1))(times)


@partial(jax.jit, static_argnames="substeps")
def softmax_flow(
    logits: Float[Array, "... K"],
    reward: Float[Array, "... K"],
    times: Float[Array, "N"],
    substeps: int = 200,
) -> Float[Array, "N ... K"]:
    """Exact policy-gradient flow dz/dt = π (r − π·r) from t = 0; returns logits at ``times``.

    Fourth-order Runge-Kutta in u = log(1 + t), ``substeps`` equal steps in u between successive
    times (which must not decrease): the flow slows down like 1/t, so decades cost alike.
    See :func:`flow_invariants` for what the flow conserves, hence for its error.
    Source: softmax policy-gradient dynamics, arXiv 2005.06392.
    """

    # Losses against the best arm instead of rewards: late in the flow r − π·r is tiny for good
    # arms, and the difference of two numbers near 1 would be all rounding.
    loss = jnp.max(reward, axis=-1, keepdims=True) - reward

    def velocity(u: Array, z: Array) -> Array:
        logp = jax.nn.log_softmax(z, axis=-1)
        return jnp.exp(u) * jnp.exp(logp) * (_mean(logp, loss) - loss)

    def segment(carry: tuple[Array, Array], end: Array) -> tuple[tuple[Array, Array], Array]:
        begin, z = carry
        h = (end - begin) / substeps

        def step(i: Array, z: Array) -> Array:
            u = begin + h * i.astype(h.dtype)
            k1 = velocity(u, z)
            k2 = velocity(u + 0.5 * h, z + 0.5 * h * k1)
            k3 = velocity(u + 0.5 * h, z + 0.5 * h * k2)
            k4 = velocity(u + h, z + h * k3)
            return z + (h / 6.0) * (k1 + 2.0 * k2 + 2.0 * k3 + k4)

        z = jax.lax.fori_loop(0, substeps, step, z)
        return (end, z), z

    return jax.lax.scan(segment, (jnp.zeros_like(times[0]), logits), jnp.log1p(times))[1]


def flow_invariants(
    logits: Float[Array, "... K"], reward: Float[Array, "... K"]
) -> tuple[Float[Array, "..."], Float[Array, "... K"]]:
    """What :func:`softmax_flow` conserves: Σ_a z_a, and e^(−z_a) − e^(−z_b) among equal rewards.

    b is the first arm of the highest reward; arms of other rewards get 0. Because these
    differences stay while all e^(−z) shrink, an initial lead among equally good arms grows: the
    flow ends on the one that started highest.
    """
    reward = jnp.broadcast_to(reward, logits.shape)
    best = jnp.argmax(reward, axis=-1, keepdims=True)
    top = jnp.take_along_axis(reward, best, axis=-1)
    gap = jnp.exp(-logits) - jnp.exp(-jnp.take_along_axis(logits, best, axis=-1))
    return jnp.sum(logits, axis=-1), jnp.where(reward == top, gap, 0.0)
