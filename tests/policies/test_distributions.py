"""Categorical distributions: both kinds say the same, and sampling inverts the CDF."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxrl_lab.policies import Categorical, TableCategorical
from jaxrl_lab.policies.distributions import cumulated

SIZES = (2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 256, 257)
ROWS = 6
LAST = np.nextafter(np.float32(1), np.float32(0))


def table_of(num_actions, seed=0, zeros=False):
    """Normalized rows; with ``zeros`` the first, the last and a third of the others are -inf."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0.0, 2.0, (ROWS, num_actions)).astype(np.float32)
    if zeros:
        gone = rng.random(logits.shape) < 1 / 3
        gone[:, 0] = True
        gone[:, -1] = num_actions > 2
        gone[:, num_actions // 2] = False
        logits[gone] = -np.inf
    return jax.nn.log_softmax(jnp.asarray(logits), axis=-1)


def both(table, row):
    return Categorical(table[row]), TableCategorical(table, row)


def grid(n):
    """The middles of n equal cells of [0, 1), and both ends."""
    middles = (np.arange(n, dtype=np.float32) + np.float32(0.5)) / np.float32(n)
    return jnp.asarray(np.concatenate([[0.0], middles, [LAST]]).astype(np.float32))


@pytest.mark.parametrize("zeros", [False, True], ids=["full", "zeros"])
@pytest.mark.parametrize("num_actions", SIZES)
def test_sampling_inverts_the_cdf(num_actions, zeros):
    n = 4096
    table = table_of(num_actions, zeros=zeros)
    u = jnp.broadcast_to(grid(n)[:, None], (n + 2, ROWS))
    row = jnp.broadcast_to(jnp.arange(ROWS)[None], u.shape)
    direct, looked_up = (np.asarray(jax.jit(lambda d: d.sample(u))(d)) for d in both(table, row))
    np.testing.assert_array_equal(direct, looked_up)
    assert np.all(np.diff(direct, axis=0) >= 0), "not monotone in u"
    p = np.exp(np.asarray(table, np.float64))
    for i in range(ROWS):
        possible = np.flatnonzero(p[i])
        assert direct[0, i] == possible[0], "u = 0 is the first possible action"
        # Actions rarer than the rounding of the CDF may be passed over at its end.
        assert p[i, direct[-1, i] + 1 :].sum() < 1e-6
        count = np.bincount(direct[1:-1, i], minlength=num_actions)
        assert count.shape == (num_actions,)
        assert np.all(count[p[i] == 0] == 0), "an impossible action was drawn"
        np.testing.assert_allclose(count / n, p[i], atol=1.5 / n)


def test_many_impossible_actions_are_never_drawn():
    table = table_of(1000, zeros=True)
    u = jax.random.uniform(jax.random.key(0), (1_000, ROWS))
    row = jnp.broadcast_to(jnp.arange(ROWS)[None], u.shape)
    for dist in both(table, row):
        assert bool(jnp.all(jnp.isfinite(dist.logp(dist.sample(u)))))


@pytest.mark.parametrize("zeros", [False, True], ids=["full", "zeros"])
@pytest.mark.parametrize("num_actions", [2, 5, 65])
def test_both_kinds_say_the_same_as_scipy(num_actions, zeros):
    table = table_of(num_actions, zeros=zeros)
    row = jnp.array([[0, 5, 2], [1, 1, 3]])
    p = np.exp(np.asarray(table, np.float64))[np.asarray(row)]
    action = jnp.asarray(np.argmax(p, axis=-1), jnp.int32)
    for dist in both(table, row):
        np.testing.assert_allclose(dist.entropy(), scipy.stats.entropy(p, axis=-1), rtol=2e-5)
        np.testing.assert_allclose(jnp.sum(jnp.exp(dist.logp_all), axis=-1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(np.exp(dist.logp(action)), p.max(axis=-1), rtol=1e-5)
        part = dist.take(jnp.array([1]))
        np.testing.assert_array_equal(part.logp_all, dist.logp_all[1:])
        np.testing.assert_array_equal(dist.logp(action.astype(jnp.uint8)), dist.logp(action))


def test_entropy_of_a_certain_choice_is_zero_with_a_finite_gradient():
    logits = jnp.array([0.3, -jnp.inf, -jnp.inf])
    assert float(Categorical.from_logits(logits).entropy()) == 0.0
    some = jnp.array([0.3, -jnp.inf, 1.0])
    slope = jax.grad(lambda x: Categorical.from_logits(x).entropy())(some)
    assert bool(jnp.all(jnp.isfinite(slope)))
    np.testing.assert_allclose(slope[1], 0.0)


def test_entropy_gradient_is_the_closed_form():
    """d H / d logit_a = -p_a (log p_a + H)."""
    logits = jnp.array([0.3, -1.0, 2.0, 0.0])
    logp = jax.nn.log_softmax(logits)
    entropy = -jnp.sum(jnp.exp(logp) * logp)
    slope = jax.grad(lambda x: Categorical.from_logits(x).entropy())(logits)
    np.testing.assert_allclose(slope, -jnp.exp(logp) * (logp + entropy), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("size", [1, 7, 8, 50, 256, 257, 1000])
def test_cumulated_is_the_cumulative_sum(size):
    p = np.random.default_rng(size).random((ROWS, 2, size), np.float32)
    found = np.asarray(jax.jit(cumulated)(p))
    np.testing.assert_allclose(found, np.cumsum(p.astype(np.float64), axis=-1), rtol=1e-5)
