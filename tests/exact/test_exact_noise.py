"""Moments of one group update in closed form against enumeration, and what they grow into."""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxrl_envs import BadInput

from jaxrl_lab import exact

K, G = 4, 5
CORRECT = np.array([True, False, True, False])
LOGITS = np.array([0.3, -0.2, -0.8, 0.5])


def probabilities(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max())
    return np.asarray(e / e.sum())


def change(group: list[int], pi: np.ndarray, ddof: int) -> np.ndarray:
    """(1/G) Σ_i A_i (e_{a_i} − π), advantages normalized by the group's deviation."""
    R = CORRECT[group].astype(float)
    if R.min() == R.max():
        return np.zeros(K)
    A = (R - R.mean()) / R.std(ddof=ddof)
    return np.asarray(np.mean(A[:, None] * (np.eye(K)[group] - pi), axis=0))


def brute(z: np.ndarray, ddof: int) -> tuple[np.ndarray, np.ndarray]:
    """Over all K^G ordered groups, in float64."""
    pi = probabilities(z)
    groups = [list(g) for g in itertools.product(range(K), repeat=G)]
    weight = np.array([np.prod(pi[g]) for g in groups])
    x = np.array([change(g, pi, ddof) for g in groups])
    mean = weight @ x
    return mean, (weight[:, None] * (x - mean)).T @ (x - mean)


@pytest.mark.parametrize("ddof", [0, 1])
@pytest.mark.parametrize("shift", [0.0, 9.0, -9.0])
def test_moments_are_those_of_all_groups(ddof: int, shift: float) -> None:
    z = LOGITS + shift * CORRECT  # from almost never right to almost always
    mean, covariance = brute(z, ddof)
    logp = jax.nn.log_softmax(jnp.asarray(z, jnp.float32))
    found = exact.normalized_update_moments(logp, jnp.asarray(CORRECT), G, ddof)
    np.testing.assert_allclose(found[0], mean, rtol=2e-4, atol=1e-8)
    size = np.abs(covariance).max()
    assert size > 1e-6
    np.testing.assert_allclose(found[1], covariance, rtol=1e-3, atol=2e-5 * size)
    np.testing.assert_allclose(np.sum(found[1], axis=0), 0.0, atol=1e-6)


def test_moments_are_those_of_the_enumerated_compositions() -> None:
    """9 arms and groups of 6: half a million ordered groups, 3003 compositions."""
    correct = jnp.arange(9) % 3 == 0
    logp = jax.nn.log_softmax(jax.random.normal(jax.random.key(1), (9,)))

    def one(actions: jax.Array) -> jax.Array:
        R = correct[actions].astype(jnp.float32)
        spread = jnp.std(R, ddof=1)
        A = jnp.where(spread > 0, (R - jnp.mean(R)) / jnp.where(spread > 0, spread, 1.0), 0.0)
        return jnp.mean(A[:, None] * (jax.nn.one_hot(actions, 9) - jnp.exp(logp)[None]), axis=0)

    by_hand = exact.exact_moments(one, logp, 6)
    mean, covariance = exact.normalized_update_moments(logp, correct, 6)
    np.testing.assert_allclose(mean, by_hand.mean, atol=1e-6)
    np.testing.assert_allclose(covariance, by_hand.covariance, atol=1e-6)
    p = jnp.sum(jnp.where(correct, jnp.exp(logp), 0.0))
    weight = exact.difficulty_weight(p, 6, ddof=1)
    gradient = jnp.exp(logp) * (correct.astype(jnp.float32) - p)
    np.testing.assert_allclose(mean, weight * gradient, atol=1e-6)


@pytest.mark.parametrize("correct", [[True] * K, [False] * K])
def test_nothing_moves_where_all_arms_are_alike(correct: list[bool]) -> None:
    logp = jax.nn.log_softmax(jnp.asarray(LOGITS, jnp.float32))
    mean, covariance = exact.normalized_update_moments(logp, jnp.array(correct), G)
    np.testing.assert_allclose(mean, 0.0, atol=1e-5)
    np.testing.assert_allclose(covariance, 0.0, atol=1e-5)


def test_equal_arms_part_by_noise_alone() -> None:
    """From an even start the path keeps all right arms equal, and their variance grows like η."""
    correct = jnp.arange(8) < 3
    logits = jnp.where(correct, 0.4, 0.0)
    apart = {}
    for step, updates in ((0.02, 400), (0.01, 800)):
        z, V = exact.linear_noise(logits, correct, 8, step, updates)
        assert z.shape == (updates + 1, 8)
        np.testing.assert_allclose(jnp.ptp(z[:, :3], axis=1), 0.0, atol=1e-5)
        apart[step] = float(V[-1, 0, 0] - V[-1, 0, 1])
    assert apart[0.02] > 0.005
    assert apart[0.02] / apart[0.01] == pytest.approx(2.0, rel=0.05)


def test_linear_noise_is_the_scatter_of_many_sampled_runs() -> None:
    correct, step, updates, runs = jnp.arange(6) < 2, 0.1, 60, 4000
    logits = jnp.array([0.5, 0.3, 0.0, 0.2, -0.4, 0.0])

    def update(z: jax.Array, key: jax.Array) -> tuple[jax.Array, None]:
        logp = jax.nn.log_softmax(z)
        actions = jax.random.categorical(key, logp, shape=(8,))
        R = correct[actions].astype(jnp.float32)
        spread = jnp.std(R, ddof=1)
        A = jnp.where(spread > 0, (R - jnp.mean(R)) / jnp.where(spread > 0, spread, 1.0), 0.0)
        score = jax.nn.one_hot(actions, 6) - jnp.exp(logp)[None]
        return z + step * jnp.mean(A[:, None] * score, axis=0), None

    @jax.jit
    @jax.vmap
    def run(key: jax.Array) -> jax.Array:
        return jax.lax.scan(update, logits, jax.random.split(key, updates))[0]

    last = np.asarray(run(jax.random.split(jax.random.key(0), runs)))
    z, V = exact.linear_noise(logits, correct, 8, step, updates)
    error = last.std(0, ddof=1) / np.sqrt(runs)
    # The mean path is off by terms of the order of V.
    np.testing.assert_allclose(last.mean(0), z[-1], atol=5 * error.max() + 0.02)
    size = np.abs(V[-1]).max()
    np.testing.assert_allclose(np.cov(last.T), V[-1], atol=0.08 * float(size))
    assert float(size) > 0.005


def test_what_cannot_be_used_is_refused() -> None:
    logp = jnp.log(jnp.ones(3) / 3)
    for given in ({"G": 1}, {"G": 4, "ddof": 2}):
        with pytest.raises(BadInput):
            exact.normalized_update_moments(logp, jnp.array([True, False, False]), **given)
