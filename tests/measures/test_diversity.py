"""Entropy, divergence and diversity of one-step policies."""

from __future__ import annotations

import itertools
import math

import jax
import jax.numpy as jnp
import jaxrl_envs as je
import numpy as np
import pytest

from jaxrl_lab import measures

LOGP = jax.nn.log_softmax(2.0 * jax.random.normal(jax.random.key(0), (6, 8)))
CORRECT = jnp.arange(8)[None, :] < jnp.array([1, 2, 3, 4, 5, 8])[:, None]


def test_entropy_and_divergence_of_rows() -> None:
    p = np.exp(np.asarray(LOGP, np.float64))
    np.testing.assert_allclose(measures.token_entropy(LOGP), -np.sum(p * np.log(p), -1), rtol=1e-5)
    uniform = jnp.full((6, 8), -jnp.log(8.0))
    np.testing.assert_allclose(
        measures.kl_to(LOGP, uniform), np.log(8.0) - measures.token_entropy(LOGP), rtol=1e-4
    )
    point = jnp.full((1, 8), -jnp.inf).at[0, 0].set(0.0)
    assert float(measures.kl_to(point, uniform[:1])[0]) == pytest.approx(np.log(8.0))
    assert np.isinf(measures.kl_to(uniform[:1], point)[0])
    assert float(measures.kl_to(point, point)[0]) == 0.0
    gradient = jax.grad(lambda x: jnp.sum(measures.kl_to(x, point)))(point)
    assert np.all(np.isfinite(gradient))


def test_accuracy_and_effective_solutions() -> None:
    p = np.exp(np.asarray(LOGP, np.float64)) * np.asarray(CORRECT)
    np.testing.assert_allclose(measures.accuracy(LOGP, CORRECT), p.sum(-1), rtol=1e-5)
    share = p / p.sum(-1, keepdims=True)
    entropy = -np.sum(share * np.log(np.where(share > 0, share, 1.0)), -1)
    got = measures.effective_solutions(LOGP, CORRECT)
    np.testing.assert_allclose(got, np.exp(entropy), rtol=1e-5)
    count = np.asarray(CORRECT).sum(-1)
    assert np.all((got >= 1 - 1e-6) & (got <= count + 1e-5))
    deficit = measures.solution_deficit(LOGP, CORRECT)
    np.testing.assert_allclose(deficit, np.log(count) - entropy, atol=1e-5)
    assert float(deficit[0]) == 0.0
    even = measures.effective_solutions(jnp.full((6, 8), -jnp.log(8.0)), CORRECT)
    np.testing.assert_allclose(even, count, rtol=1e-5)


def test_effective_solutions_where_the_correct_mass_underflows() -> None:
    logits = jnp.where(CORRECT[2:3], -300.0, 0.0)
    logp = jax.nn.log_softmax(logits)
    assert float(measures.accuracy(logp, CORRECT[2:3])[0]) == 0.0
    np.testing.assert_allclose(measures.effective_solutions(logp, CORRECT[2:3]), 3.0, rtol=1e-5)

    def total(z: jax.Array, correct: jax.Array) -> jax.Array:
        rows = jax.nn.log_softmax(z)
        found = measures.effective_solutions(rows, correct)
        return jnp.sum(found + measures.solution_deficit(rows, correct))

    for correct in (CORRECT[2:3], jnp.zeros((1, 8), bool)):
        assert np.all(np.isfinite(jax.grad(total)(logits, correct)))


def test_prompts_without_a_usable_solution() -> None:
    none = jnp.zeros((1, 8), bool)
    assert float(measures.effective_solutions(LOGP[:1], none)[0]) == 0.0
    assert float(measures.solution_deficit(LOGP[:1], none)[0]) == 0.0
    assert float(measures.coverage_at_k(LOGP[:1], none, 4)[0]) == 0.0
    ruled_out = jnp.where(CORRECT[2:3], -jnp.inf, LOGP[2:3])
    assert float(measures.effective_solutions(ruled_out, CORRECT[2:3])[0]) == 0.0
    assert np.isinf(measures.solution_deficit(ruled_out, CORRECT[2:3])[0])


def test_pass_and_coverage_at_k() -> None:
    p = jnp.array([0.0, 1e-9, 0.2, 1.0])
    want = -np.expm1(16 * np.log1p(-np.array([0.0, 1e-9, 0.2])))
    np.testing.assert_allclose(measures.pass_at_k(p, 16), [*want, 1.0], rtol=1e-5)
    np.testing.assert_allclose(measures.pass_at_k(p, 1), p, rtol=1e-6)
    assert np.all(np.isfinite(jax.grad(lambda x: jnp.sum(measures.pass_at_k(x, 4)))(p)))
    row, correct = LOGP[:1, :3], jnp.array([[True, True, False]])
    row = jax.nn.log_softmax(row)
    arms = np.exp(np.asarray(row[0], np.float64))
    seen = passed = 0.0
    for draw in itertools.product(range(3), repeat=4):
        weight = math.prod(arms[a] for a in draw)
        seen += weight * len(set(draw) & {0, 1}) / 2
        passed += weight * bool(set(draw) & {0, 1})
    np.testing.assert_allclose(measures.coverage_at_k(row, correct, 4)[0], seen, rtol=1e-5)
    exact = measures.pass_at_k(measures.accuracy(row, correct), 4)
    np.testing.assert_allclose(exact[0], passed, rtol=1e-5)
    with pytest.raises(je.BadInput, match="k = 0"):
        measures.coverage_at_k(row, correct, 0)


@pytest.mark.parametrize(("n", "k"), [(5, 1), (5, 3), (8, 8), (12, 4)])
def test_the_pass_at_k_estimator_is_unbiased(n: int, k: int) -> None:
    c = jnp.arange(n + 1)
    estimate = np.asarray(measures.estimated_pass_at_k(c, n, k), np.float64)
    closed = [1 - math.comb(n - i, k) / math.comb(n, k) for i in range(n + 1)]
    np.testing.assert_allclose(estimate, closed, atol=1e-6)
    for p in (0.05, 0.4, 0.9):
        weight = [math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(n + 1)]
        exact = measures.pass_at_k(jnp.float32(p), k)
        np.testing.assert_allclose(np.dot(weight, estimate), exact, atol=1e-6)
    with pytest.raises(je.BadInput, match="number of samples"):
        measures.estimated_pass_at_k(c, n, n + 1)


def test_mean_over_prompts() -> None:
    x = jnp.array([1.0, 3.0, jnp.inf])
    assert np.isinf(measures.prompt_mean(x))
    assert float(measures.prompt_mean(x, jnp.array([1.0, 3.0, 0.0]))) == 2.5
    assert float(measures.prompt_mean(x, jnp.zeros(3))) == 0.0
    assert measures.prompt_mean(jnp.ones((4, 3))).shape == (4,)
