"""Reference rules for bandits: pure functions of how often each arm was pulled and what it paid.

Every rule gives *scores* ``[..., K]`` (higher is better) from ``pulls[..., K]`` and ``pay[..., K]``
(summed, so successes for Bernoulli arms); :func:`choose` turns scores into an arm and breaks ties
uniformly. Random rules take their base noise as an argument, like worlds do. Arms nobody pulled
score infinity where a rule has no prior, so each arm is tried once.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, Num

from jaxrl_envs.bandits.bisection import bisect
from jaxrl_envs.bandits.counts import MOST_STATES, binomials, every_count, how_many
from jaxrl_envs.errors import expect

BISECTIONS = 24
"""Halvings of [0, 1] that reach the resolution of float32."""

Counts = Num[Array, "*N K"]
Scores = Float[Array, "*N K"]
Number = float | Float[Array, ""]


def choose(scores: Scores, noise: Float[Array, "*N K"]) -> Int[Array, "*N"]:
    """The arm with the highest score; ``noise`` (uniform, one per arm) breaks ties evenly."""
    best = scores >= jnp.max(scores, axis=-1, keepdims=True)
    return jnp.argmax(jnp.where(best, noise, -1.0), axis=-1).astype(jnp.int32)


def greedy(pulls: Counts, pay: Counts) -> Scores:
    """The empirical mean."""
    n, total = _floats(pulls, pay)
    return jnp.where(n > 0, total / jnp.maximum(n, 1.0), jnp.inf)


def epsilon_greedy(
    pulls: Counts,
    pay: Counts,
    epsilon: Number,
    coin: Float[Array, "*N"],
    noise: Float[Array, "*N K"],
) -> Scores:
    """The empirical mean, but with probability ε (uniform ``coin``) a uniform arm (``noise``)."""
    return jnp.where((coin < epsilon)[..., None], noise, greedy(pulls, pay))


def ucb(pulls: Counts, pay: Counts, bonus: Number = 1.0) -> Scores:
    """Mean + sqrt(C / n), whose bonus ignores the clock. Source: arXiv 2403.15371."""
    n, _ = _floats(pulls, pay)
    return greedy(pulls, pay) + jnp.sqrt(bonus / jnp.maximum(n, 1.0))


def ucb1(pulls: Counts, pay: Counts) -> Scores:
    """Mean + sqrt(2 log t / n). Source: Auer, Cesa-Bianchi and Fischer (2002)."""
    n, _ = _floats(pulls, pay)
    return greedy(pulls, pay) + jnp.sqrt(2.0 * _log_time(n) / jnp.maximum(n, 1.0))


def kl_ucb(pulls: Counts, pay: Counts) -> Scores:
    """max {q : n · kl(mean, q) ≤ log t} for Bernoulli arms, by bisection.

    The paper's c · log log t is left out (c = 0), as it advises. Source: Garivier and Cappé,
    arXiv 1102.2490.
    """
    n, total = _floats(pulls, pay)
    mean = total / jnp.maximum(n, 1.0)
    budget = _log_time(n) / jnp.maximum(n, 1.0)

    low, _ = bisect(
        lambda q: bernoulli_kl(mean, q) <= budget, mean, jnp.ones_like(mean), BISECTIONS
    )
    return jnp.where(n > 0, low, jnp.inf)


def bernoulli_kl(p: Float[Array, "..."], q: Float[Array, "..."]) -> Float[Array, "..."]:
    """KL(Bernoulli(p) ‖ Bernoulli(q)), with 0 log 0 = 0."""
    xlogy = jax.scipy.special.xlogy
    return xlogy(p, p) - xlogy(p, q) + xlogy(1.0 - p, 1.0 - p) - xlogy(1.0 - p, 1.0 - q)


class Posterior(NamedTuple):
    """Mean and standard deviation of the belief about each arm's mean, ``[..., K]``.

    ``mean`` alone, given to :func:`choose`, is posterior-mean greedy.
    """

    mean: Float[Array, "*N K"]
    sd: Float[Array, "*N K"]


def beta_posterior(pulls: Counts, pay: Counts, a: Scores, b: Scores) -> Posterior:
    """The belief about Bernoulli arms with priors Beta(a, b); a and b are ``[K]``."""
    a, b = _beta(pulls, pay, a, b)
    mean = a / (a + b)
    return Posterior(mean, jnp.sqrt(mean * (1.0 - mean) / (a + b + 1.0)))


def normal_posterior(
    pulls: Counts, pay: Counts, mean: Number = 0.0, sd: Number = 1.0, noise: Number = 1.0
) -> Posterior:
    """The belief about arms with pay N(μ, noise²) and prior μ ~ N(mean, sd²)."""
    n, total = _floats(pulls, pay)
    spread = jnp.square(jnp.asarray(sd, jnp.float32))
    weight = jnp.square(jnp.asarray(noise, jnp.float32)) / spread  # the prior, in pulls
    return Posterior(
        (weight * mean + total) / (weight + n), jnp.sqrt(spread * weight / (weight + n))
    )


def bayes_ucb(belief: Posterior, width: Number = 1.0) -> Scores:
    """Posterior mean + c · posterior standard deviation."""
    return belief.mean + width * belief.sd


def perturbed(belief: Posterior, noise: Float[Array, "*N K"], width: Number = 1.0) -> Scores:
    """Posterior mean + c · standard deviation · ξ with ξ standard normal.

    c = 1 is Thompson sampling where the posterior is normal, c = 0 posterior-mean greedy.
    """
    return belief.mean + width * belief.sd * noise


def thompson(key: Array, pulls: Counts, pay: Counts, a: Scores, b: Scores) -> Scores:
    """One draw from the Beta posterior of each Bernoulli arm; the key serves the whole batch."""
    a, b = _beta(pulls, pay, a, b)
    return jax.random.beta(key, a, b, dtype=jnp.float32)


class BayesOptimal(NamedTuple):
    """The exact solution of a Bernoulli bandit under its prior.

    Attributes:
        value: expected pay from here to the end, by :func:`~jaxrl_envs.bandits.counts.rank` of
            the counts (failures and successes of arm 0, of arm 1, …), ``[S]``.
        action: an optimal arm by the same number, ``[S]``; K stands for the known arm.
    """

    value: np.ndarray
    action: np.ndarray


def bayes_optimal(
    a: np.ndarray, b: np.ndarray, horizon: int, known: float | None = None
) -> BayesOptimal:
    """Dynamic programming over the counts of K Bernoulli arms with priors Beta(a, b), in float64.

    V(c) = max_k p_k (1 + V(c + success_k)) + (1 - p_k) V(c + failure_k), V = 0 at the horizon.
    With an arm of ``known`` mean m there is also m · (T - t): a policy that is right to take a
    known arm once is right to keep it, because nothing is learned and less time is left (Bradt,
    Johnson and Karlin 1956).

    Raises:
        BadInput: more states than an int32 can number.
    """
    m = 2 * len(a)
    size = how_many(m, horizon)
    expect(size <= MOST_STATES, "horizon", horizon, f"at most 2^31 states of {m} counts")
    counts, table = every_count(m, horizon), binomials(m, horizon).astype(np.int64)
    value, action = np.zeros(size), np.zeros(size, np.int16)
    for t in range(horizon - 1, -1, -1):
        here = slice(how_many(m, t - 1) if t else 0, how_many(m, t))
        sums = np.cumsum(counts[here], axis=1)

        def after(entry: int, sums: np.ndarray = sums) -> np.ndarray:
            """The value once count ``entry`` has grown by 1."""
            return value[table[np.arange(m), sums + (np.arange(m) >= entry)].sum(axis=1)]

        q = []
        for k in range(len(a)):
            failures, successes = counts[here, 2 * k], counts[here, 2 * k + 1]
            p = (a[k] + successes) / (a[k] + b[k] + failures + successes)
            q.append(p * (1.0 + after(2 * k + 1)) + (1.0 - p) * after(2 * k))
        if known is not None:
            q.append(np.full(len(q[0]), known * (horizon - t)))
        value[here], action[here] = np.max(q, axis=0), np.argmax(q, axis=0)
    return BayesOptimal(value, action)


def _floats(pulls: Counts, pay: Counts) -> tuple[Scores, Scores]:
    return pulls.astype(jnp.float32), pay.astype(jnp.float32)


def _log_time(n: Scores) -> Float[Array, "*N 1"]:
    """log t, t the number of the coming pull."""
    return jnp.log(jnp.sum(n, axis=-1, keepdims=True) + 1.0)


def _beta(pulls: Counts, pay: Counts, a: Scores, b: Scores) -> tuple[Scores, Scores]:
    n, successes = _floats(pulls, pay)
    lead = n.shape
    return successes + jnp.broadcast_to(a, lead), n - successes + jnp.broadcast_to(b, lead)
