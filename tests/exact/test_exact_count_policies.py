"""Policies on counts: golden values, limits, and plain enumeration of every history."""

from __future__ import annotations

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab import exact


def enumerated(table, known):
    """Reward, coverage, suffix failure and greed by the tree of all histories, in NumPy.

    The chance that an arm is the best is integrated afresh, by a sum over a grid of means.
    """
    pi, index = np.exp(np.asarray(table, np.float64)), {}
    for i, c in enumerate(known.counts.tolist()):
        index[tuple(c)] = i
    horizon, half = known.horizon, known.horizon // 2
    grid = (np.arange(400) + 0.5) / 400
    sums = np.zeros(5)

    def best_of(counts):
        density = [
            grid ** (counts[2 * k + 1] + known.a - 1) * (1 - grid) ** (counts[2 * k] + known.b - 1)
            for k in range(2)
        ]
        joint = np.outer(*density)
        first = np.tril(joint, -1).sum() + np.trace(joint) / 2
        return np.array([first, joint.sum() - first]) / joint.sum()

    def walk(counts, chance, history):
        if len(history) == horizon:
            late = {arm for arm, _ in history[half:]}
            early = {arm for arm, _ in history[:half]}
            best = best_of(counts)
            again = hits = 0
            for t, (arm, _) in enumerate(history):
                past = {k: np.mean([s for a, s in history[:t] if a == k]) for k in
                        {a for a, _ in history[:t]}}  # fmt: skip
                again += arm in past
                hits += arm in past and past[arm] >= max(past.values()) - 1e-9
            sums[:] += chance * np.array([
                sum(s for _, s in history) / horizon, len(early) / 2,
                sum(best[a] for a in range(2) if a not in late), hits, again,
            ])  # fmt: skip
            return
        for arm, success in product(range(2), range(2)):
            f, s = counts[2 * arm], counts[2 * arm + 1]
            p = (known.a + s) / (known.a + known.b + f + s)
            after = list(counts)
            after[2 * arm + success] += 1
            step = pi[index[tuple(counts)], arm] * (p if success else 1 - p)
            walk(after, chance * step, [*history, (arm, success)])

    walk([0, 0, 0, 0], 1.0, [])
    return np.array([*sums[:3], sums[3] / sums[4]])


@pytest.mark.parametrize("prior", [(1.0, 1.0), (2.0, 1.0)])
def test_a_random_policy_against_every_history(prior):
    known = exact.beliefs(2, 4, *prior)
    table = jax.nn.log_softmax(jax.random.normal(jax.random.key(0), (known.rows, 2)))
    np.testing.assert_allclose(exact.play_counts(table, known), enumerated(table, known), atol=2e-3)


def test_golden_values_of_the_literature():
    # Total pay of posterior-mean greedy and of the Bayes-optimal table over 10 pulls.
    known = exact.beliefs(2, 10)
    rules = exact.reference_rules(known)
    play = jax.jit(lambda table: exact.play_counts(table, known))
    pay = {name: 10 * float(play(table).reward) for name, table in rules.items()}
    assert pay["greedy"] == pytest.approx(6.0058, abs=1e-4)
    assert pay["optimal"] == pytest.approx(6.0218, abs=1e-4)
    assert pay["uniform"] == pytest.approx(5.0, abs=1e-4)
    assert pay["greedy"] > pay["thompson"], "reward is no evidence of exploration"
    failure = {name: float(play(table).suffix_failure) for name, table in rules.items()}
    assert failure["greedy"] > 3 * failure["thompson"]
    assert float(play(rules["uniform"]).suffix_failure) == pytest.approx(0.5**5, abs=1e-5)
    assert float(play(rules["ucb"]).coverage) == pytest.approx(1.0, abs=1e-6)


def test_an_agent_that_only_pulls_one_arm_abandons_the_best_half_the_time():
    known = exact.beliefs(2, 6)
    always = exact.argmax_table(jnp.tile(jnp.array([1.0, 0.0]), (known.rows, 1)))
    played = exact.play_counts(always, known)
    assert played.suffix_failure == pytest.approx(0.5, abs=1e-4)
    assert played.coverage == 0.5
    assert played.reward == pytest.approx(0.5, abs=1e-6)
    assert played.greedy == pytest.approx(1.0, abs=1e-6)


def test_thompson_plays_the_chance_of_being_the_best():
    # P(Beta(2, 1) > Beta(1, 1)) = 2/3.
    known = exact.beliefs(2, 3)
    where = known.counts.tolist().index([0, 1, 0, 0])
    best = known.best(slice(where, where + 1))
    np.testing.assert_allclose(best, [[2 / 3, 1 / 3]], atol=1e-3)


def test_mistakes_are_named():
    with pytest.raises(BadInput, match="one row per vector"):
        exact.play_counts(jnp.zeros((3, 2)), exact.beliefs(2, 4))
    with pytest.raises(BadInput, match="histories"):
        exact.beliefs(4, 40)
