"""Chi-squared between trajectories and divergences between occupancies against enumeration."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from exact_worlds import WORLDS, bandit, chain, log_softmax, random_logits, slippery, trajectories

from jaxrl_lab import exact

everywhere = pytest.mark.parametrize("name", ["chain", "bandit", "modular", "slippery"])


def close_pair(name: str) -> tuple[Any, jax.Array, jax.Array]:
    mdp = WORLDS[name]()
    logits = random_logits(mdp)
    return mdp, logits, logits + 0.5 * random_logits(mdp, 1)


@everywhere
def test_trajectory_chi_squared_is_the_variance_of_the_sequence_weight(name: str) -> None:
    mdp, a, b = close_pair(name)
    want = -1.0
    for path in trajectories(mdp, log_softmax(a), log_softmax(b)):
        want += path.dynamics * np.exp(2.0 * path.logp - path.other)
    got = exact.trajectory_chi_squared(mdp, jax.nn.log_softmax(a), jax.nn.log_softmax(b))
    np.testing.assert_allclose(got, want, rtol=1e-4)


def test_small_divergences_keep_their_digits() -> None:
    """To second order χ² = 2 KL = Σ d² ε'Fε; float32 differences near 1 would be all noise."""
    mdp = slippery()
    a = random_logits(mdp)
    b = a + 1e-4 * random_logits(mdp, 1)
    logp, other = log_softmax(a), log_softmax(b)
    want = 0.0
    for path in trajectories(mdp, logp, other):
        want += path.probability * np.expm1(path.logp - path.other)
    got = exact.trajectory_chi_squared(mdp, jax.nn.log_softmax(a), jax.nn.log_softmax(b))
    assert 1e-9 < want < 1e-6
    np.testing.assert_allclose(got, want, rtol=1e-2)
    tilted = jnp.array([0.3, 0.7]) + 1e-4 * jnp.array([1.0, -1.0])
    p, q = np.asarray(tilted, np.float64), np.asarray(jnp.array([0.3, 0.7]), np.float64)
    p, q = p / p.sum(), q / q.sum()
    kl = exact.occupancy_kl(tilted, jnp.array([0.3, 0.7]))
    np.testing.assert_allclose(kl, np.sum(p * np.log(p / q)), rtol=1e-2)


def test_played_weights_scatter_as_the_divergence_says() -> None:
    """100 000 trajectories of ``other`` in the slippery grid: E[w²] within 4 standard errors."""
    mdp, a, b = close_pair("slippery")
    b = a + 0.2 * (b - a)
    logp, other = (log_softmax(z)[np.asarray(mdp.row)] for z in (a, b))
    P, over = np.asarray(mdp.P, np.float64), np.asarray(mdp.terminal)
    rng, n = np.random.default_rng(0), 100_000
    state = np.full(n, int(np.argmax(mdp.start)))
    weight = np.zeros(n)
    for _ in range(mdp.horizon):
        alive = ~over[state]
        cdf = np.cumsum(np.exp(other), axis=1)[state]
        action = np.minimum((rng.random((n, 1)) >= cdf).sum(1), 3)
        weight += np.where(alive, logp[state, action] - other[state, action], 0.0)
        ahead = np.cumsum(P[state, action], axis=1)
        to = np.minimum((rng.random((n, 1)) >= ahead).sum(1), len(over) - 1)
        state = np.where(alive, to, state)
    square = np.exp(2.0 * weight)
    chi = exact.trajectory_chi_squared(mdp, jax.nn.log_softmax(a), jax.nn.log_softmax(b))
    assert abs(square.mean() - 1.0 - float(chi)) < 4 * square.std() / np.sqrt(n)
    assert float(chi) > 20 * square.std() / np.sqrt(n)


def test_actions_that_are_ruled_out() -> None:
    mdp = bandit()
    half = jnp.full((3, 6), -jnp.inf).at[:, :2].set(jnp.log(0.5))
    full = jnp.full((3, 6), -jnp.log(6.0))
    np.testing.assert_allclose(exact.trajectory_chi_squared(mdp, half, full), 2.0, rtol=1e-6)
    assert np.isinf(exact.trajectory_chi_squared(mdp, full, half))
    # A divergence that is infinite only where the policy never goes does not count.
    fail = jnp.full((5, 3), -jnp.inf).at[:, 2].set(0.0)
    elsewhere = fail.at[3].set(jnp.array([0.0, -jnp.inf, -jnp.inf]))
    assert float(exact.trajectory_chi_squared(chain(), fail, elsewhere)) == 0.0
    onward = jnp.full((5, 3), -jnp.inf).at[:, 0].set(0.0)
    assert np.isinf(exact.trajectory_chi_squared(chain(), onward, fail))
    gradient = jax.grad(lambda z: exact.trajectory_chi_squared(mdp, jax.nn.log_softmax(z), full))(
        jnp.where(jnp.isfinite(half), 0.0, -jnp.inf)
    )
    assert np.all(np.isfinite(gradient))


@everywhere
def test_occupancy_divergences(name: str) -> None:
    """Time, state and action, and the discounted measure over states and actions."""
    mdp, a, b = close_pair(name)
    la, lb = jax.nn.log_softmax(a), jax.nn.log_softmax(b)
    counts = []
    for z in (a, b):
        table = np.zeros((mdp.horizon, mdp.num_states, mdp.num_actions))
        for path in trajectories(mdp, log_softmax(z)):
            for t, action in enumerate(path.actions):
                table[t, path.states[t], action] += path.probability
        counts.append(table)
    mass = [exact.action_occupancy(mdp, exact.occupancy(mdp, x), x) for x in (la, lb)]
    for got, want in zip(mass, counts, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    flat = [c / c.sum() for c in counts]
    seen = flat[0] > 0
    p, q = flat[0][seen], flat[1][seen]
    np.testing.assert_allclose(exact.occupancy_kl(*mass), np.sum(p * np.log(p / q)), rtol=1e-3)
    chi = np.sum((p - q) ** 2 / q)
    np.testing.assert_allclose(exact.occupancy_chi_squared(*mass), chi, rtol=1e-3)
    for f in (exact.occupancy_kl, exact.occupancy_chi_squared):
        assert float(f(mass[0], 3.0 * mass[0])) == pytest.approx(0.0, abs=1e-9)
        # Marginals are closer than the whole (data processing).
        states = [jnp.sum(m, axis=-1) for m in mass]
        assert float(f(*states)) <= float(f(*mass)) * (1 + 1e-5)
    timed = jnp.broadcast_to(la[mdp.row], (mdp.horizon, mdp.num_states, mdp.num_actions))
    np.testing.assert_allclose(
        exact.action_occupancy(mdp, exact.occupancy(mdp, timed), timed), mass[0], rtol=1e-5
    )
    for x, y in [(la, lb)]:
        d, e = (exact.discounted_occupancy(mdp, z, 0.9) for z in (x, y))
        p, q = (np.asarray(z, np.float64)[np.asarray(d) > 0] for z in (d, e))
        p, q = p / p.sum(), q / q.sum()
        np.testing.assert_allclose(
            exact.occupancy_kl(d, e), np.sum(p * np.log(p / q)), rtol=1e-3, atol=1e-7
        )


def test_occupancies_of_different_support_are_infinitely_far_apart_one_way() -> None:
    half, full = jnp.array([0.5, 0.5, 0.0]), jnp.array([1.0, 1.0, 2.0])
    np.testing.assert_allclose(exact.occupancy_kl(half, full), np.log(2.0), rtol=1e-6)
    np.testing.assert_allclose(exact.occupancy_chi_squared(half, full), 1.0, rtol=1e-6)
    assert np.isinf(exact.occupancy_kl(full, half))
    assert np.isinf(exact.occupancy_chi_squared(full, half))
