"""Coverage, suffix failure, balance and greed of sampled agents, against plain loops."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_lab import exact, measures

ARMS, PULLS = 3, 9


@pytest.fixture(scope="module")
def played():
    rng = np.random.default_rng(0)
    actions = rng.integers(0, ARMS, (40, PULLS))
    return actions, rng.integers(0, 2, actions.shape).astype(np.float32), rng.integers(0, ARMS, 40)


def test_each_measure_is_what_a_loop_counts(played):
    actions, pay, best = played
    tried = measures.coverage(jnp.asarray(actions), ARMS)
    failed = measures.suffix_failure(jnp.asarray(actions), jnp.asarray(best))
    greedy = measures.greedy_fraction(jnp.asarray(actions), jnp.asarray(pay), ARMS)
    balance = measures.minimal_fraction(jnp.asarray(actions), ARMS)
    for i, row in enumerate(actions):
        hits = again = 0
        for t, arm in enumerate(row):
            past, paid = row[:t], pay[i, :t]
            assert tried[i, t] == pytest.approx(len(set(row[: t + 1])) / ARMS)
            assert bool(failed[i, t]) == (best[i] not in row[t:])
            means = {k: paid[past == k].mean() for k in set(past)}
            again += arm in means
            hits += arm in means and means[arm] >= max(means.values()) - 1e-6
        assert greedy[i] == pytest.approx(hits / max(again, 1))
        assert balance[i] == pytest.approx(ARMS * min(np.bincount(row, minlength=ARMS)) / PULLS)


def test_what_never_falls_and_what_is_full(played):
    actions, _, best = played
    assert (np.diff(measures.coverage(jnp.asarray(actions), ARMS)) >= 0).all()
    failed = measures.suffix_failure(jnp.asarray(actions), jnp.asarray(best))
    assert (np.diff(failed.astype(np.int32)) >= 0).all()
    even = jnp.tile(jnp.arange(ARMS), PULLS // ARMS)[None]
    assert measures.minimal_fraction(even, ARMS)[0] == 1.0
    assert measures.coverage(even[:, :2], ARMS)[0, -1] == pytest.approx(2 / 3)


def test_many_sampled_rollouts_have_the_exact_means():
    # A fixed random policy on the counts of two arms, drawn 20 000 times, against the recursion:
    # 5 standard errors of a share are at most 0.018.
    horizon, many = 6, 20_000
    known = exact.beliefs(2, horizon)
    table = jax.nn.log_softmax(jax.random.normal(jax.random.key(1), (known.rows, 2)))
    rng = np.random.default_rng(2)
    mean = rng.random((many, 2))
    index = {tuple(c): i for i, c in enumerate(known.counts.tolist())}
    counts = np.zeros((many, 4), np.int64)
    probability = np.exp(np.asarray(table, np.float64))
    actions, pay = np.zeros((many, horizon), int), np.zeros((many, horizon), np.float32)
    for t in range(horizon):
        at = np.array([index[tuple(c)] for c in counts.tolist()])
        arm = (rng.random(many) >= probability[at, 0]).astype(int)
        success = rng.random(many) < mean[np.arange(many), arm]
        counts[np.arange(many), 2 * arm + success] += 1
        actions[:, t], pay[:, t] = arm, success
    said = exact.play_counts(table, known)
    best = jnp.asarray(mean.argmax(axis=1))
    failed = measures.suffix_failure(jnp.asarray(actions), best)[:, horizon // 2]
    tried = measures.coverage(jnp.asarray(actions), 2)[:, horizon // 2 - 1]
    assert pay.mean() == pytest.approx(float(said.reward), abs=0.01)
    assert float(failed.mean()) == pytest.approx(float(said.suffix_failure), abs=0.018)
    assert float(tried.mean()) == pytest.approx(float(said.coverage), abs=0.018)
