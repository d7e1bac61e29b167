"""Stagnation of the quadratic: closed forms against independent simulation, and their limits."""

from __future__ import annotations

from itertools import pairwise

import jax.numpy as jnp
import numpy as np
import pytest

from jaxrl_lab.exact import inner_loop_plateau, plateau, regularized_bandit

H, S = np.array([1.0, 0.1]), np.array([1.0, 1.0])


def stalled(step: float, n: int) -> float:
    return float(plateau(step, jnp.asarray(H), jnp.asarray(S), n))


@pytest.mark.parametrize(("step", "n"), [(0.5, 16), (0.25, 16), (0.5, 32), (0.1, 16)])
def test_the_outer_loop_stalls_where_it_says(step: float, n: int) -> None:
    rng, theta = np.random.default_rng(0), np.zeros((2000, 2))
    seen = []
    for k in range(int(40 / step)):
        theta += step * (-H * theta + rng.normal(size=theta.shape) * np.sqrt(S / n))
        if k > 20 / step:
            seen.append((0.5 * H * theta**2).sum(1).mean())
    assert np.mean(seen) == pytest.approx(stalled(step, n), rel=0.05)


def test_half_the_step_or_twice_the_data_halve_the_plateau() -> None:
    assert stalled(0.001, 16) == pytest.approx(2 * stalled(0.0005, 16), rel=1e-3)
    assert stalled(0.5, 16) == pytest.approx(2 * stalled(0.5, 32), rel=1e-6)
    assert stalled(1e-3, 16) == pytest.approx(1e-3 * S.sum() / (4 * 16), rel=1e-3)


def loop(rate: float, m: int, M: int, E: int, h: np.ndarray, s: np.ndarray) -> float:
    return float(
        inner_loop_plateau(
            rate, jnp.asarray(h, jnp.float32), jnp.asarray(s, jnp.float32),
            minibatch=m, minibatches=M, epochs=E,
        )
    )  # fmt: skip


@pytest.mark.parametrize(("M", "E"), [(1, 4), (8, 1), (8, 4), (3, 2)])
def test_epochs_over_reshuffled_transitions_stall_where_it_says(M: int, E: int) -> None:
    """Transition by transition: each epoch cuts a new permutation of them into minibatches."""
    rate, m, runs = 0.2, 2, 1500
    rng, theta = np.random.default_rng(1), np.zeros((runs, 2))
    seen = []
    for k in range(150):
        noise = rng.normal(size=(runs, M * m, 2)) * np.sqrt(S)
        for _ in range(E):
            order = rng.permuted(np.tile(np.arange(M * m), (runs, 1)), axis=1)
            mixed = np.take_along_axis(noise, order[..., None], 1).reshape(runs, M, m, 2).mean(2)
            for j in range(M):
                theta += rate * (-H * theta + mixed[:, j])
        if k > 75:
            seen.append((0.5 * H * theta**2).sum(1).mean())
    assert np.mean(seen) == pytest.approx(loop(rate, m, M, E, H, S), rel=0.06)


def test_one_epoch_is_online_learning_whatever_the_number_of_minibatches() -> None:
    online = float(plateau(0.2, jnp.asarray(H), jnp.asarray(S), 4))
    for M in (1, 7, 1000):
        assert loop(0.2, 4, M, 1, H, S) == pytest.approx(online, rel=1e-4)


def test_reuse_costs_a_factor_of_the_epochs_in_short_loops_and_nothing_in_long_ones() -> None:
    online = float(plateau(1e-3, jnp.asarray(H), jnp.asarray(S), 4))
    for E in (2, 4, 8):
        assert loop(1e-3, 4, 1, E, H, S) == pytest.approx(E * online, rel=0.02)
        assert loop(1e-3, 4, 10**6, E, H, S) == pytest.approx(online, rel=0.02)
        falling = [loop(0.05, 4, M, E, H, S) for M in (1, 8, 64, 512)]
        assert all(a >= b for a, b in pairwise(falling))
        assert falling[0] / falling[-1] <= E * 1.001


def test_directions_without_curvature_lose_nothing() -> None:
    with_flat = loop(0.1, 4, 8, 4, np.array([1.0, 0.0]), np.array([1.0, 1.0]))
    assert with_flat == pytest.approx(loop(0.1, 4, 8, 4, np.array([1.0]), np.array([1.0])))


def test_curvature_and_noise_of_a_bandit_are_those_of_its_objective() -> None:
    """Finite differences of J = r·π + τH, and sampled gradients in float64 NumPy."""
    r, tau, sigma = np.array([1.0, 0.5, 0.0, -0.3]), 0.4, 0.7

    def policy(z: np.ndarray) -> np.ndarray:
        p = np.exp(z - z.max())
        return p / p.sum()

    def objective(z: np.ndarray) -> float:
        p = policy(z)
        return float(p @ r - tau * p @ np.log(p))

    z, eps, eye = r / tau, 1e-3, np.eye(4)
    hessian = np.array(
        [
            [
                sum(a * b * objective(z + eps * (a * u + b * v)) for a in (1, -1) for b in (1, -1))
                / (4 * eps**2)
                for u in eye
            ]
            for v in eye
        ]
    )
    curvature, noise = (np.asarray(x) for x in regularized_bandit(jnp.asarray(r), tau, sigma))
    values, modes = np.linalg.eigh(-hessian)
    np.testing.assert_allclose(np.sort(curvature), np.maximum(np.sort(values), 0), atol=2e-4)
    rng, p = np.random.default_rng(0), policy(z)
    a = rng.choice(4, 400_000, p=p)
    A = r[a] - p @ r + sigma * rng.normal(size=a.size)
    gradient = A[:, None] * (eye[a] - p)
    at_zero = -tau * p * (np.log(p) + -(p @ np.log(p)))
    np.testing.assert_allclose(gradient.mean(0) + at_zero, 0.0, atol=3e-3)
    spread = np.diag(modes.T @ np.cov(gradient.T) @ modes)[1:]
    np.testing.assert_allclose(np.sort(noise)[1:], np.sort(spread), rtol=0.02)
