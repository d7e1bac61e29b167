"""Mean and covariance of group updates against all ordered groups, written in NumPy."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest
from exact_worlds import log_softmax, modular, random_logits, trajectories

from jaxrl_lab import exact

K, G = 4, 5
REWARD = np.array([1.0, 0.0, 1.0, 0.3])
LOGITS = np.array([0.3, -0.2, -0.8, 0.5])


def advantages(R: Any, kind: str, xp: Any) -> Any:
    centered = R - xp.mean(R)
    if kind == "leave_one_out":
        return centered * (G / (G - 1))
    if kind == "normalized":
        return centered / (xp.sqrt(xp.mean(centered**2)) + 1e-4)
    return xp.where(centered > 0, 2.0, 1.0) * centered  # asymmetric


def update(kind: str) -> Callable[[jax.Array], dict[str, jax.Array]]:
    pi, pays = jax.nn.softmax(jnp.asarray(LOGITS, jnp.float32)), jnp.asarray(REWARD, jnp.float32)

    def change(actions: jax.Array) -> dict[str, jax.Array]:
        A = advantages(pays[actions], kind, jnp)
        score = jax.nn.one_hot(actions, K) - pi[None]
        return {"logits": jnp.mean(A[:, None] * score, axis=0), "reward": jnp.mean(pays[actions])}

    return change


def brute(kind: str) -> tuple[np.ndarray, np.ndarray]:
    """All K^G ordered groups in float64; the vector is (logits, reward)."""
    pi = np.exp(log_softmax(LOGITS))
    weights, changes = [], []
    for group in itertools.product(range(K), repeat=G):
        a = list(group)
        A = advantages(REWARD[a], kind, np)
        logits = np.mean(A[:, None] * (np.eye(K)[a] - pi), axis=0)
        weights.append(np.prod(pi[a]))
        changes.append([*logits, REWARD[a].mean()])
    w, x = np.array(weights), np.array(changes)
    mean = w @ x
    return mean, (w[:, None] * (x - mean)).T @ (x - mean)


kinds = pytest.mark.parametrize("kind", ["leave_one_out", "normalized", "asymmetric"])


@kinds
def test_compositions_give_the_moments_of_all_ordered_groups(kind: str) -> None:
    mean, covariance = brute(kind)
    logp = jax.nn.log_softmax(jnp.asarray(LOGITS, jnp.float32))
    got = jax.jit(lambda x: exact.exact_moments(update(kind), x, G))(logp)
    np.testing.assert_allclose(got.mean["logits"], mean[:-1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(got.mean["reward"], mean[-1], rtol=1e-5)
    np.testing.assert_allclose(got.covariance, covariance, rtol=1e-4, atol=1e-6)
    assert float(got.error["reward"]) == 0.0
    np.testing.assert_array_equal(got.error["logits"], np.zeros(K))
    ordered = exact.expected_update(update(kind), logp, G)
    np.testing.assert_allclose(got.mean["logits"], ordered["logits"], rtol=1e-4, atol=1e-6)


@kinds
def test_sampled_moments_lie_within_their_errors(kind: str) -> None:
    mean, covariance = brute(kind)
    logp = jax.nn.log_softmax(jnp.asarray(LOGITS, jnp.float32))
    n = 50_000
    got = jax.jit(lambda key: exact.sampled_moments(update(kind), logp, G, key, n))(
        jax.random.key(0)
    )
    found = np.append(got.mean["logits"], got.mean["reward"])
    error = np.append(got.error["logits"], got.error["reward"])
    np.testing.assert_allclose(error, np.sqrt(np.diag(covariance) / n), rtol=0.03)
    assert np.all(np.abs(found - mean) < 4 * error)
    scale = np.sqrt(np.outer(np.diag(covariance), np.diag(covariance)))
    assert np.all(np.abs(np.asarray(got.covariance) - covariance) < 0.03 * scale)


def test_coverage_of_the_stated_interval() -> None:
    """2 standard errors hold the truth in about 95 of 100 repetitions."""
    mean, _ = brute("normalized")
    logp = jax.nn.log_softmax(jnp.asarray(LOGITS, jnp.float32))

    @jax.jit
    @jax.vmap
    def repeat(key: jax.Array) -> Any:
        return exact.sampled_moments(update("normalized"), logp, G, key, 500)

    got = repeat(jax.random.split(jax.random.key(1), 400))
    inside = np.abs(np.asarray(got.mean["logits"]) - mean[:-1]) < 2 * got.error["logits"]
    assert np.all(np.abs(inside.mean(0) - 0.954) < 0.045)


def test_large_groups_are_within_reach() -> None:
    """Sixteen rollouts of four arms are 969 compositions instead of 4 · 10⁹ groups."""
    groups, orders = exact.compositions(4, 16)
    assert groups.shape == (969, 16)
    assert np.all(np.diff(np.asarray(groups), axis=1) >= 0)
    np.testing.assert_allclose(np.sum(np.exp(np.asarray(orders, np.float64))), 4.0**16, rtol=1e-5)
    p = jax.nn.softmax(jnp.asarray(LOGITS, jnp.float32))
    right = jnp.array([1.0, 0.0, 1.0, 0.0])

    def change(actions: jax.Array) -> jax.Array:
        R = right[actions]
        centered = R - jnp.mean(R)
        A = centered / jnp.maximum(jnp.std(R), 1e-6)
        return jnp.mean(A[:, None] * (jax.nn.one_hot(actions, 4) - p[None]), axis=0)

    moments = exact.exact_moments(change, jnp.log(p), 16)
    hit = jnp.sum(p * right)
    factor = exact.difficulty_weight(hit, 16)
    np.testing.assert_allclose(moments.mean, factor * p * (right - hit), rtol=1e-4, atol=1e-6)


def test_outcomes_may_be_whole_trajectories() -> None:
    """Modular chains: the mean leave-one-out update is the exact policy gradient."""
    mdp = modular()
    logits = random_logits(mdp)
    paths = list(trajectories(mdp, log_softmax(logits)))
    row = np.asarray(mdp.row)
    pi = np.exp(log_softmax(logits))
    scores = np.zeros((len(paths), *logits.shape))
    for i, path in enumerate(paths):
        for s, a in zip(path.states, path.actions, strict=False):
            scores[i, row[s]] -= pi[row[s]]
            scores[i, row[s], a] += 1.0
    score = jnp.asarray(scores.reshape(len(paths), -1), jnp.float32)
    won = jnp.asarray([sum(p.rewards) for p in paths], jnp.float32)
    logp = jnp.log(jnp.asarray([p.probability for p in paths], jnp.float32))

    def change(group: jax.Array) -> jax.Array:
        R = won[group]
        return jnp.mean(2.0 * (R - jnp.mean(R))[:, None] * score[group], axis=0)

    moments = jax.jit(lambda x: exact.exact_moments(change, x, 2))(logp)
    gradient = exact.policy_gradient(mdp, logits)
    np.testing.assert_allclose(moments.mean.reshape(logits.shape), gradient, rtol=1e-3, atol=2e-6)


def test_what_is_too_large_is_refused_with_a_way_out() -> None:
    with pytest.raises(je.BadInput, match="sampled_moments"):
        exact.compositions(64, 8)
    with pytest.raises(je.BadInput, match="samples"):
        exact.sampled_moments(lambda a: a, jnp.zeros(2), 2, jax.random.key(0), 1)
