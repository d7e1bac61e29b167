"""What a policy on counts earns, tries and abandons in Bernoulli bandits, averaged over the prior.

The counts (failures and successes of every arm) are all that a history of T pulls says about K
arms with Beta(a, b) means, so that a policy is a table ``logp[R, K]`` with one row per vector of
counts, by :func:`~jaxrl_envs.bandits.counts.rank`; and since an agent meets a success with its
own posterior probability, backward induction over the counts needs no task and no sample.
"""

from __future__ import annotations

from functools import cache, cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxrl_envs.bandits import rules
from jaxrl_envs.bandits.counts import binomials, every_count, how_many
from jaxrl_envs.errors import expect
from jaxtyping import Array, Float
from scipy import special

CELLS = 1024
"""Pieces of [0, 1] over which the chance of being the best arm is summed."""
MOST_HISTORIES = 200_000
"""More counts than that are refused: they would take minutes and gigabytes."""


class Played(NamedTuple):
    """Expectations over tasks, pay and the policy's own choices.

    Attributes:
        reward: pay per pull.
        coverage: share of the arms that are tried in the first half.
        suffix_failure: chance that the best arm is never pulled in the second half.
        greedy: share of pulls, first tries aside, of an arm whose empirical mean is highest
            among those tried.
    """

    reward: Float[Array, "..."]
    coverage: Float[Array, "..."]
    suffix_failure: Float[Array, "..."]
    greedy: Float[Array, "..."]


class Beliefs:
    """All counts of K arms in T pulls, and what they say. Cached by :func:`beliefs`."""

    def __init__(self, arms: int, horizon: int, a: float, b: float) -> None:
        size = how_many(2 * arms, horizon)
        expect(size <= MOST_HISTORIES, "horizon", horizon, f"at most {MOST_HISTORIES} histories")
        self.arms, self.horizon, self.a, self.b = arms, horizon, a, b
        self.counts = every_count(2 * arms, horizon)
        pairs = self.counts.reshape(size, arms, 2)
        self.pulls, self.successes = pairs.sum(axis=2), pairs[:, :, 1]
        self.chance = ((a + self.successes) / (a + b + self.pulls)).astype(np.float32)

    @property
    def rows(self) -> int:
        """Vectors of counts after which there is another pull."""
        return how_many(2 * self.arms, self.horizon - 1)

    def layer(self, t: int) -> slice:
        """The counts after t pulls."""
        return slice(how_many(2 * self.arms, t - 1) if t else 0, how_many(2 * self.arms, t))

    def ahead(self, t: int) -> np.ndarray:
        """Where a failure and a success of every arm lead, within the next layer, ``[S, K, 2]``."""
        entries = 2 * self.arms
        grown = self.counts[self.layer(t)][:, None, :] + np.eye(entries, dtype=np.int32)
        sums = np.cumsum(grown, axis=2)
        ranks = binomials(entries, self.horizon)[np.arange(entries), sums].sum(axis=2)
        return (ranks - self.layer(t + 1).start).reshape(-1, self.arms, 2).astype(np.int32)

    @cached_property
    def layers(self) -> dict[str, np.ndarray]:
        """What backward induction reads, a row per clock ``[T, S, ...]``, padded with zeros."""
        widest = self.layer(self.horizon)
        leads = self.leading()
        each = []
        for t in range(self.horizon):
            here = self.layer(t)
            fields = {
                "row": np.arange(here.start, here.stop, dtype=np.int32),
                "chance": self.chance[here],
                "ahead": self.ahead(t),
                "leads": leads[here].astype(np.float32),
                "tried": (self.pulls[here] > 0).astype(np.float32),
            }
            room = widest.stop - widest.start - (here.stop - here.start)
            each.append({k: _padded(x, room) for k, x in fields.items()})
        stacked = {k: np.stack([x[k] for x in each]) for k in each[0]}
        return stacked | {"t": np.arange(self.horizon, dtype=np.int32)}

    def best(self, where: slice) -> np.ndarray:
        """P(arm a is the best | counts), ``[S, K]``: what Thompson sampling plays."""
        edges = np.linspace(0.0, 1.0, CELLS + 1)
        n, s = self.pulls[where], self.successes[where]
        kinds, which = np.unique(np.stack([n, s], -1).reshape(-1, 2), axis=0, return_inverse=True)
        shape = self.a + kinds[:, 1:], self.b + kinds[:, :1] - kinds[:, 1:]
        cdf = special.betainc(*shape, edges[None, :])
        mass, below = np.diff(cdf, axis=1), (cdf[:, 1:] + cdf[:, :-1]) / 2
        of = which.reshape(n.shape)
        each = [
            np.sum(mass[of[:, k]] * np.prod([below[of[:, j]] for j in range(self.arms) if j != k],
                                            axis=0), axis=1)
            for k in range(self.arms)
        ]  # fmt: skip
        chance = np.stack(each, axis=1)
        return chance / chance.sum(axis=1, keepdims=True)

    def leading(self) -> np.ndarray:
        """Whether an arm has the highest empirical mean among those tried, ``[R, K]``."""
        n, s = self.pulls[: self.rows], self.successes[: self.rows]
        mean = np.where(n > 0, s / np.maximum(n, 1), -np.inf)
        return (n > 0) & (mean >= mean.max(axis=1, keepdims=True) - 1e-9)


@cache
def beliefs(arms: int, horizon: int, a: float = 1.0, b: float = 1.0) -> Beliefs:
    """The counts of K arms with Beta(a, b) means in T pulls.

    Raises:
        BadInput: more counts than can be enumerated.
    """
    return Beliefs(arms, horizon, a, b)


def play_counts(logp: Float[Array, "R K"], known: Beliefs) -> Played:
    """What the policy of a table does, exactly; differentiable and vmappable in the table.

    suffix_failure = Σ_a P(arm a is not pulled from T/2 on, and is the best): at the last counts
    the posterior says how likely each arm is the best, and the recursion for arm a leaves out the
    pulls of arm a. Raises BadInput where the table has not one row per vector of counts.
    """
    rows = (known.rows, known.arms)
    expect(logp.shape == rows, "logp.shape", logp.shape, f"{rows}: one row per vector of counts")
    pi, half, layers = jnp.exp(logp), known.horizon // 2, known.layers
    others = jnp.asarray(1.0 - np.eye(known.arms, dtype=np.float32))

    def back(values: Any, now: Any) -> tuple[Any, None]:
        total, abandoned, covered = values
        chosen, p, ahead = pi[now["row"]], now["chance"], now["ahead"]
        outcome = jnp.stack([1.0 - p, p], axis=-1)

        def onward(value: Array) -> Array:
            """E[value of the next counts | arm], ``[S, K, columns]``."""
            return jnp.sum(outcome[..., None] * value[ahead], axis=2)

        paid = jnp.stack([p, now["leads"], now["tried"]], axis=-1)
        total = jnp.einsum("sk,skc->sc", chosen, paid + onward(total))
        allowed = jnp.where(now["t"] >= half, others, 1.0)
        abandoned = jnp.einsum("sk,ka,ska->sa", chosen, allowed, onward(abandoned))
        before = jnp.einsum("sk,skc->sc", chosen, onward(covered))
        share = jnp.mean(now["tried"], axis=1, keepdims=True)
        return (total, abandoned, jnp.where(now["t"] == half, share, before)), None

    last = jnp.asarray(known.best(known.layer(known.horizon)), jnp.float32)
    begin = jnp.zeros((len(last), 3)), last, jnp.zeros((len(last), 1))
    (total, abandoned, covered), _ = jax.lax.scan(back, begin, layers, reverse=True)
    reward, greedy, repeated = total[0]
    greedy = greedy / jnp.maximum(repeated, 1e-6)
    return Played(reward / known.horizon, covered[0, 0], jnp.sum(abandoned[0]), greedy)


def reference_rules(known: Beliefs, bonus: float = 1.0) -> dict[str, Float[Array, "R K"]]:
    """The rules every bandit agent is compared with, as tables; ties are broken evenly.

    ``greedy`` (posterior mean), ``thompson``, ``ucb`` (mean + sqrt(bonus / n), as
    :func:`~jaxrl_envs.bandits.rules.ucb`), ``optimal`` (Bayes-optimal) and ``uniform``.
    """
    r, shape = known.rows, np.ones(known.arms)
    ucb = jax.jit(rules.ucb)(known.pulls[:r], known.successes[:r], bonus)
    optimal = rules.bayes_optimal(known.a * shape, known.b * shape, known.horizon).action[:r]
    thompson = known.best(slice(0, r)).astype(np.float32)
    return {
        "greedy": _evenly(np.asarray(known.chance[:r])),
        "thompson": jnp.asarray(np.log(np.maximum(thompson, 1e-30))),
        "ucb": _evenly(np.asarray(ucb)),
        "optimal": _evenly(np.eye(known.arms)[optimal]),
        "uniform": jnp.full((r, known.arms), -np.log(known.arms), jnp.float32),
    }


def argmax_table(score: Float[Array, "R K"]) -> Float[Array, "R K"]:
    """The deterministic policy of the highest score: the first of equals."""
    chosen = jax.nn.one_hot(jnp.argmax(score, axis=-1), score.shape[-1])
    return jnp.where(chosen > 0, 0.0, -jnp.inf)


def _padded(x: np.ndarray, room: int) -> np.ndarray:
    return np.pad(x, [(0, room)] + [(0, 0)] * (x.ndim - 1))


def _evenly(score: np.ndarray) -> Float[Array, "R K"]:
    """Uniform over the highest scores of each row."""
    best = score >= score.max(axis=1, keepdims=True) - 1e-6
    best = np.where(np.isinf(score).any(axis=1, keepdims=True), np.isinf(score), best)
    with np.errstate(divide="ignore"):
        return jnp.asarray(np.log(best / best.sum(axis=1, keepdims=True)), jnp.float32)
