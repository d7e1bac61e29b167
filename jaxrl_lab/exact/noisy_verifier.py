"""What noisy verdicts, and reusing a batch, do on average to a softmax policy at one state.

A verifier passes a wrong action with probability f+ and fails a right one with probability f−.
At f+ = f− = 1/2 its verdict says nothing: the first-order expected update is zero, and what is left
is the second order of the step and what the ratio clip does. Rows are ``[..., K]``; ``step`` is η,
the step of one inner ascent on the mean objective of the state's group.
"""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float, Int

from jaxrl_lab.exact.dynamics import difficulty_weight
from jaxrl_lab.exact.groups import exact_moments
from jaxrl_lab.policies.distributions import entropy_of

Number = float | Float[Array, "..."]


class Changes(NamedTuple):
    """Expected change by one update of the probabilities ``[K]`` and of the entropy (nats)."""

    policy: Float[Array, "... K"]
    entropy: Float[Array, "..."]


def noisy_pass_rate(
    p: Float[Array, "..."], false_positive: Number, false_negative: Number
) -> Float[Array, "..."]:
    """q = f+ + p (1 − f+ − f−): how often the verifier passes a policy that is right with p."""
    return false_positive + p * (1.0 - false_positive - false_negative)


@partial(jax.jit, static_argnames=("normalized", "G"))
def noise_factor(
    p: Float[Array, "..."],
    false_positive: Number,
    false_negative: Number,
    normalized: bool = False,
    G: int = 0,
) -> Float[Array, "..."]:
    """The expected gradient under a noisy verifier over the one under a perfect verifier.

    1 − f+ − f− for advantages that are linear in the reward. Division by the group's deviation
    brings w_G(q)/w_G(p) with it, where w_G is :func:`~.dynamics.difficulty_weight` and q the noisy
    pass rate; in large groups (``G = 0``) that is sqrt(p(1−p) / (q(1−q))).

    Verdicts of different rollouts must be drawn independently. 1/0 at a q of 0 or 1 in the limit
    of large groups.
    """
    q = noisy_pass_rate(p, false_positive, false_negative)
    factor = jnp.broadcast_to(1.0 - false_positive - false_negative, q.shape)
    if not normalized:
        return factor
    if G:
        return factor * difficulty_weight(q, G) / difficulty_weight(p, G)
    return factor * jnp.sqrt(p * (1.0 - p) / (q * (1.0 - q)))


@partial(jax.jit, static_argnames=("G", "ddof"))
def advantage_variance(q: Float[Array, "..."], G: int, ddof: int = 1) -> Float[Array, "..."]:
    """Var[A_i] of group-normalized rewards that are 1 with probability q: P(mixed) (G−ddof)/G.

    Within a mixed group the mean of A² is exactly (G − ddof)/G, and 0 in a unanimous one.
    """
    expect(G >= 2 and ddof in (0, 1), "G, ddof", (G, ddof), "at least 2 rollouts, ddof 0 or 1")
    return (1.0 - q**G - (1.0 - q) ** G) * (G - ddof) / G


def reuse_drift(
    logp: Float[Array, "... K"], G: int, step: Number, epochs: int, variance: Number
) -> Float[Array, "... K"]:
    """E[Δz] of unclipped inner steps on one batch whose rewards know nothing of the actions.

    E[Δz_a] = η² (v/G) E(E−1)/2 · 2 π_a (Σ_b π_b² − π_a) to second order, v = ``variance`` of A_i:
    the importance ratio pays an action for having just been moved. It is ascent on the diversity
    1 − Σ π²: away from the mode, whatever the rewards. Zero for a single step (E = 1). Derived.
    """
    pi = jnp.exp(logp)
    square = jnp.sum(pi * pi, axis=-1, keepdims=True)
    pairs = 0.5 * epochs * (epochs - 1)
    return step**2 * (variance / G) * pairs * 2.0 * pi * (square - pi)


@partial(jax.jit, static_argnames=("G", "epochs"))
def random_reward_change(
    logp: Float[Array, "... K"], G: int, step: Number, epochs: int, variance: Number
) -> Float[Array, "... K"]:
    """E[Δπ] of unclipped inner steps under random rewards, to second order in the step.

    With d = :func:`reuse_drift` and M = E²η²(v/G)(diag π − ππᵀ) the covariance of Δz,
    E[Δπ_a] = π_a (d_a − π·d) + ½ π_a (s_a − π·s),  s_a = M_aa − 2 (Mπ)_a. Derived.
    """
    pi = jnp.exp(logp)
    square = jnp.sum(pi * pi, axis=-1, keepdims=True)
    scale = (epochs * step) ** 2 * (variance / G)
    s = scale * (pi * (1.0 - pi) - 2.0 * pi * (pi - square))
    direction = reuse_drift(logp, G, step, epochs, variance) + 0.5 * s
    return pi * (direction - jnp.sum(pi * direction, axis=-1, keepdims=True))


@partial(jax.jit, static_argnames=("G", "epochs"))
def noisy_clipped_change(
    logits: Float[Array, "K"],
    paid: Float[Array, "K"],
    G: int,
    epochs: int,
    step: Number,
    low: Number,
    high: Number,
) -> Changes:
    """Exact expected change by one update of GRPO: all groups of (action, verdict) are enumerated.

    ``paid[a]`` is the probability that action a is passed; the update takes ``epochs`` ascent steps
    on mean_i min(ρ_i A_i, clip(ρ_i, 1 − low, 1 + high) A_i) with group-normalized advantages
    (sample deviation). ``low = 1`` and a very large ``high`` leave a side open.

    Raises:
        BadInput: more than ``MOST_COMPOSITIONS`` groups.
    """
    start = jax.nn.log_softmax(logits)
    verdict = jnp.log(jnp.stack([1.0 - paid, paid], axis=-1))
    outcomes = (start[:, None] + verdict).reshape(-1)  # action a, failed: 2a; passed: 2a + 1

    def change(outcome: Int[Array, "G"]) -> Changes:
        reward = (outcome % 2).astype(jnp.float32)
        z = _inner_steps(logits, outcome // 2, reward, epochs, step, low, high)
        logp = jax.nn.log_softmax(z)
        return Changes(jnp.exp(logp) - jnp.exp(start), entropy_of(logp) - entropy_of(start))

    return Changes(*exact_moments(change, outcomes, G).mean)


def _inner_steps(
    logits: Float[Array, "K"],
    action: Int[Array, "G"],
    reward: Float[Array, "G"],
    epochs: int,
    step: Number,
    low: Number,
    high: Number,
) -> Float[Array, "K"]:
    """Logits after the inner steps of one group."""
    G, chosen = action.shape[0], jax.nn.one_hot(action, logits.shape[0])
    spread = jnp.std(reward, ddof=1)
    advantage = jnp.where(spread > 0, (reward - jnp.mean(reward)) / (spread + 1e-6), 0.0)
    old = chosen @ jax.nn.log_softmax(logits)

    def ascend(_: int, z: Array) -> Array:
        logp = jax.nn.log_softmax(z)
        ratio = jnp.exp(chosen @ logp - old)
        clipped = jnp.where(advantage >= 0, ratio > 1.0 + high, ratio < 1.0 - low)
        pull = jnp.where(clipped, 0.0, ratio * advantage)
        return z + step / G * (pull @ chosen - jnp.exp(logp) * jnp.sum(pull))

    return jax.lax.fori_loop(0, epochs, ascend, logits)
